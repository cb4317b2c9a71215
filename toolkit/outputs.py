"""What a network answers with: one tensor, or several of which the logits come first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from toolkit.errors import CnnkitError

if TYPE_CHECKING:
    from torch import Tensor, nn

# what authors call the answers in a dictionary of outputs
_NAMES = ("logits", "logit", "out", "output", "outputs", "scores", "pred", "prediction", "predictions")


def build_answering(build: Callable[[int, int], nn.Module], channels: int, classes: int) -> nn.Module:
    """Build a network of which nobody knows what it returns: see `answer_first`.

    Raises CnnkitError for layers whose weights have no shape before the first batch comes.
    """
    module = build(channels, classes)
    _insist_on_shapes(module)
    return answer_first(module, classes)


def _insist_on_shapes(module: nn.Module) -> None:
    from torch.nn.parameter import is_lazy

    lazy = [
        f"{path} ({type(part).__name__})"
        for path, part in module.named_modules()
        if any(map(is_lazy, (*part.parameters(recurse=False), *part.buffers(recurse=False))))
    ]
    if lazy:
        raise CnnkitError(
            "layers without a shape before the first batch comes, which can be neither counted nor saved: "
            f"{', '.join(lazy[:3])}{' …' if len(lazy) > 3 else ''}; say what comes in, as "
            "nn.Conv2d(channels, 16, 3) for nn.LazyConv2d(16, 3)"
        )


def answer_first(module: nn.Module, classes: int) -> nn.Module:
    """Let a network that returns a dictionary, or several tensors, return a tuple with its logits first.

    Logits are what is called so, else the first output of shape (N, classes). Of several that are called so,
    one of that shape comes first, and `logits` before `pred`: the same answer may stand there as a label or
    as probabilities, too. A single tensor stays as it is; so does what holds no logits.
    """
    module.register_forward_hook(partial(_ordered, classes=classes))
    return module


def logits_of(result: Any) -> Tensor:
    """Return a network's logits: its only output, or the first of several."""
    found: Tensor = result[0] if isinstance(result, (tuple, list)) else result
    return found


def _ordered(module: nn.Module, given: Any, result: Any, *, classes: int) -> Any:
    import torch

    if isinstance(result, torch.Tensor):
        return None  # the output stays
    named = list(_named(result))
    first = _logits_among(named, classes)
    if first is None:
        return None
    others = tuple(tensor for _, tensor in named if tensor is not first)
    return (first, *others) if others else first


def _logits_among(named: list[tuple[str, Tensor]], classes: int) -> Tensor | None:
    """Return the likeliest logits of tensors with their places in a result; None where none can be them."""

    def fitting(tensors: list[Tensor]) -> list[Tensor]:
        return [tensor for tensor in tensors if tensor.ndim == 2 and tensor.shape[1] == classes]

    told = [(path.rpartition("/")[2], path.count("/"), tensor) for path, tensor in named]
    # the usual names first; of one name the outermost: an auxiliary head answers deeper inside
    known = sorted((one for one in told if one[0] in _NAMES), key=lambda one: (_NAMES.index(one[0]), one[1]))
    called = [tensor for _, _, tensor in known]
    # a single score for two classes is a row of them, too, and a label is none
    single = [
        tensor
        for tensor in called
        if tensor.is_floating_point() and (tensor.ndim == 1 or tensor.shape[1:] == (1,))
    ]
    shaped = fitting([tensor for _, tensor in named])
    return next(iter((*fitting(called), *single, *shaped, *called)), None)


def _named(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a nested result with its place in it."""
    import torch

    if isinstance(value, torch.Tensor):
        yield path, value
        return
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _named(part, f"{path}/{name}")
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            yield from _named(part, f"{path}/{index}")
