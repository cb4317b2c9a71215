"""A torch module → an ONNX graph with a dynamic batch, in memory, its nodes named after modules."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from toolkit.errors import CnnkitError, MissingExtraError
from toolkit.graphs.naming import name_graph
from toolkit.graphs.reading import refuse_too_large
from toolkit.graphs.weights import copy_fields

if TYPE_CHECKING:
    from torch import nn

# values up to which a constant may be a shape, whose content inference needs
SMALL_VALUES = 64


def capture(
    module: nn.Module,
    shape: tuple[int, ...],
    *,
    opset: int,
    input_name: str = "input",
    output_name: str = "logits",
) -> Any:
    """Export an eval-mode module that takes (N, *shape) float32; return a named onnx.ModelProto.

    Further outputs are called `<output_name>_2`, `_3` … Raises CnnkitError when torch cannot
    capture the module or when its weights do not fit one file.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch's exporter needs it; name the extra when it is missing)
        import torch
    except ImportError as error:
        raise MissingExtraError(error.name or "onnx", "export") from None
    size = sum(p.numel() * p.element_size() for p in (*module.parameters(), *module.buffers()))
    refuse_too_large(size, "this network")
    # two pictures: a batch of one would be captured as a constant
    example = torch.zeros(2, *shape)
    with _quiet():
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=opset,
                external_data=False,
                verbose=False,
                input_names=[input_name],
            )
        except Exception as error:  # torch's exporter raises errors of many unrelated kinds
            raise CnnkitError(_cannot(module, opset, error)) from error
    if program is None or program.exported_program is None:
        raise CnnkitError(_cannot(module, opset, RuntimeError("torch gave no reason")))
    model = program.model_proto
    name_graph(model, program.exported_program, module, output_name=output_name)
    made = model.opset_import[0].version
    if made != opset:
        raise CnnkitError(f"torch wrote opset {made} instead of {opset}; `--opset {made}` is possible")
    return finish(onnx, model)


def finish(onnx: Any, model: Any, *, strict: bool = True) -> Any:
    """Infer every value's shape, have onnx check the graph, and return the model, changed in place.

    Graphs from elsewhere are inferred as far as it goes (`strict` False): they may hold operators
    whose shapes onnx cannot tell. Raises CnnkitError.
    """
    if strict:
        del model.graph.value_info[:]
    light = _without_weights(onnx, model)
    try:
        light = onnx.shape_inference.infer_shapes(
            light, check_type=strict, strict_mode=strict, data_prop=True
        )
        _call_batch(light)
        onnx.checker.check_model(light, full_check=strict)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first = str(error).strip().splitlines()[0]
        raise CnnkitError(f"the ONNX graph is not valid: {first}") from None
    del model.graph.value_info[:], model.graph.output[:]
    model.graph.value_info.extend(light.graph.value_info)
    model.graph.output.extend(light.graph.output)
    return model


def _without_weights(onnx: Any, model: Any) -> Any:
    """Return a copy in which large weights are inputs of their type and shape.

    onnx copies a model several times while it infers and checks; of weights it needs only shapes.
    """
    light = onnx.ModelProto()
    copy_fields(model, light, but="graph")
    copy_fields(model.graph, light.graph, but="initializer")
    inputs = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= SMALL_VALUES:
            light.graph.initializer.add().CopyFrom(tensor)
        elif tensor.name not in inputs:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            light.graph.input.append(info)
    return light


def _call_batch(model: Any) -> None:
    """Give the free first extent of inner values the input's name for it, where inference lost it."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    name = dims[0].dim_param if dims else ""
    for value in model.graph.value_info if name else ():
        inner = value.type.tensor_type.shape.dim
        if len(inner) > 1 and inner[0].dim_param.startswith("unk__"):
            inner[0].dim_param = name


def _cannot(module: nn.Module, opset: int, error: Exception) -> str:
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    lines = str(root).strip().splitlines()
    reason = f"{type(root).__name__}: {lines[0] if lines else 'no reason given'}"
    return (
        f"torch cannot export {type(module).__name__} as ONNX opset {opset}: {reason}; "
        "its forward must be traceable (no branches on values, no Python side effects)"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's progress prints and notes off the user's screen; errors still raise."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
