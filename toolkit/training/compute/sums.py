"""Gradients summed over the ranks while the backward pass still goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from toolkit.training.compute.ranks import Ranks

if TYPE_CHECKING:
    from torch.distributed import Work

# figures: such a gradient is sent by itself, as soon as all that were sent before it are here
_LARGE = 1 << 16


class Sums:
    """The sums of one module's gradients; `finish` them after each backward pass."""

    def __init__(self, module: nn.Module, ranks: Ranks) -> None:
        self._ranks = ranks
        # the order is a fixed one, so that all ranks send alike: about that in which gradients come
        learning = [p for p in reversed(list(module.parameters())) if p.requires_grad]
        self._large = [p for p in learning if p.numel() >= _LARGE]
        self._small = [p for p in learning if p.numel() < _LARGE]
        self._here: set[int] = set()
        self._sent: list[tuple[Work | None, Tensor, Tensor]] = []
        self._next = 0
        self._hooks = [
            p.register_post_accumulate_grad_hook(self._take)  # type: ignore[no-untyped-call]
            for p in self._large
        ]

    def _take(self, parameter: Tensor) -> None:
        self._here.add(id(parameter))
        while self._next < len(self._large) and id(self._large[self._next]) in self._here:
            self._send(self._large[self._next])

    def _send(self, parameter: nn.Parameter) -> None:
        self._next += 1
        gradient = parameter.grad
        if gradient is not None:
            flat = gradient.contiguous()
            self._sent.append((self._ranks.add_later(flat), flat, gradient))

    def finish(self, others: Sequence[Tensor] = ()) -> None:
        """Wait until every gradient is the sum of all ranks'; sum other values, too, in place."""
        while self._next < len(self._large):
            self._send(self._large[self._next])
        # in one piece by type: many small messages take longer than their content
        together = [p.grad for p in self._small if p.grad is not None]
        together += others
        for kind in dict.fromkeys(value.dtype for value in together):
            self._add([value for value in together if value.dtype == kind])
        for work, flat, gradient in self._sent:
            self._ranks.wait(work)
            if flat is not gradient:
                gradient.copy_(flat)
        self._here.clear()
        self._sent.clear()
        self._next = 0

    def _add(self, values: list[Tensor]) -> None:
        devices = dict.fromkeys(value.device for value in values)
        for device in devices:
            here = [value for value in values if value.device == device]
            whole = torch.cat([value.reshape(-1) for value in here])
            self._ranks.add(whole)
            first = 0
            for value in here:
                value.copy_(whole[first : first + value.numel()].view(value.shape))
                first += value.numel()

    def close(self) -> None:
        """Take the hooks off the parameters."""
        for hook in self._hooks:
            hook.remove()
