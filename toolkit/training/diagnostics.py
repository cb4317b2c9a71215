"""What a network's gradients, weights and scores tell of its health: read for the divergence guard."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from toolkit.modules.operations import FunctionCall

WEIGHTED = ("conv2d", "linear", "matmul", "addmm", "einsum")
RECTIFYING = ("relu", "relu6")


def dead_layers(module: nn.Module) -> tuple[str, ...]:
    """Return the layers whose weights' gradients are exactly zero, from input to output."""
    named = [(name, p.grad) for name, p in module.named_parameters() if p.grad is not None and p.dim() > 1]
    if not named:
        return ()
    largest = torch.stack(torch._foreach_norm([grad for _, grad in named], math.inf)).tolist()
    return tuple(name.rpartition(".")[0] for (name, _), size in zip(named, largest, strict=True) if size == 0)


def has_finite_weights(module: nn.Module) -> bool:
    """Tell whether every weight and buffer of a network is a number."""
    values = [value for value in module.state_dict().values() if value.is_floating_point()]
    return all(bool(torch.isfinite(value).all()) for value in values)


def rectifies_scores(operations: Sequence[FunctionCall]) -> bool:
    """Tell whether a ReLU follows the last layer with weights, so that a score can be shut."""
    names = [operation.name for operation in operations if operation.name in WEIGHTED + RECTIFYING]
    return bool(names) and names[-1] in RECTIFYING


def heard_classes(scores: Tensor, labels: Tensor) -> dict[int, bool]:
    """Tell for each class in a batch whether the ReLU behind its score lets one of its own pictures through.

    Where it lets none, the loss can no longer raise that score; that it may still fire on other pictures
    does not help. `scores` are (N, classes), `labels` (N,).
    """
    own = scores.gather(1, labels[:, None])[:, 0] != 0  # without a ReLU none is 0 to the bit
    heard = dict.fromkeys(labels.tolist(), False)
    return heard | dict.fromkeys(labels[own].tolist(), True)
