"""IDX files, the format of MNIST and its relatives: found, verified, read."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.caching import download_folder
from toolkit.datasets import Dataset, Fit, Split, fingerprint
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.fetching import from_debian_package, from_mirrors
from toolkit.presence import is_file

MAGIC_LABELS, MAGIC_IMAGES = 2049, 2051


@dataclass(frozen=True, kw_only=True)
class IdxFiles:
    """The four files of one data set and where they can be had.

    `hashes` gives the SHA-256 of each one's uncompressed bytes, in the order training images, training
    labels, test images, test labels; `mirrors` the addresses to fetch from, asked only when needed;
    `debian` a package and the folder that it fills.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    hashes: Mapping[str, str]
    mirrors: Callable[[], Sequence[str]]
    debian: tuple[str, Path] | None = None


def load_idx(
    files: IdxFiles,
    name: str | None = None,
    data_dir: Path | None = None,
    fetch: bool = True,
    size: Fit | None = None,
) -> Dataset:
    """Find, verify and read the four files; images are (N, 1, H, W) uint8, whatever `size` is wanted.

    Raises CorruptError for damaged files, NotFoundError with all that was tried and what to type.
    """
    folder, source = _find(files, data_dir, fetch)
    arrays = [read(folder, file, digest) for file, digest in files.hashes.items()]
    train = Split(images=arrays[0][:, None], labels=arrays[1].astype(np.int64))
    test = Split(images=arrays[2][:, None], labels=arrays[3].astype(np.int64))
    return Dataset(
        name=name or files.name,
        train=train,
        test=test,
        classes=files.classes,
        source=source,
        fingerprint=fingerprint(train, test),
        files=tuple(_file(folder, name) for name in files.hashes),
    )


def _find(files: IdxFiles, data_dir: Path | None, fetch: bool) -> tuple[Path, str]:
    if data_dir is not None and not any(holds(f, files) for f in (data_dir, data_dir / files.name)):
        raise NotFoundError(
            f"--data-dir {data_dir} holds no {files.title} (looked there and in {data_dir / files.name} "
            f"for {', '.join(files.hashes)}, plain or .gz); leave the option out to search elsewhere"
        )
    places = given_folders(files.name, data_dir)
    if files.debian:
        places.append((f"Debian's package {files.debian[0]}", files.debian[1]))
    tried = []
    for label, folder in places:
        if holds(folder, files):
            return folder, f"{folder} ({label})"
        tried.append(f"{folder} ({label}): not there")
    kept = download_folder("data") / files.name
    for label, get in _ways(files) if fetch else ():
        try:
            origin = get(kept)
            _verify(kept, files)
            return kept, f"{kept} (just fetched: {origin})"
        except CnnkitError as error:
            tried.append(f"{label}: {error}")
    install = f"On Debian `apt-get install {files.debian[0]}` brings it; else put" if files.debian else "Put"
    raise NotFoundError(
        f"{files.title} is not here; tried {'; '.join(tried)}. {install} the four IDX files into a folder "
        "and add `--data-dir FOLDER`; `--dataset fashion-mnist-sample` is a small sample that needs nothing"
    )


def _verify(folder: Path, files: IdxFiles) -> None:
    """Hold what was just fetched to its hashes; what differs is deleted, not found again."""
    try:
        for name, sha256 in files.hashes.items():
            read(folder, name, sha256)
    except CorruptError as error:
        for name in files.hashes:
            (folder / name).unlink(missing_ok=True)
            (folder / f"{name}.gz").unlink(missing_ok=True)
        raise CorruptError(f"what came is not it, and was deleted: {error}") from None


def _ways(files: IdxFiles) -> Iterator[tuple[str, Callable[[Path], str]]]:
    yield "torchvision's mirrors", partial(from_mirrors, files.mirrors(), list(files.hashes))
    if files.debian:
        package, folder = files.debian
        yield f"Debian's package {package}", partial(from_debian_package, package, str(folder)[1:])


def parse(data: bytes, name: str) -> NDArray[np.uint8]:
    """Read IDX bytes: labels as (N,), images as (N, H, W) uint8. Raises CorruptError."""
    if len(data) < 8:
        raise CorruptError(f"{name} is cut short: {len(data)} bytes; delete it and fetch it again")
    magic, count = struct.unpack(">II", data[:8])
    if magic == MAGIC_LABELS:
        shape: tuple[int, ...] = (count,)
    elif magic == MAGIC_IMAGES and len(data) >= 16:
        shape = (count, *struct.unpack(">II", data[8:16]))
    else:
        raise CorruptError(f"{name} is no IDX file of bytes (magic {magic}); delete it and fetch it again")
    start = 4 + 4 * len(shape)
    wanted = math.prod(shape)  # Python integers, so a lying header cannot overflow
    if len(data) - start != wanted:
        raise CorruptError(
            f"{name} promises {wanted} bytes and holds {len(data) - start}; delete it and fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read(folder: Path, name: str, sha256: str | None) -> NDArray[np.uint8]:
    """Read `<folder>/<name>` or its .gz, and verify it. Raises NotFoundError or CorruptError."""
    path = _file(folder, name)
    try:
        data = path.read_bytes()
        if path.name != name:
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise NotFoundError(f"no {name} or {name}.gz in {folder}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptError(f"{path} cannot be unpacked ({error}); delete it and fetch it again") from None
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        parse(data, str(path))  # says what is wrong when the file is cut short
        raise CorruptError(
            f"{path} is not the published file (its SHA-256 differs); delete it and fetch it again"
        )
    return parse(data, str(path))


def _file(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if is_file(plain) else folder / f"{name}.gz"


def holds(folder: Path, files: IdxFiles) -> bool:
    """Tell whether all files, plain or gzipped, lie in a folder."""
    return all(is_file(folder / n) or is_file(folder / f"{n}.gz") for n in files.hashes)


def given_folders(name: str, data_dir: Path | None) -> list[tuple[str, Path]]:
    """Return (what it is called, folder) for --data-dir, $CNNKIT_DATA and the cache, in that order."""
    roots = {"--data-dir": data_dir, "$CNNKIT_DATA": os.environ.get("CNNKIT_DATA")}
    given = [(label, Path(root, inside)) for label, root in roots.items() if root for inside in ("", name)]
    return [*given, ("your cache", download_folder("data") / name)]
