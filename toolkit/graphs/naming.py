"""Nodes and values get the names of the modules they came from.

A node is called `<module>/<Op>` and carries `cnnkit.modules`, a JSON list of every module in it (a
folded batch norm stands behind its convolution), and `cnnkit.type`, the first one's class. A module
is a leaf of the torch model by its path (`features.3`; called again: `relu#2`) or a functional call
(`layer1.0/add`, `/flatten`; again: `/flatten#2`). What torch's exporter records of its own, which
includes paths of the machine it ran on, is removed.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.graphs.ordering import rename_in_node

if TYPE_CHECKING:
    from torch import fx, nn
    from torch.export import ExportedProgram

MODULES = "cnnkit.modules"
TYPE = "cnnkit.type"

_PART = re.compile(r"_split_\d+$")
_IN_PLACE = re.compile(r"^i(?=(?:add|sub|mul|truediv|div|and|or|matmul)$)")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where an operation came from: the module's name and its class, or the function's name."""

    module: str
    type: str


def name_graph(model: Any, program: ExportedProgram, module: nn.Module, *, output_name: str) -> None:
    """Rename the nodes and values of a freshly exported onnx.ModelProto in place."""
    origins = _origins(program, module)
    carried = _carried(model, program, origins)
    for node in model.graph.node:
        found = carried.get(_traced(node, origins) or "", [])
        del node.metadata_props[:]
        note_modules(node, [o.module for o in found], found[0].type if found else None)
    graph = model.graph
    for told in (*graph.input, *graph.output, *graph.value_info, *graph.initializer, graph, model):
        del told.metadata_props[:]
    name_nodes(model)
    name_values(model, output_name=output_name, keep=set(module.state_dict()))


def note_modules(node: Any, modules: list[str], kind: str | None) -> None:
    """Record on a node which modules it came from; `[]` marks one that only moves data."""
    for key, value in ((MODULES, json.dumps(modules, ensure_ascii=False)), (TYPE, kind)):
        if value is not None:
            node.metadata_props.add(key=key, value=value)


def modules_of(node: Any) -> list[str] | None:
    """Return the modules recorded on a node; None where nothing was recorded."""
    found = next((entry.value for entry in node.metadata_props if entry.key == MODULES), None)
    return None if found is None else [str(name) for name in json.loads(found)]


def name_nodes(model: Any) -> None:
    """Call each node `<first module>/<Op>`; a second of that name gets `_2`, and so on."""
    taken: dict[str, int] = defaultdict(int)
    for node in model.graph.node:
        modules = modules_of(node)
        base = f"{modules[0]}/{node.op_type}" if modules else node.name or f"/{node.op_type}"
        taken[base] += 1
        node.name = base if taken[base] == 1 else f"{base}_{taken[base]}"


def name_values(model: Any, *, output_name: str | None = None, keep: Iterable[str]) -> None:
    """Call each value like the node that makes it, constants by their reader.

    Outputs become `output_name`, `<output_name>_2` …, or keep their names where it is None. A node from
    elsewhere may be called as an input, a weight or an output is: what it makes gets a name beside that.
    """
    import onnx

    kept, graph = set(keep), model.graph
    new: dict[str, str] = {}
    for index, value in enumerate(graph.output):
        called = output_name or value.name
        new[value.name] = called if index == 0 or output_name is None else f"{called}_{index + 1}"
    taken = {*new.values(), *kept, *(value.name for value in graph.input)}

    def call(value: str, wanted: str) -> None:
        while wanted in taken:
            wanted += "_"
        taken.add(wanted)
        new[value] = wanted

    constants = {tensor.name for tensor in graph.initializer} - kept
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name and name not in new:
                call(name, node.name if index == 0 else f"{node.name}:{index}")
        inputs = onnx.defs.get_schema(node.op_type).inputs if not node.domain else ()
        for index, name in enumerate(node.input):
            if name in constants and name not in new:
                call(name, f"{node.name}.{inputs[index].name if index < len(inputs) else index}")
    rename(model, lambda name: new.get(name, name))


