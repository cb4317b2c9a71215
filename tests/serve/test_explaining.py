"""The map that shows where the evidence lies: known networks give known heat."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from PIL import Image

from serve.explaining import Explainer, Insight
from serve.page.models import PageModel
from serve.page.routes import heat_answer
from serve.settings import Limits
from toolkit.modules import visit
from toolkit.preprocessing import Preprocessing

if TYPE_CHECKING:
    from toolkit.artifacts import Artifact


def test_a_map_that_is_zero_everywhere_is_said() -> None:
    heat = np.zeros((2, 2), dtype=np.float32)
    pixels = np.zeros((1, 28, 28), dtype=np.uint8)
    insight = Insight(label="Bag", layer="pool", layers=("pool",), pixels=pixels, heat=heat, maps=heat[None])
    model = PageModel(name="toy", entries=())
    told = heat_answer(model, insight)
    assert told.said == "No region speaks for Bag at pool: the map is zero everywhere."
    assert told.heat is None
    heat[1, 1] = 1
    told = heat_answer(model, insight)
    assert (base64.b64decode(told.heat or ""), told.height, told.width) == (b"\0\0\0\xff", 2, 2)


def explainer_of(net: Any) -> Explainer:
    explainer = object.__new__(Explainer)
    explainer.module, explainer.limits, explainer.turn = net, Limits(), threading.Lock()
    explainer.preprocessing = Preprocessing(size=(2, 2), channels=1)
    passport = SimpleNamespace(model="toy", classes=("no", "yes"))
    explainer.artifact = cast("Artifact", SimpleNamespace(passport=passport))
    return explainer


def shown(pixels: list[list[int]]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.array(pixels, dtype=np.uint8)).save(data, "PNG")
    return data.getvalue()


def test_the_maps_of_two_visitors_do_not_collide() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra train)")

    class Slow(torch.nn.Flatten):  # type: ignore[misc, name-defined]
        def forward(self, given: Any) -> Any:
            time.sleep(0.05)  # the other visitor's picture comes meanwhile
            return super().forward(given)

    layers = OrderedDict(conv=torch.nn.Conv2d(1, 2, 1), flat=Slow(), fc=torch.nn.Linear(8, 2))
    explainer = explainer_of(torch.nn.Sequential(layers))
    pictures = [shown([[0, 51], [102, 255]]), shown([[255, 0], [0, 0]])]
    alone = [explainer.look(picture).maps for picture in pictures]
    with ThreadPoolExecutor(2) as both:
        together = [seen.maps for seen in both.map(explainer.look, pictures)]
    assert [maps.tolist() for maps in together] == [maps.tolist() for maps in alone]


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
    explainer = explainer_of(net)
    seen = explainer.look(shown([[0, 51], [102, 255]]), layer="conv", invert="no")
    assert seen.label == "yes"
    # 1 · x + 0.25 · (-2 x) = x / 2, then by its maximum
    assert seen.heat.ravel().tolist() == pytest.approx([0.0, 0.2, 0.4, 1.0])
    assert seen.maps[1].ravel().tolist() == pytest.approx([0.0, -0.4, -0.8, -2.0])
    # one score of two classes speaks for the second, and what lowers it for the first
    second = net.fc.weight[1:]
    net.fc = torch.nn.Linear(8, 1, bias=False)
    for sign, label in ((1, "yes"), (-1, "no")):
        net.fc.weight = torch.nn.Parameter(sign * second)
        alone = explainer.look(shown([[0, 51], [102, 255]]), layer="conv", invert="no")
        assert (alone.label, alone.heat.tolist()) == (label, seen.heat.tolist())


def test_layers_are_those_of_the_walk_and_the_last_one_is_the_last_that_ran() -> None:
    """A module that is called twice is two layers, and a function is one: as the page's strip names them."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra train)")

    class Reused(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2)
            self.relu, self.fc = torch.nn.ReLU(), torch.nn.Linear(8, 2)

        def forward(self, x: Any) -> Any:
            y = self.relu(self.conv(x))
            return self.fc(torch.flatten(self.relu(self.bn(y) + y), 1))

    net = Reused().eval()
    torch.nn.init.ones_(net.conv.weight)  # no map is zero everywhere
    torch.nn.init.zeros_(net.conv.bias)
    explainer = explainer_of(net)
    seen = explainer.look(shown([[0, 51], [102, 255]]), invert="no")
    assert seen.layers == ("conv", "relu", "bn", "/add", "relu#2")
    assert seen.layer == "relu#2"
    first = explainer.look(shown([[0, 51], [102, 255]]), layer="relu", invert="no")
    assert first.maps.tolist() != seen.maps.tolist()
    (walked,) = {row.name for row in visit(explainer.module, torch.zeros(1, 1, 2, 2))} - {
        *seen.layers,
        "/flatten",
    }
    assert walked == "fc"
