"""Convolutions of few channels: what torch computes, sooner on a CPU.

oneDNN's kernels fill a vector with 16 output channels, so six leave most of it empty. Where a 2×2 pool
follows, the four places of its windows are computed as four sets of channels instead, by one convolution
of stride 2 with a kernel one larger; the pool is then over whole planes. A gradient for few input
channels takes two rows as two sets alike. Gradients of weights are taken channels-last. Two threads of
an AMD EPYC (AVX-512), torch 2.15, batch of 64, float32: 1→6 channels at 28×28 with sigmoid and average
pool 619 → 430 µs, 6→16 at 14×14 without them 780 → 590 µs, forward and backward.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from toolkit.training.compute.pooling import deal, is_pair_pool, lead

if TYPE_CHECKING:
    from torch import Tensor

_FEW = 8  # channels that leave at least half of a vector empty
_MOST = 16
_POINTWISE = (nn.Sigmoid, nn.ReLU, nn.Tanh, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Identity)


@cache
def _spreading(kernel: tuple[int, int], places: tuple[int, int], turned: bool, kind: torch.dtype) -> Tensor:
    """Return (k · l, places · (k + down - 1) · (l + across - 1)): each place's shift of a kernel.

    A product with it is exact, since each column holds a single 1 or none, and is one small operation
    where copies of slices are ten. `turned` turns the kernel by 180 degrees first.
    """
    (down, across), (high, wide) = places, kernel
    shifts = torch.zeros(high, wide, down, across, high + down - 1, wide + across - 1, dtype=kind)
    for y, x, row, column in product(range(down), range(across), range(high), range(wide)):
        taken = (high - 1 - row, wide - 1 - column) if turned else (row, column)
        shifts[*taken, y, x, y + row, x + column] = 1
    return shifts.view(high * wide, -1)


def _spread(weight: Tensor, down: int, across: int, *, turned: bool = False) -> Tensor:
    """Return the kernel that computes down × across neighbouring places as sets of channels.

    (O, I, k, l) becomes (O · down · across, I, k + down - 1, l + across - 1).
    """
    o, i, k, l = weight.shape  # noqa: E741  (the kernel's height and width)
    shifts = _spreading((k, l), (down, across), turned, weight.dtype)
    sets = torch.mm(weight.reshape(o * i, k * l), shifts).view(o, i, down * across, -1)
    return sets.transpose(1, 2).reshape(o * down * across, i, k + down - 1, l + across - 1)


def _gather(sets: Tensor, weight: Tensor, down: int, across: int) -> Tensor:
    """Return the gradient of what `_spread` took: the sum over its sets."""
    o, i, k, l = weight.shape  # noqa: E741
    shifts = _spreading((k, l), (down, across), False, weight.dtype)
    rows = sets.reshape(o, down * across, i, -1).transpose(1, 2).reshape(o * i, -1)
    return torch.mm(rows, shifts.t()).view(weight.shape)


class _Convolve(torch.autograd.Function):
    """A convolution of stride 1; with `places` 2, its output's 2×2 windows are four sets of channels."""

    @staticmethod
    def forward(  # noqa: PLR0917  (autograd passes no keywords)
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int], places: int
    ) -> Tensor:
        kernel = _spread(weight, places, places) if places > 1 else weight
        ctx.save_for_backward(x, weight, kernel)
        ctx.padding, ctx.places = padding, places
        if bias is not None and places > 1:
            bias = bias[:, None].expand(-1, places * places).reshape(-1)
        return torch.conv2d(x, kernel, bias, (places, places), padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, weight, kernel = ctx.saved_tensors
        (gradient,) = gradients
        places, padding = ctx.places, ctx.padding
        for_x, for_weight, for_bias = ctx.needs_input_grad[:3]
        to_x = to_weight = to_bias = None
        if for_weight and places > 1:
            _, sets, to_bias = _backward(gradient, x, kernel, places, padding, mask=[False, True, for_bias])
            to_weight = _gather(sets, weight, places, places)
            to_bias = to_bias.view(-1, places * places).sum(1) if for_bias else None
        elif for_weight:
            slopes, pixels = (t.contiguous(memory_format=torch.channels_last) for t in (gradient, x))
            mask = [False, True, for_bias]
            _, to_weight, to_bias = _backward(slopes, pixels, weight, 1, padding, mask=mask)
            to_weight = to_weight.contiguous()
        elif for_bias:
            to_bias = gradient.sum((0, 2, 3)).view(-1, places * places).sum(1)
        if for_x:
            if places == 1 and _by_rows(x, weight, padding):
                to_x = _to_input(gradient, x, weight, padding)
            else:
                to_x = _backward(gradient, x, kernel, places, padding, mask=[True, False, False])[0]
        return to_x, to_weight, to_bias, None, None


def _backward(
    gradient: Tensor, x: Tensor, kernel: Tensor, stride: int, padding: tuple[int, int], *, mask: list[bool]
) -> Any:
    return torch.ops.aten.convolution_backward(
        gradient, x, kernel, [len(kernel)], [stride] * 2, padding, [1, 1], False, [0, 0], 1, mask
    )


def _by_rows(x: Tensor, weight: Tensor, padding: tuple[int, int]) -> bool:
    fits = all(p < k for p, k in zip(padding, weight.shape[2:], strict=True))
    return fits and weight.shape[1] <= _FEW and x.shape[2] % 2 == 0


def _to_input(gradient: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
    """Return the gradient of the input, even and odd rows as two sets of channels."""
    turned = _spread(weight.transpose(0, 1), 2, 1, turned=True)
    rest = [k - 1 - p for p, k in zip(padding, weight.shape[2:], strict=True)]
    sets = torch.conv2d(gradient, turned, None, (2, 1), rest)
    n, _, high, wide = sets.shape
    return sets.view(n, -1, 2, high, wide).transpose(2, 3).reshape(x.shape)


class FewChannels(nn.Module):
    """Does as the nn.Conv2d whose weights it takes.

    With `places` 2 it maps (N, C, H, W) to (N, O, 4, h, w), the 2×2 windows of the h×w that a pool keeps.
    """

    def __init__(self, layer: nn.Conv2d, places: int) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self._padding, self._places = layer.padding, places

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W)."""
        y: Tensor = _Convolve.apply(x, self.weight, self.bias, self._padding, self._places)
        return y.view(len(y), -1, 4, *y.shape[2:]) if self._places > 1 else y


class _SetMaximum(torch.autograd.Function):
    """The largest of four sets; ties go to the first, as in torch's pools."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows, across = lead(x[:, :, 0::2], x[:, :, 1::2])
        result, down = lead(rows[:, :, 0], rows[:, :, 1])
        ctx.save_for_backward(across, down)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        across, down = ctx.saved_tensors
        rows = torch.empty_like(across)
        deal(gradients[0], down, rows[:, :, 0], rows[:, :, 1])
        n, c, _, *rest = across.shape
        result = across.new_empty(n, c, 4, *rest)
        deal(rows, across, result[:, :, 0::2], result[:, :, 1::2])
        return result


class _SetAverage(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sum(2).mul_(0.25)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        # not written out four times: what comes before reads it
        return (gradients[0] * 0.25)[:, :, None].expand(-1, -1, 4, -1, -1)


class SetMaximum(nn.Module):
    """Maps (N, C, 4, h, w), the places of 2×2 windows, to their maxima (N, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool."""
        result: Tensor = _SetMaximum.apply(x)
        return result


class SetAverage(nn.Module):
    """Maps (N, C, 4, h, w), the places of 2×2 windows, to their averages (N, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool."""
        result: Tensor = _SetAverage.apply(x)
        return result


def _has_few(layer: nn.Module) -> bool:
    """Tell whether a layer is a plain convolution of few channels."""
    if type(layer) is not nn.Conv2d or isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        return False
    plain = layer.stride == layer.dilation == (1, 1) and layer.groups == 1
    return plain and max(layer.in_channels, layer.out_channels) <= _MOST


def can_exchange(module: nn.Module) -> bool:
    """Tell whether a network has a convolution of few channels."""
    return any(_has_few(layer) for layer in module.modules())


def exchange_convolutions(module: nn.Module) -> nn.Module:
    """Replace convolutions of few channels, and pools behind the first one, in place; results stay."""
    few = [(name, layer) for name, layer in module.named_modules() if name and _has_few(layer)]
    for index, (name, layer) in enumerate(few):
        assert isinstance(layer, nn.Conv2d)  # as _has_few says
        # four sets make the gradient of the input dearer, and only the first layer needs none
        pool = _pool_behind(module, name) if index == 0 and layer.out_channels <= _FEW else None
        module.set_submodule(name, FewChannels(layer, places=2 if pool else 1))
        if pool:
            average = isinstance(module.get_submodule(pool), nn.AvgPool2d)
            module.set_submodule(pool, SetAverage() if average else SetMaximum())
    return module


def _pool_behind(module: nn.Module, name: str) -> str | None:
    """Return the name of a 2×2 pool that follows a layer, with at most pointwise layers between."""
    place, _, own = name.rpartition(".")
    parent = module.get_submodule(place)
    if not isinstance(parent, nn.Sequential):
        return None  # a forward of its own may do anything between
    children = list(parent.named_children())
    for after, layer in children[[child for child, _ in children].index(own) + 1 :]:
        if is_pair_pool(layer):
            return f"{place}.{after}".lstrip(".")
        if not isinstance(layer, _POINTWISE):
            return None
    return None
