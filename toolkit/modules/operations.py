"""The functions that a network calls, however it is written: `nn.Sigmoid()` calls what `torch.sigmoid` is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from toolkit.modules.calls import function_name

_LAYERS = ("conv2d", "linear")


@dataclass(frozen=True, kw_only=True)
class FunctionCall:
    """A function called on tensors, by torch's name: `relu` is also what `nn.ReLU` and `x.relu_()` call.

    Of convolutions and dense layers `channels` is how many they put out, and `layer` the path of the layer
    whose weights they take as they are; None where those are computed, or nobody's.
    """

    name: str
    layer: str | None = None
    channels: int | None = None


class Operations(TorchFunctionMode):
    """A context in which each function that a network calls is added to `found`, as they are called."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.found: list[FunctionCall] = []
        self._owners = {
            id(weight): path
            for path, part in module.named_modules()
            if isinstance(part, (nn.Conv2d, nn.Linear))
            for word, weight in part.named_parameters(recurse=False)
            if word == "weight"
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        result = func(*args, **given)
        name = function_name(func, (args, kwargs), result)
        if name in _LAYERS:
            weight: Tensor = args[1] if len(args) > 1 else given["weight"]
            layer = self._owners.get(id(weight))
            self.found.append(FunctionCall(name=name, layer=layer, channels=len(weight)))
        elif name:
            self.found.append(FunctionCall(name=name))
        return result
