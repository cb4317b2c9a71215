"""What one training step holds in memory beside the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.modules import ModuleRow, visit
from toolkit.recipes import Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn

FIGURE_BYTES = 4  # parameters, gradients and the optimizer's state are fp32


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """What one training step holds beside the weights, in bytes.

    `copies` counts the figures held for each parameter beside itself: its gradient and the optimizer's.
    `saved_bytes` are the tensors that autograd keeps for the backward pass, without the weights.
    `saved_by_row` tells which row made it keep them, in the order of the rows.
    """

    recipe: str
    optimizer: str
    copies: int
    gradient_bytes: int
    optimizer_bytes: int
    saved_bytes: int
    saved_by_row: tuple[int, ...]


def optimizer_copies(recipe: Recipe) -> int:
    """Return how many figures a recipe's optimizer keeps for each parameter.

    Source: torch.optim: SGD keeps a momentum buffer where momentum is not 0, Adam and AdamW two moments.
    An average of the weights (EMA) is a third copy.
    """
    copies = {"sgd": int(recipe.momentum != 0), "adam": 2, "adamw": 2}[recipe.optimizer]
    return copies + int(recipe.ema_decay is not None)


def training_memory(module: nn.Module, input_shape: tuple[int, ...], recipe: Recipe) -> TrainingMemory:
    """Return what a training step of a module by a recipe holds, for input (N, C, H, W)."""
    saved = _saved(module, input_shape)
    weights = sum(tensor.nbytes for tensor in module.parameters() if tensor.requires_grad)
    return TrainingMemory(
        recipe=recipe.name,
        optimizer=recipe.optimizer,
        copies=1 + optimizer_copies(recipe),
        gradient_bytes=weights,
        optimizer_bytes=weights * optimizer_copies(recipe),
        saved_bytes=sum(saved),
        saved_by_row=tuple(saved),
    )


def _saved(module: nn.Module, input_shape: tuple[int, ...]) -> list[int]:
    """Return what autograd keeps for the backward pass, in bytes, by the row that first asked for it.

    Counted once for each piece of memory, whole, since a view keeps all of what it looks into.
    """
    import torch

    weights = {tensor.untyped_storage()._cdata for tensor in (*module.parameters(), *module.buffers())}
    seen: dict[int, torch.Tensor] = {}
    fresh, by_row = [0], list[int]()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        memory = tensor.untyped_storage()
        if memory._cdata not in weights and memory._cdata not in seen:
            seen[memory._cdata] = tensor  # held, so that its address is not given to another
            fresh[0] += memory.nbytes()
        return tensor

    def next_row(row: ModuleRow, output: torch.Tensor) -> None:
        by_row.append(fresh[0])
        fresh[0] = 0

    first = next(module.parameters(), None)
    given = torch.zeros(input_shape, device=first.device if first is not None else None)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        visit(module, given, next_row, training=True)
    return by_row
