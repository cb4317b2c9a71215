"""What a network that came as ONNX is made of: its nodes as layers, without the torch model."""

from __future__ import annotations

from pathlib import Path

from toolkit.errors import CnnkitError
from toolkit.graphs.counting import SourceGraph, SourceNode, count_graph
from toolkit.modules import ModuleRow


def rows_of_graph(path: Path, batch: int) -> tuple[tuple[int, ...], tuple[ModuleRow, ...]]:
    """Return the shape of a graph's first input at a batch, and a row for each node that computes.

    Extents that are open beside the batch count as 1, what shape inference cannot tell as 0 bytes. Weights
    stand on the first node that reads them. Raises CorruptError.
    """
    graph = count_graph(path, batch=batch)
    if not graph.inputs or not graph.nodes:
        what = "takes no input" if not graph.inputs else "computes nothing"
        raise CnnkitError(f"{path} {what}: there are no layers to show")
    _, extents = next(iter(graph.inputs.values()))
    shape = (batch, *(extent or 1 for extent in extents[1:]))
    return shape, tuple(_row(node, graph) for node in graph.nodes)


def _row(node: SourceNode, graph: SourceGraph) -> ModuleRow:
    read = [graph.tensor_bytes.get(name, 0) for name in node.inputs if name not in graph.constants]
    return ModuleRow(
        name=node.name,
        call=1,
        type=node.type,
        output_shape=node.output_shape or (),
        parameters=node.parameters,
        macs=node.macs,
        weights_bytes=node.weights_bytes,
        activation_bytes=node.output_bytes or 0,
        read_bytes=sum(read),
        written_bytes=node.output_bytes or 0,
        uncounted=node.uncounted,
    )
