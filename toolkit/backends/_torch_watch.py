"""Looks before and after each call of a layer in a running torch module, where the walk writes a row.

A leaf's call is replaced on the module itself, which costs less than hooks do; functional calls are seen by
a function mode, which is entered only where a network has some. What is called by `.forward` is no call of a
module to torch: its functions are the owner's then, in the walk as here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from toolkit.modules.calls import function_name, is_leaf, tensors_of

Look = Callable[[], Any]


@contextlib.contextmanager
def watched(module: nn.Module, look: Look, marks: list[Any], *, functional: bool) -> Iterator[None]:
    """Append to `marks` what `look` returns before and after each call that is a row.

    `functional` tells whether the network has rows outside of its leaf modules.
    """
    leaves = [part for part in module.modules() if is_leaf(part)]
    mode = _FunctionWatch(look, marks) if functional else None
    inside: list[None] = []  # a leaf that calls another one is one row
    for part in leaves:
        vars(part)["_call_impl"] = _around(part._call_impl, look, marks, mode, inside)
    try:
        with mode or contextlib.nullcontext():
            yield
    finally:
        for part in leaves:
            del vars(part)["_call_impl"]


def _around(
    call: Callable[..., Any], look: Look, marks: list[Any], mode: _FunctionWatch | None, inside: list[None]
) -> Any:
    def seen(*args: Any, **kwargs: Any) -> Any:
        if inside:
            return call(*args, **kwargs)
        inside.append(None)
        try:
            before = look()
            result = call(*args, **kwargs)
            after = look()
        finally:
            inside.pop()
        if tensors_of(result):
            marks.extend((before, after))
        return result

    def seen_inside(*args: Any, **kwargs: Any) -> Any:
        # what a leaf calls inside is its own business: the mode is off there, and costs nothing
        with torch._C.DisableTorchFunction():
            return seen(*args, **kwargs)

    return seen_inside if mode else seen


class _FunctionWatch(TorchFunctionMode):
    """Looks before and after each function that is called on tensors outside leaf modules."""

    def __init__(self, look: Look, marks: list[Any]) -> None:
        super().__init__()
        self.look, self.marks = look, marks

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self.look()
        result = func(*args, **(kwargs or {}))
        if function_name(func, (args, kwargs), result):
            self.marks += (before, self.look())
        return result
