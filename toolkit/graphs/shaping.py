"""A graph's ends as all of cnnkit expects them: one batch or any, scores first and (N, K)."""

from __future__ import annotations

import math
from typing import Any

from toolkit.graphs.ends import forget_output_shapes
from toolkit.graphs.naming import note_modules, rename


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
    """Make the first output (N, K) where it is (N, K, 1, 1), (N, 1, K), (N,), or K alone, in place.

    K alone is a row of scores where the batch is one.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    output = model.graph.output[0]
    tensor = output.type.tensor_type
    rank = len(tensor.shape.dim) if tensor.HasField("shape") else 2
    if rank == 2:
        return model
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    alone = rank == 1 and batch.dim_value == 1
    outer, whole = output.name, type(output).FromString(output.SerializeToString())
    inner = f"{outer}/whole"
    rename(model, lambda value: inner if value == outer else value)
    whole.name = inner
    model.graph.value_info.append(whole)
    output = model.graph.output[0]
    output.name = outer
    if rank > 2:
        node = helper.make_node("Flatten", [inner], [outer], name="/squeeze/Flatten", axis=1)
    else:  # one number an input, or a row alone where the batch is one
        extents = [1, -1] if alone else [-1, 1]
        shape = numpy_helper.from_array(np.array(extents, np.int64), "/squeeze/Reshape.shape")
        model.graph.initializer.append(shape)
        node = helper.make_node("Reshape", [inner, shape.name], [outer], name="/squeeze/Reshape")
    note_modules(node, ["/squeeze"], "squeeze")
    model.graph.node.append(node)
    dims = whole.type.tensor_type.shape.dim
    rows = batch.dim_value or batch.dim_param or None
    columns = math.prod(dim.dim_value for dim in dims[1:]) if rank > 2 else dims[0].dim_value if alone else 1
    kind = whole.type.tensor_type.elem_type
    output.CopyFrom(helper.make_tensor_value_info(outer, kind, [rows, columns or None]))
    return model