def rename(model: Any, new: Callable[[str], str]) -> None:
    """Rename every value of a graph in place: inputs, outputs, initializers and what nodes read.

    So do the branches and bodies inside nodes, which read values around them by name.
    """
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new(value.name)
    for node in graph.node:
        rename_in_node(node, new)


def _origins(program: ExportedProgram, module: nn.Module) -> dict[str, Origin]:
    """Return the origin of each traced operation, in the order of execution, by its fx name."""
    found: dict[str, Origin] = {}
    calls: dict[str, list[str]] = defaultdict(list)
    parts = module.named_modules(remove_duplicate=False)
    leaves = {path for path, part in parts if path and _is_leaf(part)}
    for node in program.graph.nodes:
        stack = list(node.meta.get("nn_module_stack", {}).items())
        if node.op != "call_function" or not stack or stack[-1][0].startswith("_empty"):
            continue
        # the outermost layer: what one calls inside is its own business
        key, (path, kind) = next((entry for entry in stack if entry[1][0] in leaves), stack[-1])
        if path in leaves:
            name, call, kind = path, key, kind.rpartition(".")[2]
        else:
            function, call = _function(node)
            name, call, kind = f"{path}/{function}", f"{key}/{call}", function
        if call not in calls[name]:
            calls[name].append(call)
        index = calls[name].index(call)
        found[node.name] = Origin(module=f"{name}#{index + 1}" if index else name, type=kind)
    return found


def _is_leaf(part: nn.Module) -> bool:
    """Tell whether a module is one layer, as the walk does (toolkit/modules/calls.py)."""
    from torch.nn import MultiheadAttention

    return isinstance(part, MultiheadAttention) or not any(True for _ in part.children())


def _function(node: fx.Node) -> tuple[str, str]:
    """Return the name of the function that the user called, and a key of that one call."""
    call, name = node.meta.get("torch_fn") or (node.name, str(node.target))
    plain = name.rpartition(".")[2].strip("_")
    return _IN_PLACE.sub("", plain), call


def _traced(node: Any, origins: dict[str, Origin]) -> str | None:
    """Return the fx name that an exported node was made for; None where the exporter does not say."""
    told = (entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes")
    scopes = ast.literal_eval(next(told, "[]"))
    # a Split has no scopes: its outputs are called after the operation that was traced
    outputs = (name for output in node.output for name in (output, _PART.sub("", output)))
    return next((str(name) for name in (*scopes[-1:], *outputs) if name in origins), None)


def _carried(model: Any, program: ExportedProgram, origins: dict[str, Origin]) -> dict[str, list[Origin]]:
    """Return, for each traced operation that became a node, the origins of all that is in the node.

    An operation without a node of its own was folded into the next one: a convolution's batch norm
    takes the convolution in (the exporter writes the norm's scope on the merged node).
    """
    present = {traced for node in model.graph.node if (traced := _traced(node, origins))}
    order = [node for node in program.graph.nodes if node.name in origins]
    # a module with a node anywhere stands there; only what has none at all was folded elsewhere
    own = {origins[node.name]: node.name for node in reversed(order) if node.name in present}
    carrier: dict[str, str] = {}
    for node in reversed(order):
        users = [user.name for user in node.users if user.name in carrier]
        home = node.name if node.name in present else own.get(origins[node.name])
        if home or users:
            carrier[node.name] = home or carrier[users[0]]
    for node in order:
        inputs = [source.name for source in node.all_input_nodes if source.name in carrier]
        if node.name not in carrier and inputs:
            carrier[node.name] = carrier[inputs[0]]
    found: dict[str, list[Origin]] = defaultdict(list)
    for node in order:
        if node.name in carrier and origins[node.name] not in found[carrier[node.name]]:
            found[carrier[node.name]].append(origins[node.name])
    return found
