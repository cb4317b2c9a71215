"""What is known of training pictures as a whole: how often each level occurs, and how many grounds are light.

Looked at in slices, for there may be more pictures than memory holds. Of stored pictures the figures are
kept beside the store: reading all of them takes longer than anything else at the start of a training.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit import schema
from toolkit.artifacts import json_text, replacing
from toolkit.errors import CorruptError
from toolkit.grounds import light_grounds
from toolkit.listings.rows import Images, StoredRows

_SLICE_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class PixelFigures:
    """How often each of the 256 levels occurs in each channel; how many pictures have a light border.

    `light` is None for pictures in colour, whose border decides nothing.
    """

    images: int
    levels: tuple[tuple[int, ...], ...]
    light: int | None

    def shares(self) -> list[NDArray[np.float64]]:
        """Return each channel's shares of the 256 levels."""
        return [np.array(counts, dtype=np.int64) / sum(counts) for counts in self.levels]


def pixel_figures(images: Images) -> PixelFigures:
    """Look at all of some pictures, (N, C, H, W) uint8, N ≥ 1."""
    if not isinstance(images, StoredRows):
        return _counted(images)
    kept = _kept_file(images)
    with contextlib.suppress(OSError, ValueError, CorruptError):
        known = json.loads(kept.read_text("utf-8"))
        return schema.convert(PixelFigures, known, what=str(kept), again="it is made anew")
    found = _counted(images)
    with contextlib.suppress(OSError), replacing(kept) as part:  # the next training looks again
        part.write_text(json_text(asdict(found)), "utf-8")
    return found


def _kept_file(images: StoredRows) -> Path:
    told = "".join(sorted(images.identities()))
    return images.file.path.parent / f"figures-{hashlib.sha256(told.encode()).hexdigest()[:24]}.json"


def _counted(images: Images) -> PixelFigures:
    count, channels, height, width = images.shape
    levels = np.zeros((channels, 256), dtype=np.int64)
    light = 0
    step = max(1, _SLICE_BYTES // (channels * height * width))
    for start in range(0, count, step):
        part = images[start : start + step]
        for channel in range(channels):
            levels[channel] += np.bincount(part[:, channel].ravel(), minlength=256)
        light += light_grounds(part) if channels == 1 else 0
    counted = tuple(tuple(row) for row in levels.tolist())
    return PixelFigures(images=count, levels=counted, light=light if channels == 1 else None)
