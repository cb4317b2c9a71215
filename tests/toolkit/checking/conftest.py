"""Small pictures with faults that are known, of two kinds and much noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Save = Callable[[str, Pixels], Path]


def stripes(random: np.random.Generator, kind: str, side: int = 32) -> Pixels:
    """Return stripes of some width and two colours, (side, side, 3), with noise: many look alike, none is."""
    y, x = np.mgrid[:side, :side]
    width, start = random.integers(5, 9), random.integers(0, 5)
    mask = ((y if kind == "lying" else x) + start) // width % 2 == 0
    light, dark = random.integers(130, 250, 3), random.integers(0, 90, 3)
    pixels = np.where(mask[..., None], light, dark) + random.normal(0, 16, (side, side, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def fill(folder: Path, count: int, *, seed: int = 0, side: int = 32) -> None:
    """Write `count` pictures of each kind."""
    random = np.random.default_rng(seed)
    for kind in ("lying", "standing"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for at in range(count):
            Image.fromarray(stripes(random, kind, side)).save(folder / kind / f"{at:03d}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of two classes with 30 pictures each, in two parts of 20 and 10."""
    fill(tmp_path / "train", 20, seed=1)
    fill(tmp_path / "test", 10, seed=2)
    return tmp_path
