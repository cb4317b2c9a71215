"""Watches a running torch module and writes a row for each call of a layer."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from toolkit.modules import ModuleRow
from toolkit.modules.work import WorkCounter

# `x += y` and `x + y` are one op to the exporter
_IN_PLACE = re.compile(r"^i(?=(?:add|sub|mul|truediv|div|and|or|matmul)$)")
# these hand back what they were given when nothing needs doing, and then are no layer
_MAYBE_NOTHING = {"contiguous", "to", "float", "half", "double", "bfloat16", "cpu", "cuda", "type", "detach"}


class Calls:
    """A context in which each call of a leaf module or a function becomes a row of `rows`."""

    def __init__(
        self, module: nn.Module, inputs: Tensor, on_output: Callable[[ModuleRow, Tensor], None] | None
    ) -> None:
        self.rows: list[ModuleRow] = []
        self._names = {part: path for path, part in module.named_modules()}
        self._on_output = on_output
        self._showing = False
        self._owners: list[nn.Module] = []
        self._counts: dict[str, int] = defaultdict(int)
        self._counted: set[int] = set()
        self._memory = {_storage(tensor) for tensor in (inputs, *module.parameters(), *module.buffers())}
        self._parameters = {id(tensor): tensor for tensor in module.parameters()}
        held = (*module.named_parameters(), *module.named_buffers())
        self._values = {id(inputs): "input", **{id(tensor): path for path, tensor in held}}
        self.reads: dict[str, tuple[str, ...]] = {}
        self.writes: dict[str, tuple[str, ...]] = {}
        self.settings: dict[str, str] = {}
        # outputs are held until the walk ends, so that no freed address is taken for an old one
        self._held: list[Tensor] = []
        self._hooks: list[Any] = []
        self._work = WorkCounter()
        self._modes = contextlib.ExitStack()

    def __enter__(self) -> None:
        for part in self._names:
            self._hooks.append(part.register_forward_pre_hook(self._before))
            self._hooks.append(part.register_forward_hook(self._after, always_call=True, with_kwargs=True))
        # nothing else holds it: a circle would keep every output until the garbage collector runs
        self._modes.enter_context(_Functions(self))
        self._modes.enter_context(self._work)

    def __exit__(self, *error: Any) -> None:
        self._modes.close()
        for hook in self._hooks:
            hook.remove()

    def counts(self) -> bool:
        """Tell whether a functional call is the network's own: not a layer's inner one, nor a watcher's."""
        return not self._showing and not any(map(is_leaf, self._owners))

    def values(self, tensors: list[Tensor]) -> tuple[str, ...]:
        """Return what tensors are called: by what made them last, `?` where no call did."""
        return tuple(self._values.get(id(tensor), "?") for tensor in tensors)

    def function(self, name: str, args: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
        """Write the row of a functional call in the module that is running."""
        owner = self._names[self._owners[-1]] if self._owners else ""
        given = tensors_of((args, named))
        used = [tensor for tensor in given if id(tensor) in self._parameters]
        row = self._write(f"{owner}/{name}", name, given, result, used)
        if row is not None:
            # by name or by place, and in place or not, a call computes the same
            plain = (*args, *(value for key, value in named.items() if key != "inplace"))
            self.settings[row.name] = ", ".join(filter(None, map(_told, plain)))

    def _before(self, module: nn.Module, given: Any) -> None:
        self._owners.append(module)

    def _after(self, module: nn.Module, given: Any, named: Any, result: Any) -> None:
        self._owners.pop()
        if is_leaf(module) and result is not None and not any(map(is_leaf, self._owners)):
            held = [*module.parameters(), *module.buffers()]
            read = tensors_of((given, named))
            self._write(self._names[module] or "/", type(module).__name__, read, result, held)

    def _write(
        self, base: str, kind: str, given: list[Tensor], result: Any, held: list[Tensor]
    ) -> ModuleRow | None:
        outputs = tensors_of(result)
        if not outputs:
            return None
        self._counts[base] += 1
        call = self._counts[base]
        fresh = [tensor for tensor in held if id(tensor) not in self._counted]
        self._counted.update(id(tensor) for tensor in fresh)
        read = {id(tensor): tensor for tensor in given if id(tensor) not in self._parameters}
        work = self._work.take()
        row = ModuleRow(
            name=base if call == 1 else f"{base}#{call}",
            call=call,
            type=kind,
            output_shape=tuple(outputs[0].shape),
            parameters=sum(t.numel() for t in fresh if isinstance(t, nn.Parameter)),
            macs=work.macs,
            uncounted=work.uncounted,
            depthwise=work.depthwise,
            weights_bytes=sum(t.nbytes for t in fresh),
            activation_bytes=self._new_bytes(outputs),
            read_bytes=sum(tensor.nbytes for tensor in read.values()) if work.wrote else 0,
            written_bytes=sum(tensor.nbytes for tensor in outputs) if work.wrote else 0,
        )
        self.rows.append(row)
        self.reads[row.name] = self.values(given)
        self._values |= {
            id(o): f"{row.name}:{place}" if place else row.name for place, o in enumerate(outputs)
        }
        self.writes[row.name] = self.values(outputs)
        if self._on_output:
            self._showing = True
            self._on_output(row, outputs[0])
            self._showing = False
            self._work.take()  # whatever the watcher computed is not the network's work
        return row

    def _new_bytes(self, outputs: list[Tensor]) -> int:
        fresh = {_storage(t): t for t in reversed(outputs) if _storage(t) not in self._memory}
        self._memory.update(fresh)
        self._held.extend(outputs)
        return sum(tensor.nbytes for tensor in fresh.values())


class _Functions(TorchFunctionMode):
    """Sees every function that is called on tensors, but for those inside leaf modules."""

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self.calls = calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.calls.counts() and (name := function_name(func, (args, kwargs), result)):
            self.calls.function(name, args, kwargs or {}, result)
        return result


def function_name(func: Any, given: Any, result: Any) -> str | None:
    """Return the name of a function whose call is a layer; None for one that makes no new tensor."""
    name, outputs = getattr(func, "__name__", None), tensors_of(result)
    if not name or not outputs:
        return None
    plain = _IN_PLACE.sub("", name.strip("_"))
    if plain in _MAYBE_NOTHING and all(any(o is g for g in tensors_of(given)) for o in outputs):
        return None
    return plain


def tensors_of(value: Any) -> list[Tensor]:
    """Return every tensor in a possibly nested result or argument, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors_of(item)]
    return []


def _told(value: Any) -> str:
    """Return what a call was given beside tensors as text; nothing of tensors, and of what says no."""
    if value is None or value is False or isinstance(value, torch.Tensor):
        return ""
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_told, value))})" if any(map(_told, value)) else ""
    if isinstance(value, slice):
        return ":".join(map(_told, (value.start, value.stop, value.step)))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    plain = isinstance(value, (int, float, complex, str, torch.dtype)) or value is Ellipsis
    return str(value) if plain else type(value).__name__


def is_leaf(module: nn.Module) -> bool:
    """Tell whether a module is one layer: it has no modules of its own, or is attention, which calls none."""
    return isinstance(module, nn.MultiheadAttention) or not any(True for _ in module.children())


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
