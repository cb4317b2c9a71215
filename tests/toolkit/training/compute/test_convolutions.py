"""Convolutions of few channels, and pools over sets, compute what torch's do."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from toolkit import catalog  # noqa: E402  (after the skip)
from toolkit.training.compute.convolutions import can_exchange, exchange_convolutions  # noqa: E402

nn = torch.nn


def gradients(net: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the output, and the gradients of all weights and of the input."""
    leaf = x.detach().clone().requires_grad_()
    y = net(leaf)
    slope = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)
    return y, list(torch.autograd.grad(y, [*net.parameters(), leaf], slope))


def assert_alike(net: torch.nn.Module, x: torch.Tensor) -> torch.nn.Module:
    """Compare a network with its exchanged copy in float64, where only the order of sums differs."""
    net, x = net.double(), x.double()
    ours = exchange_convolutions(copy.deepcopy(net))
    (y, mine), (wanted, theirs) = gradients(ours, x), gradients(net, x)
    assert y.shape == wanted.shape
    assert torch.allclose(y, wanted, rtol=1e-9, atol=1e-9)
    for a, b in zip(mine, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)
    return ours


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    size=st.tuples(st.integers(12, 19), st.integers(12, 19)),
    bias=st.booleans(),
    pool=st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]),
    act=st.sampled_from([nn.Sigmoid, nn.ReLU, nn.Tanh]),
)
def test_outputs_and_gradients_are_torchs(
    batch: int,
    channels: tuple[int, int, int],
    kernel: tuple[int, int],
    padding: tuple[int, int],
    size: tuple[int, int],
    bias: bool,
    pool: type[torch.nn.Module],
    act: type[torch.nn.Module],
) -> None:
    torch.manual_seed(0)
    first, second, third = channels
    net = nn.Sequential(
        nn.Conv2d(first, second, kernel, padding=padding, bias=bias),
        act(),
        pool(2),
        nn.Conv2d(second, third, 3, padding=padding, bias=bias),
    )
    assert_alike(net, torch.randn(batch, first, *size))


def test_a_tie_within_a_window_is_the_first_places() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.MaxPool2d(2))
    assert_alike(net, torch.randn(4, 1, 8, 8).round())


def test_names_and_weights_stay() -> None:
    net = catalog.model("lenet-maxpool").build(1, 10)
    ours = exchange_convolutions(copy.deepcopy(net))
    assert list(ours.state_dict()) == list(net.state_dict())
    assert [type(layer).__name__ for layer in ours.children()][:6] == [
        "FewChannels", "ReLU", "SetMaximum", "FewChannels", "ReLU", "MaxPool2d",
    ]  # fmt: skip
    ours.load_state_dict(net.state_dict())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 6, 5, stride=2),
        nn.Conv2d(2, 6, 5, groups=2),
        nn.Conv2d(1, 6, 5, dilation=2),
        nn.Conv2d(1, 6, 5, padding="same"),
        nn.Conv2d(1, 6, 5, padding=1, padding_mode="reflect"),
        nn.Conv2d(1, 64, 5),
        nn.ConvTranspose2d(1, 6, 5),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(layer: torch.nn.Module) -> None:
    assert not can_exchange(nn.Sequential(layer))
    assert exchange_convolutions(nn.Sequential(layer))[0] is layer


def test_sets_are_made_only_where_the_pool_surely_follows() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.pool = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.MaxPool2d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.pool(self.norm(self.conv(x)))

    normed = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.MaxPool2d(2))
    nested = nn.Sequential(OrderedDict(body=nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AvgPool2d(2))))
    for net, pool in ((Own(), "MaxPool2d"), (normed, "MaxPool2d"), (nested, "SetAverage")):
        ours = assert_alike(net, torch.randn(2, 1, 9, 11))
        assert pool in {type(layer).__name__ for layer in ours.modules()}
