"""A torch module → an ONNX graph with a dynamic batch, in memory, its nodes named after modules."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from toolkit.errors import CnnkitError, needs_extra
from toolkit.graphs.naming import name_graph
from toolkit.graphs.reading import refuse_too_large
from toolkit.graphs.weights import weights_as_inputs

if TYPE_CHECKING:
    from torch import nn


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
    with needs_extra("export"):
        import onnxscript  # noqa: F401  (torch's exporter needs it; name the extra when it is missing)
        import torch
    size = sum(p.numel() * p.element_size() for p in (*module.parameters(), *module.buffers()))
    refuse_too_large(size, "this network")
    with quiet():
        try:
            program = torch.onnx.export(
                module,
                (torch.zeros(2, *shape),),  # a batch of one would be captured as a constant
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
    return finish(model)


def finish(model: Any, *, strict: bool = True) -> Any:
    """Infer every value's shape, have onnx check the graph, and return the model, changed in place.

    Graphs from elsewhere are inferred as far as it goes (`strict` False): they may hold operators
    whose shapes onnx cannot tell. Raises CnnkitError.
    """
    import onnx

    if strict:
        del model.graph.value_info[:]
    light = weights_as_inputs(model)
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


def _call_batch(model: Any) -> None:
    """Give the free first extent of inner values the input's name for it, where inference lost it."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    name = dims[0].dim_param if dims else ""
    for value in model.graph.value_info if name else ():
        inner = value.type.tensor_type.shape.dim
        if len(inner) > 1 and inner[0].dim_param.startswith("unk__"):
            inner[0].dim_param = name


def _cannot(module: nn.Module, opset: int, error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
    return (
        f"torch cannot export {type(module).__name__} as ONNX opset {opset}: {reason}; "
        "its forward must be traceable (no branches on values, no Python side effects)"
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep exporters' and converters' prints and notes off the user's screen; errors still raise."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """Hold Python's collector back inside the block and run it once at its end, over what is new since.

    torch's exporter leaves a network's weights in cycles, twice, so it must run before they are proven.
    """
    ran = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        if ran:
            gc.enable()
