"""What is known of training pictures as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.refusing import full_disk
from toolkit.datasets import dataset_of
from toolkit.listings import Reading, store
from toolkit.listings.parts import members
from toolkit.listings.rows import StoredRows
from toolkit.preprocessing import Preprocessing
from toolkit.training.data.statistics import pixel_figures


def test_figures_that_cannot_be_kept_are_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "IN_MEMORY_BYTES", 0)
    for index in range(4):
        path = tmp_path / "data" / str(index % 2) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 60 * index, dtype=np.uint8)).save(path)
    word = f"folder:{tmp_path / 'data'}"
    target = Preprocessing(size=(8, 8), channels=1)
    rows = store.gather(word, members(dataset_of(word).listed(word)), target, Reading()).pixels
    assert isinstance(rows, StoredRows)
    with full_disk(10):
        found = pixel_figures(rows)
    assert found.levels[0][60] == 64
    assert not list((tmp_path / "cache").rglob("figures-*"))
    assert pixel_figures(rows) == found
    assert len(list((tmp_path / "cache").rglob("figures-*.json"))) == 1
