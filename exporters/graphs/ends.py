"""A network's ends as all of cnnkit expects them: one batch or any, scores first and (N, K)."""

from __future__ import annotations

from typing import Any

from toolkit.errors import CnnkitError
from toolkit.graphs.asking import Nature
from toolkit.graphs.ends import forget_output_shapes
from toolkit.graphs.naming import note_modules, rename
from toolkit.graphs.recognising import Form


def require_provable(
    nature: Nature, what: str, batches: tuple[int, ...], form: Form | None = None
) -> int | None:
    """Return the only batch that a network is exported for, None where it takes any.

    A graph that measures its ranges anew at each run (`form` dynamic) does so over a whole batch, and gets
    batches of 1.

    Raises CnnkitError, with the node's name, where answers change from call to call, or depend on the rest
    of a batch and no batch of 1 was asked for.
    """
    if nature.changes is not None:
        raise CnnkitError(
            f"{what} answers the same input differently from call to call, by its node {nature.changes!r}: "
            "no file of it can be proven; export it in inference mode, without dropout or noise"
        )
    if nature.mixes is not None and batches != (1,) and form != "dynamic":
        raise CnnkitError(
            f"{what} answers an input differently with what else is in its batch, by its node "
            f"{nature.mixes!r}; export it in inference mode (`model.eval()`), or add `--batch 1` for a file "
            "that takes one input at a time"
        )
    return 1 if nature.mixes is not None else nature.batch


def shape_ends(model: Any, *, outputs: tuple[str, ...], batch: int | None) -> Any:
    """Give a graph its one batch, put the output of the scores first and squeeze it to (N, K), in place.

    `outputs` are its outputs' names in the wanted order, empty for the graph's own.
    """
    graph = model.graph
    dims = graph.input[0].type.tensor_type.shape.dim
    if batch is not None and dims and dims[0].dim_value != batch:
        dims[0].dim_value = batch
        forget_output_shapes(model)
        del graph.value_info[:]
    order = {name: index for index, name in enumerate(outputs)}
    if outputs and [value.name for value in graph.output] != list(outputs):
        sorted_outputs = sorted(graph.output, key=lambda value: order.get(value.name, len(order)))
        copies = [type(value).FromString(value.SerializeToString()) for value in sorted_outputs]
        del graph.output[:]
        graph.output.extend(copies)
    return model


def squeeze_scores(model: Any) -> Any:
    """Make the first output (N, K) where it is (N, K, 1, 1), or K alone for a batch of one, in place."""
    import numpy as np
    from onnx import helper, numpy_helper

    output = model.graph.output[0]
    tensor = output.type.tensor_type
    rank = len(tensor.shape.dim) if tensor.HasField("shape") else 2
    if rank == 2:
        return model
    outer, whole = output.name, type(output).FromString(output.SerializeToString())
    inner = f"{outer}/whole"
    rename(model, lambda value: inner if value == outer else value)
    whole.name = inner
    model.graph.value_info.append(whole)
    output = model.graph.output[0]
    output.name = outer
    if rank > 2:
        node = helper.make_node("Flatten", [inner], [outer], name="/squeeze/Flatten", axis=1)
    else:
        shape = numpy_helper.from_array(np.array([1, -1], np.int64), "/squeeze/Reshape.shape")
        model.graph.initializer.append(shape)
        node = helper.make_node("Reshape", [inner, shape.name], [outer], name="/squeeze/Reshape")
    note_modules(node, ["/squeeze"], "squeeze")
    model.graph.node.append(node)
    dims = whole.type.tensor_type.shape.dim
    rows = (dims[0].dim_value or dims[0].dim_param or None) if rank > 2 else 1
    columns = dims[1].dim_value if rank > 2 else dims[0].dim_value
    kind = whole.type.tensor_type.elem_type
    output.CopyFrom(helper.make_tensor_value_info(outer, kind, [rows, columns or None]))
    return model
