"""Older graphs brought to the opset that a step needs."""

from __future__ import annotations

import copy
from typing import Any

from toolkit.errors import CnnkitError


def opset_of(model: Any) -> int:
    """Return the opset of a graph's standard operators."""
    return int(next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))


def modern(model: Any) -> Any:
    """Bring an older graph to opset 13 once, before anything is decided by its nodes' names.

    Later steps need that opset, and converting adds nodes. A graph that cannot be converted is left
    as it is: it still runs, and the steps that need more say so.
    """
    try:
        return at_least(model, 13)
    except CnnkitError:
        return model


def at_least(model: Any, opset: int) -> Any:
    """Return a copy of a graph, brought to an opset when its own is older."""
    import onnx

    own = opset_of(model)
    if own >= opset:
        return copy.deepcopy(model)
    try:
        return onnx.shape_inference.infer_shapes(onnx.version_converter.convert_version(model, opset))
    except Exception as error:  # the converter raises bare RuntimeErrors
        raise CnnkitError(
            f"the graph is of opset {own} and cannot be brought to {opset}, "
            f"which this precision needs: {error}"
        ) from None
