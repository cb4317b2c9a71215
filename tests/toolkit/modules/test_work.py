"""Multiply-adds are one number, whatever kernel torch chooses and on whatever device it walks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn
F = torch.nn.functional

from toolkit.modules import ModuleRow, visit  # noqa: E402


class Net(nn.Module):
    """One function of the input and of a layer."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.function = nn.ModuleList(layers), function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x, *self.layers)


LSTM = nn.LSTM(8, 16, 2, bidirectional=True, batch_first=True)
ENCODER = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
NETWORKS = {
    "attention, fused": (Net(lambda x: F.scaled_dot_product_attention(x, x, x)), (2, 4, 16, 8), 32_768),
    "attention, causal": (
        Net(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True)), (2, 4, 16, 8), 32_768,
    ),
    "attention of a module": (
        Net(lambda x, m: m(x, x, x, need_weights=False)[0], nn.MultiheadAttention(8, 2, batch_first=True)),
        (2, 16, 8),
        2 * 16 * 4 * 64 + 2 * 2 * 16 * 16 * 8,
    ),
    "a layer of an encoder": (Net(lambda x, m: m(x), ENCODER), (2, 16, 8), 24_576),
    "LSTM": (Net(lambda x, m: m(x)[0], LSTM), (2, 16, 8), 2 * 16 * 2 * 64 * (8 + 16 + 32 + 16)),
    "GRU": (Net(lambda x, m: m(x)[0], nn.GRU(8, 16, batch_first=True)), (2, 16, 8), 2 * 16 * 48 * 24),
    "a convolution by function": (
        Net(lambda x: F.conv2d(x, torch.ones(4, 3, 3, 3, device=x.device))), (2, 3, 8, 8), 7_776,
    ),
    "a matrix and a vector": (Net(lambda x: x @ torch.ones(8, device=x.device)), (2, 8), 16),
}  # fmt: skip


def walked(net: nn.Module, shape: tuple[int, ...], device: str) -> tuple[ModuleRow, ...]:
    with torch.inference_mode():
        return visit(net.to(device), torch.zeros(shape, device=device))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_counts_the_same_on_a_processor_and_without_one(name: str) -> None:
    net, shape, known = NETWORKS[name]
    for device in ("cpu", "meta"):
        assert sum(row.macs or 0 for row in walked(net, shape, device)) == known
        assert not any(row.uncounted for row in walked(net, shape, device))


def test_attention_is_one_layer_with_all_of_its_weights() -> None:
    net, shape, _ = NETWORKS["attention of a module"]
    (row,) = walked(net, shape, "meta")
    assert (row.name, row.type) == ("layers.0", "MultiheadAttention")
    assert row.parameters == 4 * 64 + 4 * 8


@pytest.mark.parametrize(
    ("net", "shape", "why"),
    [
        (Net(lambda x: torch.cdist(x, x)), (2, 10, 8), "_cdist_forward"),
        (Net(lambda x, m: m(x, x), nn.Bilinear(8, 8, 4)), (2, 8), "_trilinear"),
        (Net(lambda x: torch.fft.fft(x).abs()), (2, 8), "_fft_r2c"),
    ],
)
def test_what_no_formula_knows_is_none_and_said(net: nn.Module, shape: tuple[int, ...], why: str) -> None:
    rows = walked(net, shape, "cpu")
    assert [row.uncounted for row in rows if row.macs is None] == [why]
