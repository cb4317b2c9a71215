"""CIFAR-10's archive is read in torchvision's layout, verified, and cannot run code."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from toolkit.datasets import cifar10
from toolkit.errors import CorruptError, NotFoundError


def batch(count: int, seed: int) -> bytes:
    numbers = np.random.default_rng(seed)
    values = {
        b"data": numbers.integers(0, 256, (count, 3072), dtype=np.uint8),
        b"labels": [int(n) for n in numbers.integers(0, 10, count)],
        b"batch_label": b"made by a test in the published layout",
    }
    return pickle.dumps(values, protocol=2)


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write six small batches in the published layout, with their own hashes in place of the real ones."""
    folder = tmp_path / cifar10.FOLDER
    folder.mkdir()
    hashes = {}
    for seed, part in enumerate(cifar10.HASHES):
        data = batch(4, seed)
        (folder / part).write_bytes(data)
        hashes[part] = hashlib.md5(data, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(cifar10, "HASHES", hashes)
    return tmp_path


def test_the_unpacked_folder_is_read(batches: Path) -> None:
    data = cifar10.load(data_dir=batches)
    assert data.train.images.shape == (20, 3, 32, 32)
    assert data.test.images.shape == (4, 3, 32, 32)
    expected = np.random.default_rng(5).integers(0, 256, (4, 3072), dtype=np.uint8)
    np.testing.assert_array_equal(data.test.images.reshape(4, -1), expected)


def test_the_archive_is_read_without_unpacking(batches: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with tarfile.open(other / cifar10.ARCHIVE, "w:gz") as archive:
        archive.add(batches / cifar10.FOLDER, arcname=cifar10.FOLDER)
    assert cifar10.load(data_dir=other).fingerprint == cifar10.load(data_dir=batches).fingerprint
    assert [p.name for p in other.iterdir()] == [cifar10.ARCHIVE]


def test_an_altered_batch_is_refused_by_name(batches: Path) -> None:
    (batches / cifar10.FOLDER / "data_batch_3").write_bytes(batch(4, 99))
    with pytest.raises(CorruptError, match=r"data_batch_3 in .* is not the published file"):
        cifar10.load(data_dir=batches)


def test_a_truncated_archive_is_told_in_words(batches: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with tarfile.open(other / cifar10.ARCHIVE, "w:gz") as archive:
        archive.add(batches / cifar10.FOLDER, arcname=cifar10.FOLDER)
    whole = (other / cifar10.ARCHIVE).read_bytes()
    (other / cifar10.ARCHIVE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptError, match="cannot be unpacked"):
        cifar10.load(data_dir=other)


def test_a_fetched_archive_that_is_not_the_published_one_is_deleted(
    batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (batches / cifar10.FOLDER / "test_batch").write_bytes(batch(4, 99))
    mirror = tmp_path / "mirror.tar.gz"
    with tarfile.open(mirror, "w:gz") as archive:
        archive.add(batches / cifar10.FOLDER, arcname=cifar10.FOLDER)
    cache = tmp_path / "cache"
    monkeypatch.setattr(cifar10, "URL", mirror.as_uri())
    monkeypatch.setattr(cifar10, "download_folder", lambda kind: cache)
    monkeypatch.setattr(cifar10, "given_folders", lambda name, data_dir: [("your cache", cache / "cifar10")])
    with pytest.raises(NotFoundError, match=r"was deleted: test_batch in .* is not the published file"):
        cifar10.load()
    assert not (cache / "cifar10" / cifar10.ARCHIVE).exists()


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("1/0",))


@pytest.mark.parametrize(
    "data", [b"", b"junk", pickle.dumps(Harmful()), pickle.dumps({b"data": 1}), batch(2, 0)[:-9]]
)
def test_a_batch_that_is_none_or_would_run_code_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError, match="no CIFAR-10 batch"):
        cifar10.parse(data, "data_batch_1")


def test_a_named_folder_without_it_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"holds no CIFAR-10 \(neither cifar-10-batches-py/"):
        cifar10.load(data_dir=tmp_path)
