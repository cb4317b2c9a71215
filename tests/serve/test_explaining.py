"""The picture that shows where the evidence lies: known heat gives known colours."""

from __future__ import annotations

import numpy as np

from serve.explaining import SIDE, Insight, overlay


def test_heat_is_seen_as_red_over_a_picture_that_stays_visible() -> None:
    pixels = np.full((1, 28, 28), 100, dtype=np.uint8)
    heat = np.array([[0.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    insight = Insight(
        label="Bag",
        layer="pool",
        layers=("pool",),
        pixels=pixels,
        heat=heat,
        maps=heat[None],
    )
    drawn = np.asarray(overlay(insight))
    assert drawn.shape == (SIDE, SIDE, 3)
    # no heat leaves the grey as it was; full heat keeps 35 % of it: 100 · 0.35 + (255, 40, 20) · 0.65
    assert drawn[0, 0].tolist() == [100, 100, 100]
    assert drawn[-1, -1].tolist() == [200, 61, 48]
