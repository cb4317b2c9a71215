"""CIFAR-10: 60,000 colour 32×32 pictures in ten classes, from torchvision's archive.

Source: Krizhevsky, "Learning multiple layers of features from tiny images" (2009).
"""

from __future__ import annotations

import codecs
import hashlib
import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core.multiarray import _reconstruct

from toolkit.caching import download_folder
from toolkit.datasets import Dataset, DatasetSpec, Fit, Split, fingerprint
from toolkit.datasets._idx import given_folders
from toolkit.errors import CorruptError, NotFoundError, reading
from toolkit.fetching import download
from toolkit.presence import is_file, is_folder

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
# MD5 of each file, as torchvision checks them
HASHES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


# what a file of pickled arrays may name
_ALLOWED: Mapping[str, Any] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "_codecs.encode": codecs.encode,  # how Python 3 writes bytes in protocol 2
}


class _Arrays(pickle.Unpickler):
    """Unpickles numpy arrays and plain values only: a file of data must not be able to run code."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}"
        if name not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {name}")
        return _ALLOWED[name]


def parse(data: bytes, name: str) -> Split:
    """Read one batch file into (N, 3, 32, 32) uint8 images and labels. Raises CorruptError."""
    try:
        batch = _Arrays(io.BytesIO(data), encoding="bytes").load()
        images = np.asarray(batch[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
        labels = np.asarray(batch[b"labels"], dtype=np.int64)
        if len(images) != len(labels) or labels.min() < 0 or labels.max() >= len(CLASSES):
            raise ValueError("labels that do not fit")
    except Exception as error:  # a damaged pickle raises nearly anything
        raise CorruptError(f"{name} is no CIFAR-10 batch ({error}); fetch it again") from None
    return Split(images=images, labels=labels)


def load(
    name: str = "cifar10",
    data_dir: Path | None = None,
    fetch: bool = True,
    size: Fit | None = None,
) -> Dataset:
    """Return 50,000 + 10,000 pictures from the unpacked folder or the archive. `size` changes nothing.

    Raises NotFoundError with what was tried, CorruptError for a file that is not the published one.
    """
    files, place, how = _find(data_dir, fetch)
    source = f"{place} ({how})"
    batches = [parse(files[part], f"{source}, {part}") for part in HASHES]
    train = Split(
        images=np.concatenate([b.images for b in batches[:-1]]),
        labels=np.concatenate([b.labels for b in batches[:-1]]),
    )
    return Dataset(
        name=name,
        train=train,
        test=batches[-1],
        classes=CLASSES,
        source=source,
        fingerprint=fingerprint(train, batches[-1]),
        files=tuple(place / part for part in HASHES) if is_folder(place) else (place,),
    )


def _find(data_dir: Path | None, fetch: bool) -> tuple[dict[str, bytes], Path, str]:
    tried = []
    for label, folder in given_folders("cifar10", data_dir):
        for place in (folder / FOLDER, folder, folder / ARCHIVE):
            files = _files(place)
            if files is not None:
                return _verified(files, place), place, label
        tried.append(f"{folder} ({label}): not there")
        if data_dir is not None and label == "--data-dir" and folder != data_dir:
            raise NotFoundError(
                f"--data-dir {data_dir} holds no CIFAR-10 (neither {FOLDER}/ nor {ARCHIVE}); "
                "leave the option out to search elsewhere"
            )
    if fetch:
        kept = download_folder("data") / "cifar10" / ARCHIVE
        try:
            download(URL, kept)
            return _verified(_files(kept) or {}, kept), kept, f"just fetched: {URL}"
        except NotFoundError as error:
            tried.append(f"torchvision's mirror: {error}")
        except CorruptError as error:
            kept.unlink(missing_ok=True)  # or it would be found in the cache the next time
            tried.append(f"torchvision's mirror: what came is not it, and was deleted: {error}")
    raise NotFoundError(
        f"CIFAR-10 is not here; tried {'; '.join(tried)}. Put {ARCHIVE} or its folder {FOLDER} somewhere "
        "and add `--data-dir FOLDER`; pictures in folders are `--dataset folder:PATH`"
    )


def _files(place: Path) -> dict[str, bytes] | None:
    """Return the batch files in a folder or an archive; None where they are not."""
    if is_folder(place):
        whole = all(is_file(place / part) for part in HASHES)
        with reading(place):
            return {part: (place / part).read_bytes() for part in HASHES} if whole else None
    if not is_file(place):
        return None
    try:
        with tarfile.open(place) as archive:
            members = {Path(m.name).name: m for m in archive.getmembers() if m.isfile()}
            opened = {part: archive.extractfile(members[part]) for part in HASHES}
            return {part: stream.read() for part, stream in opened.items() if stream}
    except (tarfile.TarError, OSError, EOFError, KeyError) as error:
        raise CorruptError(f"{place} cannot be unpacked ({error}); delete it and fetch it again") from None


def _verified(files: dict[str, bytes], place: Path) -> dict[str, bytes]:
    for part, digest in HASHES.items():
        if hashlib.md5(files.get(part, b""), usedforsecurity=False).hexdigest() != digest:
            raise CorruptError(
                f"{part} in {place} is not the published file (its MD5 differs); fetch it again"
            )
    return files


DATASET = DatasetSpec(
    name="cifar10",
    shape=(3, 32, 32),
    classes=CLASSES,
    summary="animals and vehicles, 50,000 + 10,000 colour 32×32 pictures",
    licence="research use, see its page",
    train_images=50_000,
    read=load,
)
