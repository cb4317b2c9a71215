"""A pack: a network's files with their proofs, and the pictures that choosing judges on, as one file.

It holds `manifest.json`, the files with their passports and proofs as an artifacts folder does,
`pictures.npy` (N, C, H, W) and `labels.npy` (N,). Another machine needs no torch and no data set to choose.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from toolkit import schema
from toolkit.artifacts import (
    Artifact,
    check_name,
    find_artifacts,
    hash_file,
    is_shipped,
    open_artifact,
    sidecar,
    writing,
)
from toolkit.choices import origin_among, weights_of
from toolkit.choosing.pictures import ChoicePictures, temporary_folder
from toolkit.errors import CnnkitError, CorruptError
from toolkit.passports import Dialect, Precision
from toolkit.presence import is_file, is_there
from toolkit.schema import Positive

SUFFIX = ".pack"
SCHEMA = 1
MANIFEST, PICTURES, LABELS = "manifest.json", "pictures.npy", "labels.npy"
AGAIN = "pack it again"
# equal content gives equal bytes
_DATE = (2020, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """A file that could not be made for the pack, and why."""

    precision: Precision
    dialect: Dialect | None
    why: str


@dataclass(frozen=True, kw_only=True)
class PackManifest:
    """What a pack holds: `files` are the artifacts, the first of which the others were made of."""

    model: str
    files: tuple[str, ...]
    pictures: str
    count: Positive
    ready: bool = False
    why_unjudged: str | None = None
    lacking: tuple[Unpacked, ...] = ()
    schema: int = SCHEMA


def write_pack(
    path: Path,
    files: Sequence[Artifact],
    beside: Sequence[Path],
    pictures: ChoicePictures,
    lacking: Sequence[Unpacked],
) -> None:
    """Write a pack at `path`; `beside` are further files, as proofs, that lie where the artifacts do."""
    manifest = PackManifest(
        model=files[0].name,
        files=tuple(one.path.name for one in files),
        pictures=pictures.source,
        count=pictures.count,
        ready=pictures.ready,
        why_unjudged=pictures.why_unjudged,
        lacking=tuple(lacking),
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as pack, tempfile.TemporaryDirectory() as folder:
        _add(pack, MANIFEST, schema_bytes(manifest))
        for one in files:
            for each in (one.path, sidecar(one.path)):
                _add_file(pack, each.name, each)
        for each in beside:
            _add_file(pack, each.name, each)
        _add_file(pack, PICTURES, pictures.file)
        if pictures.labels is not None:
            labels = Path(folder) / LABELS
            np.save(labels, pictures.labels)
            _add_file(pack, LABELS, labels)


def schema_bytes(manifest: PackManifest) -> bytes:
    """Return a manifest as JSON."""
    import json

    return (json.dumps(schema.plain(manifest), indent=1, ensure_ascii=False) + "\n").encode()


def _add(pack: zipfile.ZipFile, name: str, data: bytes) -> None:
    pack.writestr(_entry(name), data)


def _add_file(pack: zipfile.ZipFile, name: str, path: Path) -> None:
    """Add a file piece by piece: pictures may take gigabytes."""
    info = _entry(name)
    info.file_size = path.stat().st_size
    with path.open("rb") as source, pack.open(info, "w") as into:
        shutil.copyfileobj(source, into)


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _unpack(pack: zipfile.ZipFile, name: str, path: Path) -> None:
    """Write an entry to a file piece by piece. Raises KeyError where there is none."""
    with pack.open(name) as source, path.open("wb") as into:
        shutil.copyfileobj(source, into)


@dataclass(frozen=True, kw_only=True)
class OpenedPack:
    """A pack laid out under a folder: what its files were made of, its pictures, and what it lacks."""

    source: Artifact
    pictures: ChoicePictures
    manifest: PackManifest

    @property
    def lacking(self) -> dict[tuple[Precision, Dialect | None], str]:
        """Why a file could not be made for it, by precision and dialect."""
        return {(one.precision, one.dialect): one.why for one in self.manifest.lacking}


@contextlib.contextmanager
def open_pack(path: Path, root: Path) -> Iterator[OpenedPack]:
    """Lay a pack's files out under a folder, where they stay, and yield them with the pictures, which do not.

    Raises CorruptError for what is no pack or damaged, CnnkitError where other content has the name.
    """
    open_artifact_or_plain(path)
    with temporary_folder() as folder:
        try:
            with zipfile.ZipFile(path) as pack:
                opened = _laid_out(pack, path, folder, root)
        # a damaged archive raises whatever its first wrong byte leads to
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError, RuntimeError) as error:
            raise CorruptError(f"{path} is no pack, or damaged: {error}; {AGAIN}") from None
        except OSError as error:
            raise CnnkitError(
                f"cannot read {path}, or write to {folder}: {error.strerror or error}"
            ) from None
        yield opened


def open_artifact_or_plain(path: Path) -> None:
    """Check a pack's hash where its passport came with it; the files inside have hashes of their own."""
    if not is_file(path):
        raise CnnkitError(f"no file {path}; `cnnkit export MODEL --format pack` makes one")
    if is_there(sidecar(path)):
        open_artifact(path)


