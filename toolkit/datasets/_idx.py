"""IDX files, the format of MNIST and its relatives: found, verified, read."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import CorruptError, NotFoundError

MAGIC_LABELS, MAGIC_IMAGES = 2049, 2051


@dataclass(frozen=True, kw_only=True)
class IdxFiles:
    """The four files of one data set: SHA-256 of each one's uncompressed bytes, by name."""

    name: str
    hashes: Mapping[str, str]


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
    plain, packed = folder / name, folder / f"{name}.gz"
    path = plain if plain.is_file() else packed
    try:
        data = path.read_bytes()
        if path is packed:
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


def holds(folder: Path, files: IdxFiles) -> bool:
    """Tell whether all files, plain or gzipped, lie in a folder."""
    return all((folder / n).is_file() or (folder / f"{n}.gz").is_file() for n in files.hashes)


def cache_folder() -> Path:
    """Return the folder of the user's cache where data sets are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cnnkit" / "data"


def given_folders(name: str, data_dir: Path | None) -> Iterator[tuple[str, Path]]:
    """Yield (what it is called, folder) for --data-dir, $CNNKIT_DATA and the cache, in that order."""
    if data_dir is not None:
        yield "--data-dir", data_dir
        yield "--data-dir", data_dir / name
    if variable := os.environ.get("CNNKIT_DATA"):
        yield "$CNNKIT_DATA", Path(variable)
        yield "$CNNKIT_DATA", Path(variable) / name
    yield "your cache", cache_folder() / name
