"""Batch norm over ranks: one mean and deviation of the whole batch, or each rank's own and shared figures.

torch.nn.SyncBatchNorm computes on GPUs only, and knows no rank whose pictures do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from toolkit.training.compute.ranks import Ranks
from toolkit.training.compute.seats import BatchPart


def running_figures(module: nn.Module) -> list[Tensor]:
    """Return the running means and variances that a training step moves."""
    learning = (layer for layer in module.modules() if layer.training)
    found = ((getattr(layer, name, None) for name in ("running_mean", "running_var")) for layer in learning)
    return [value for pair in found for value in pair if isinstance(value, Tensor)]


def has_batch_norm(module: nn.Module) -> bool:
    """Tell whether some layer normalises by what its batch holds."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules())


def renew_running_figures(
    module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], alive: Callable[[], None]
) -> None:
    """Make batch norm's running figures those of a module's own answers to (input, labels) of many batches.

    `alive` is called after each; the module is left in eval mode.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return
    usual = [layer.momentum for layer in layers]
    module.eval()
    for layer in layers:
        layer.momentum = None  # the plain mean over all batches
    single: Tensor | None = None
    fresh = False
    try:
        with torch.no_grad():
            for images, _ in batches:
                # one picture may have no deviation, so it goes with the next
                joined = images if single is None else torch.cat([single, images])
                single = joined if len(joined) == 1 else None
                if single is None:
                    if not fresh:  # figures that nothing takes the place of stay
                        _reset(layers)
                        fresh = True
                    module(joined)
                alive()
    finally:
        for layer, momentum in zip(layers, usual, strict=True):
            layer.momentum = momentum
        module.eval()


def _reset(layers: Iterable[nn.modules.batchnorm._BatchNorm]) -> None:
    for layer in layers:
        layer.reset_running_stats()
        layer.train()


class _Added(torch.autograd.Function):
    """A sum over the ranks that gradients pass through: each rank's value is in all ranks' losses."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        summed = values.clone()
        ranks.add(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        summed = gradients[0].contiguous().clone()
        ctx.ranks.add(summed)
        return summed, None


class SharedNorms(TorchFunctionMode):
    """While this is entered, batch norm in training takes mean and variance of the whole batch."""

    def __init__(self, ranks: Ranks, share: BatchPart) -> None:
        super().__init__()
        self._ranks, self._share = ranks, share

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.batch_norm:
            return self._batch_norm(*args, **kwargs)
        return func(*args, **kwargs)

    def _batch_norm(  # noqa: PLR0917  (torch's own order)
        self,
        values: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return functional.batch_norm(
                values, running_mean, running_var, weight, bias, training, momentum, eps
            )
        column = (1, -1) + (1,) * (values.dim() - 2)
        dims = [0, *range(2, values.dim())]
        counted = 1.0 if self._share.counts else 0.0
        count = values.numel() // values.shape[1] * self._share.total / self._share.size
        with torch.autocast(values.device.type, enabled=False):
            wide = values if values.dtype == torch.float64 else values.float()
            mean = self._added(wide.sum(dims) * counted) / count
            centred = wide - mean.view(column)
            variance = self._added((centred * centred).sum(dims) * counted) / count
            with torch.no_grad():
                if running_mean is not None:
                    running_mean.lerp_(mean.to(running_mean), momentum)
                if running_var is not None:
                    unbiased = variance * (count / max(1.0, count - 1))
                    running_var.lerp_(unbiased.to(running_var), momentum)
            found = centred * (variance + eps).rsqrt().view(column)
            if weight is not None:
                found = found * weight.view(column)
            if bias is not None:
                found = found + bias.view(column)
            return found.to(values.dtype)

    def _added(self, values: Tensor) -> Tensor:
        found: Tensor = _Added.apply(values, self._ranks)
        return found