def _laid_out(pack: zipfile.ZipFile, path: Path, folder: Path, root: Path) -> OpenedPack:
    (folder / MANIFEST).write_bytes(pack.read(MANIFEST))
    manifest = schema.convert(
        PackManifest, schema.read_json(folder / MANIFEST, again=AGAIN), what=f"{path}'s manifest", again=AGAIN
    )
    if manifest.schema != SCHEMA:
        raise CorruptError(f"{path} has schema {manifest.schema}; this release reads {SCHEMA}: {AGAIN}")
    if not manifest.files:
        raise CorruptError(f"{path} holds no network; {AGAIN}")
    home = root / check_name(manifest.model)
    own = [name for name in pack.namelist() if name not in (MANIFEST, PICTURES, LABELS)]
    for name in own:
        if PurePosixPath(name).name != name or not name.startswith(f"{manifest.model}."):
            raise CorruptError(f"{path} holds {name!r}, which is no file of {manifest.model}; {AGAIN}")
        _unpack(pack, name, folder / name)
    for name in manifest.files:  # checked before anything is put in its place
        open_artifact(folder / name)
        if (home / name).exists() and hash_file(home / name) != hash_file(folder / name):
            raise CnnkitError(
                f"{home / name} is there already and is another file; name another folder with `--artifacts`"
            )
    labels = _read_pictures(pack, folder, manifest)
    _refuse_other_weights(path, folder, manifest, root)
    for name in own:
        with writing(home / name) as part:
            shutil.copyfile(folder / name, part)
    pictures = ChoicePictures(
        file=folder / PICTURES,
        source=manifest.pictures,
        count=manifest.count,
        labels=labels,
        ready=manifest.ready,
        why_unjudged=manifest.why_unjudged,
        named=str(path.absolute()),
    )
    return OpenedPack(source=open_artifact(home / manifest.files[0]), pictures=pictures, manifest=manifest)


def _refuse_other_weights(path: Path, folder: Path, manifest: PackManifest, root: Path) -> None:
    """Raise CnnkitError where the name's newest weights, but for what ships, are others than the pack's."""
    packed = [open_artifact(folder / name).passport for name in manifest.files]
    own = any(not is_shipped(place) for place, _ in find_artifacts(root, manifest.model))
    here = weights_of(root, manifest.model) if own else None
    if here is not None and here != origin_among(packed[0], packed):
        raise CnnkitError(
            f"{root / manifest.model} holds other weights of {manifest.model} than {path}, and what is "
            "served by that name would change: name another folder with `--artifacts`"
        )


def _read_pictures(pack: zipfile.ZipFile, folder: Path, manifest: PackManifest) -> NDArray[np.int64] | None:
    """Lay the pictures out; return their labels, (N,), None where there are none.

    Raises ValueError for anything but as many of each as the manifest says.
    """
    _unpack(pack, PICTURES, folder / PICTURES)
    count = len(np.load(folder / PICTURES, mmap_mode="r", allow_pickle=False))
    if count != manifest.count:
        raise ValueError(f"it says {manifest.count} pictures and holds {count}")
    if LABELS not in pack.namelist():
        return None
    _unpack(pack, LABELS, folder / LABELS)
    labels = np.load(folder / LABELS, allow_pickle=False)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(f"its labels are {labels.dtype} of {labels.shape}, not a whole number a picture")
    return np.asarray(labels, np.int64)
