"""What is profiled: the modules of a network, whatever the file it comes from, in the order of execution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import zoo
from toolkit.artifacts import Artifact
from toolkit.errors import NotFoundError, ShapeError
from toolkit.graphs.counting import SourceGraph
from toolkit.passports import Passport
from toolkit.profiling.network.construction import watched_construction
from toolkit.profiling.network.flow import EMPTY, Flow, flows
from toolkit.traces import ExecutedNode

if TYPE_CHECKING:
    from toolkit.modules import ModuleRow


@dataclass(frozen=True, kw_only=True)
class Module:
    """One call of a layer at the profiled batch; sizes are bytes in fp32 unless the graph says else.

    `activation_bytes` is new memory. `read_bytes` and `written_bytes` are what an ideal kernel moves of
    activations, in place or not; `flow` names the tensors, None where no graph tells them.
    `uncounted` says why `macs` is None.
    """

    name: str
    type: str
    output_shape: tuple[int, ...] | None = None
    parameters: int | None = None
    macs: int | None = None
    uncounted: str | None = None
    weights_bytes: int | None = None
    activation_bytes: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    flow: Flow | None = None
    source: str | None = None


ELSEWHERE = "PyTorch counts it with another module"
FIGURES = tuple(field.name for field in fields(Module) if field.name not in ("name", "type", "source"))


def modules_of(
    passport: Passport | None,
    graph: SourceGraph | None,
    *,
    batch: int,
    model_file: Path | None = None,
    ran: Sequence[ExecutedNode] = (),
) -> tuple[Module, ...]:
    """Return every module: of the torch network where it is known, then those only the graph names.

    `ran` are that network's calls, where PyTorch has just run it; else it is walked without data.
    """
    own = _from_torch(passport, batch=batch, model_file=model_file, ran=ran) if passport else ()
    if graph is None:
        return own
    found = _from_graph(graph)
    if not own:
        return tuple(found.values())
    known = tuple(_with_flow(module, found.get(module.name)) for module in own)
    names = {module.name for module in own}
    if not names & found.keys():  # another network under a name of the zoo
        return tuple(found.values())
    # what they compute and hold is counted where the walk saw it
    others = (module for name, module in found.items() if name not in names)
    return (
        *known,
        *(replace(m, macs=None, parameters=0, weights_bytes=0, uncounted=ELSEWHERE) for m in others),
    )


NetworkKey = tuple[object, ...]


def network_of(artifact: Artifact) -> NetworkKey:
    """Return what is equal for two artifacts of one network; a file without a passport is its own."""
    known = artifact.passport
    if not known.sha256:
        return (artifact.path,)
    return (known.model, known.input.shape, known.columns)


def shared(networks: Iterable[Iterable[Module]]) -> tuple[Module, ...]:
    """Return the modules of all networks, each name once; what networks hold to be different is None."""
    found: dict[str, Module] = {}
    for network in networks:
        for module in network:
            known = found.setdefault(module.name, module)
            unlike: dict[str, Any] = {
                name: None for name in FIGURES if getattr(known, name) != getattr(module, name)
            }
            found[module.name] = replace(known, **unlike)
    return tuple(found.values())


def _with_flow(module: Module, named: Module | None) -> Module:
    """Add the tensors that the graph names; a module that left no node reads and writes none."""
    return replace(module, flow=named.flow if named else EMPTY)


def _from_torch(
    passport: Passport, *, batch: int, model_file: Path | None, ran: Sequence[ExecutedNode]
) -> tuple[Module, ...]:
    """Walk the network on torch's meta device; empty where it is not in the zoo or torch is not here.

    A file without a passport is not in the zoo, whatever it is called; nor is one whose input does not fit.
    """
    if not passport.sha256 or len(passport.input.shape) < 2:
        return ()
    try:
        spec = zoo.model(passport.model, model_file=model_file)
        from toolkit.modules import shadow, walk
    except (NotFoundError, ImportError):
        return ()
    shape = (batch, *(extent or 1 for extent in passport.input.shape[1:]))
    with watched_construction() as lines:
        module = shadow(spec.build, shape[1], passport.columns or spec.classes)
    made_at = {name: lines.get(id(part)) for name, part in module.named_modules()}
    # a walk on the meta device imports torch's compiler, which takes 1.4 s
    try:
        found = tuple(map(_of_call, ran)) or tuple(map(_of_row, walk(module, shape)))
    except ShapeError:
        return ()
    return tuple(replace(m, source=made_at.get(m.name.partition("#")[0])) for m in found)


def _of_row(row: ModuleRow) -> Module:
    return Module(
        name=row.name,
        type=row.type,
        output_shape=row.output_shape,
        parameters=row.parameters,
        macs=row.macs,
        uncounted=row.uncounted,
        weights_bytes=row.weights_bytes,
        activation_bytes=row.activation_bytes,
        read_bytes=row.read_bytes,
        written_bytes=row.written_bytes,
    )


def _of_call(node: ExecutedNode) -> Module:
    return Module(
        name=node.name,
        type=node.type,
        output_shape=node.output_shape,
        parameters=node.parameters,
        macs=node.macs,
        uncounted=node.uncounted,
        weights_bytes=node.weights_bytes,
        activation_bytes=node.output_bytes,
        read_bytes=node.read_bytes,
        written_bytes=node.written_bytes,
    )


def _from_graph(graph: SourceGraph) -> dict[str, Module]:
    """Return the modules that a graph's nodes name, with the sums of their nodes' figures.

    A node of several modules (a folded batch norm) counts for the first of them.
    """
    parts: dict[str, list[int]] = {}
    for index, node in enumerate(graph.nodes):
        for place, name in enumerate(node.modules):
            parts.setdefault(name, [])
            if place == 0:
                parts[name].append(index)
    flow = flows(graph)
    return {name: _module(graph, name, indices, flow[name]) for name, indices in parts.items()}


def _module(graph: SourceGraph, name: str, indices: list[int], flow: Flow) -> Module:
    nodes = [graph.nodes[index] for index in indices]
    last = nodes[-1] if nodes else None
    return Module(
        name=name,
        type=next((node.type for node in nodes if node.type), "folded"),
        output_shape=last.output_shape if last else None,
        parameters=sum(node.parameters for node in nodes),
        macs=total(node.macs for node in nodes),
        uncounted=next((node.uncounted for node in nodes if node.uncounted), None),
        weights_bytes=sum(node.weights_bytes for node in nodes),
        activation_bytes=last.output_bytes if last else 0,
        read_bytes=total(flow.reads.values()),
        written_bytes=total(flow.writes.values()),
        flow=flow,
    )


def total(values: Iterable[int | None]) -> int | None:
    """Return the sum, or None where a part of it is unknown."""
    found = 0
    for value in values:
        if value is None:
            return None
        found += value
    return found
