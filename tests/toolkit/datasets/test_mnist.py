"""MNIST: the published files, found by the same rules as Fashion-MNIST."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from toolkit.datasets import dataset_names, dataset_of
from toolkit.datasets.mnist import CLASSES, FILES, load
from toolkit.errors import CorruptError, NotFoundError


def test_the_whole_set_is_read_and_verified(mnist_dir: Path) -> None:
    data = load(data_dir=mnist_dir.parent)
    assert data.train.images.shape == (60_000, 1, 28, 28)
    assert data.test.images.shape == (10_000, 1, 28, 28)
    assert data.classes == CLASSES
    # published: 6,742 ones and 5,421 fives among the training labels
    counts = np.bincount(data.train.labels)
    assert (counts[1], counts[5]) == (6_742, 5_421)
    assert load(data_dir=mnist_dir).fingerprint == data.fingerprint


def test_another_data_sets_files_of_the_same_names_are_refused(mnist_dir: Path, tmp_path: Path) -> None:
    for name in FILES.hashes:
        (tmp_path / f"{name}.gz").write_bytes((mnist_dir / f"{name}.gz").read_bytes())
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes((mnist_dir / "train-labels-idx1-ubyte.gz").read_bytes())
    with pytest.raises(CorruptError, match=r"t10k-labels-idx1-ubyte\.gz is not the published file"):
        load(data_dir=tmp_path)


def test_a_folder_without_it_says_what_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CNNKIT_DATA", raising=False)
    with pytest.raises(NotFoundError, match=r"--data-dir .* holds no MNIST"):
        load(data_dir=tmp_path)
    with pytest.raises(NotFoundError, match="MNIST is not here"):
        load(fetch=False)


def test_every_data_set_of_the_catalog_says_what_it_is() -> None:
    for name in dataset_names():
        spec = dataset_of(name)
        assert spec.summary
        assert spec.licence
        assert spec.name == name
        assert spec.shape is not None
        assert spec.classes is not None
        assert len(spec.classes) == 10
