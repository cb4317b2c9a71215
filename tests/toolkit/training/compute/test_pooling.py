"""Pools by rows and columns compute what torch's do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from toolkit.training.compute.pooling import PairAverage, PairMaximum, can_pair, pair_pools  # noqa: E402  (after the skip)


def both(
    ours: torch.nn.Module, theirs: torch.nn.Module, x: torch.Tensor
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return forward and gradient of both."""
    found = []
    for module in (ours, theirs):
        leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        y = module(leaf)
        (gradient,) = torch.autograd.grad(y, leaf, torch.arange(y.numel()).reshape(y.shape) * 0.5 + 1)
        found.append((y, gradient))
    return list(zip(*found, strict=True))


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(2, 9), st.integers(2, 9)),
    st.integers(0, 1000),
    st.booleans(),
    st.booleans(),
)
def test_the_maximum_and_its_gradient_are_torchs_bit_for_bit(
    shape: tuple[int, int, int, int], seed: int, channels_last: bool, ties: bool
) -> None:
    torch.manual_seed(seed)
    x = torch.randn(shape)
    if ties:
        x = x.round()  # most windows now hold their maximum more than once
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    for mine, wanted in both(PairMaximum(), torch.nn.MaxPool2d(2), x):
        assert torch.equal(mine, wanted)
    for mine, wanted in both(PairAverage(), torch.nn.AvgPool2d(2), x):
        assert torch.allclose(mine, wanted, rtol=1e-6, atol=1e-6)


def test_only_pools_of_plain_pairs_are_exchanged() -> None:
    nn = torch.nn
    net = nn.Sequential(
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2),
        nn.MaxPool2d(2, 1),
        nn.MaxPool2d(2, padding=1),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Sequential(nn.AvgPool2d((2, 2)), nn.AvgPool2d(2, divisor_override=3)),
    )
    assert can_pair(net)
    names = [type(layer).__name__ for layer in pair_pools(net).modules()][1:]
    assert names == [
        "PairMaximum",
        "MaxPool2d",
        "MaxPool2d",
        "MaxPool2d",
        "MaxPool2d",
        "Sequential",
        "PairAverage",
        "AvgPool2d",
    ]
    assert not can_pair(nn.Sequential(nn.MaxPool2d(3, 2), nn.Linear(2, 2)))
