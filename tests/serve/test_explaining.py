"""The picture that shows where the evidence lies: known heat gives known colours."""

from __future__ import annotations

import io
from collections import OrderedDict
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from PIL import Image

from serve.explaining import SIDE, Explainer, Insight, overlay
from serve.settings import Limits
from toolkit.preprocessing import Preprocessing

if TYPE_CHECKING:
    from toolkit.artifacts import Artifact


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


def test_the_heat_is_each_channel_weighted_by_its_mean_gradient() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra train)")
    net = torch.nn.Sequential(
        OrderedDict(
            conv=torch.nn.Conv2d(1, 2, 1, bias=False), flat=torch.nn.Flatten(), fc=torch.nn.Linear(8, 2)
        )
    )
    with torch.no_grad():
        net.conv.weight.copy_(torch.tensor([1.0, -2.0]).view(2, 1, 1, 1))
        net.fc.bias.zero_()
        # the second class: channel 0 by 1, channel 1 by 0.25 on average, however it is spread
        net.fc.weight.copy_(torch.tensor([[0.0] * 8, [1.0] * 4 + [1.0, 0.0, 0.0, 0.0]]))
    explainer = object.__new__(Explainer)
    explainer.module, explainer.limits = net, Limits()
    explainer.preprocessing = Preprocessing(size=(2, 2), channels=1)
    passport = SimpleNamespace(model="toy", classes=("no", "yes"))
    explainer.artifact = cast("Artifact", SimpleNamespace(passport=passport))
    shown = io.BytesIO()
    Image.fromarray(np.array([[0, 51], [102, 255]], dtype=np.uint8)).save(shown, "PNG")
    seen = explainer.look(shown.getvalue(), layer="conv", invert="no")
    assert seen.label == "yes"
    # 1 · x + 0.25 · (-2 x) = x / 2, then by its maximum
    assert seen.heat.ravel().tolist() == pytest.approx([0.0, 0.2, 0.4, 1.0])
    assert seen.maps[1].ravel().tolist() == pytest.approx([0.0, -0.4, -0.8, -2.0])
