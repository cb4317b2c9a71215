"""Which modules each executed node came from.

An optimized graph keeps the names of the tensors between its nodes, or of the tensor that a node was
made for (`<tensor>_nchwc`). So each executed node stands for the source nodes between the tensors it
reads and the one it writes: a cut, not a guess. Where a runtime hides the tensors, its metadata
names the source nodes; what remains is taken together with the node that reads it, as `inferred`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from toolkit.graphs.counting import SourceGraph
from toolkit.profiling.rows.claims import Claim, Match, inferred_regions, own_claims
from toolkit.traces import PLAIN, ExecutedNode, NodeSpelling, matches, without

# put in by runtimes to convert; a node of these operators that claims no module is layout
CONVERTING = frozenset({"Cast", "Transpose", "QuantizeLinear", "DequantizeLinear", "Identity", "Reshape"})
# x times one of these of x is an activation of its own (SiLU, HardSwish), which kernels take in as one
GATES = frozenset({"Sigmoid", "HardSigmoid"})
# converts what a quantised node wrote back to floats
DEQUANTIZES = "DequantizeLinear"


def claim(
    nodes: Sequence[ExecutedNode], graph: SourceGraph | None, spelling: NodeSpelling
) -> tuple[Claim, ...]:
    """Return a claim for each executed node, in their order.

    `spelling` is the runtime's. Without a source graph its own names stand for the modules.
    """
    outer = [node for node in nodes if node.inside is None]
    if graph is None:
        claims = inferred_regions(tuple(own_claims(outer, spelling)), spelling)
    else:
        claims = inferred_regions(Cut(outer, graph, spelling).claims(), spelling)
    return _with_bodies(nodes, claims)


def _with_bodies(nodes: Sequence[ExecutedNode], claims: Sequence[Claim]) -> tuple[Claim, ...]:
    """Let what ran in the body of an If or a Loop stand with that one, in the nodes' own order."""
    found = {claim.node.name: claim for claim in claims}
    for node in nodes:
        if node.inside is not None:
            modules = found[node.inside].modules
            found[node.name] = Claim(node=node, modules=modules, match="name" if modules else None)
    return tuple(found[node.name] for node in nodes)


class Cut:
    """One executed graph laid over its source."""

    def __init__(
        self, nodes: Sequence[ExecutedNode], graph: SourceGraph, spelling: NodeSpelling = PLAIN
    ) -> None:
        self.nodes, self.graph, self.spelling = nodes, graph, spelling
        self.by_name = {node.name: index for index, node in enumerate(graph.nodes)}
        self.producers, self.readers = graph.producers(), graph.readers()
        self.tensors = {*self.producers, *graph.inputs}
        self.known: dict[str, str] = {
            name: name for name in (*graph.inputs, *graph.constants)
        }  # executed tensor → source's
        self.written = {
            source
            for node in nodes
            for name in node.outputs
            if (source := self._source(name) or self._blocked(node))
        } | {source for node in nodes if (source := self._named_after(node))}
        self.order = self._ordered()
        self.moving = {i for i, node in enumerate(nodes) if node.moves_data or self._transposes(node)}
        self.behind = self._behind_movements()
        self.held = set(self.known.values())  # source tensors that any node leaves in memory
        self.targets: dict[int, list[str]] = {}
        for index in self.order:
            self.targets[index] = self._targets(index)
            self.held.update(self.targets[index])

    def _ordered(self) -> list[int]:
        """Return the nodes so that each comes after those it reads from, else in the given order."""
        makers = {name: i for i, node in enumerate(self.nodes) for name in node.outputs}
        done: dict[int, None] = {}
        for start in range(len(self.nodes)):
            stack = [(start, False)]
            while stack:
                index, ready = stack.pop()
                if index in done:
                    continue
                if ready:
                    done[index] = None
                    continue
                stack.append((index, True))
                needed = [makers[n] for n in self.nodes[index].inputs if n in makers]
                stack += [(i, False) for i in reversed(needed) if i not in done and (i, True) not in stack]
        return list(done)

    def _targets(self, index: int) -> list[str]:
        """Return the source tensors that a node writes, and note which of its outputs they are."""
        node = self.nodes[index]
        if named := self._named_after(node):
            return [self._followed(named, node)]
        found = []
        blocked = self._blocked(node)
        source = self._copied(node)
        for place, output in enumerate(node.outputs):
            if self._source(output):
                target: str | None = self._source(output)
            elif output in self.behind:
                target = self.behind[output]
            elif place == 0 and blocked:
                target = self._followed(blocked, node)
            elif index in self.moving or (source is None and node.type in CONVERTING):
                target = self.known.get(node.inputs[0]) if node.inputs else None
            elif source is not None and place < len(self.graph.nodes[source].outputs):
                target = self.graph.nodes[source].outputs[place]
            else:
                target = None
            if target is not None:
                self.known[output] = target
                found.append(target)
        return found

    def _transposes(self, node: ExecutedNode) -> bool:
        """Tell whether a transpose was put in by the runtime: the source has none of that output."""
        if node.type != "Transpose":
            return False
        source = self._source(node.outputs[0]) if node.outputs else None
        made = self.producers.get(source) if source else self.by_name.get(node.name)
        return made is None or self.graph.nodes[made].op != "Transpose"

    def _behind_movements(self) -> dict[str, str]:
        """Return the tensors that a movement turns into a source tensor: the same, laid out otherwise."""
        found: dict[str, str] = {}
        for index in reversed(self.order):
            node = self.nodes[index]
            if index not in self.moving or not node.outputs or not node.inputs:
                continue
            target = self._source(node.outputs[0]) or found.get(node.outputs[0])
            if target and not self._source(node.inputs[0]):
                found[node.inputs[0]] = target
        return found

    def _named_after(self, node: ExecutedNode) -> str | None:
        """Return the source tensor of the node that one without told tensors is named after."""
        if node.outputs or node.origins or node.moves_data:
            return None
        source = self.by_name.get(without(self.spelling.taken_in, node.name))
        if source is not None:
            return next(iter(self.graph.nodes[source].outputs), None)
        return self._blocked(node)

    def _blocked(self, node: ExecutedNode) -> str | None:
        """Return the source tensor that a blocked kernel (`<tensor>_nchwc`) was made for."""
        pattern = self.spelling.made_for
        named = pattern.match(node.name) if pattern else None
        return self._source(named[1]) if named else None

    def _copied(self, node: ExecutedNode) -> int | None:
        """Return the source node that an executed one has the name of, or is a numbered copy of."""
        return self.by_name.get(without(self.spelling.numbered, node.name))

    def _source(self, name: str) -> str | None:
        """Return the source tensor of that name, or of which the name was made by moving it."""
        plain = name if name in self.tensors else without(self.spelling.moved, name)
        return plain if plain in self.tensors else None

    def _followed(self, tensor: str, node: ExecutedNode) -> str:
        """Return the tensor after the sum and the activation that a blocked kernel also does.

        The kernel keeps the name of the convolution's output; what follows and is written by no
        other node is inside it.
        """
        told = bool(node.outputs)
        # what a node reads that tells no tensors was written before it
        read = {self.known[name] for name in node.inputs if name in self.known} if told else self.held
        taken = self.spelling.follows if told else self.spelling.folds
        taken = taken | ({node.activation} if node.activation else set())
        while True:
            readers = self.readers.get(tensor, [])
            gated = self._gated(tensor, readers) if not told or node.activation else None
            if gated is not None:
                tensor = gated
                continue
            after = self.graph.nodes[readers[0]] if len(readers) == 1 else None
            if after is None or after.op not in taken or set(after.outputs) & self.written:
                return tensor
            others = set(after.inputs) - {tensor} - self.graph.constants
            if not others <= read or tensor in self.graph.outputs:
                return tensor
            tensor = after.outputs[0]

    def _gated(self, tensor: str, readers: Sequence[int]) -> str | None:
        """Return the product of a tensor and its gate (`x · sigmoid(x)`), which no other node writes."""
        nodes = [self.graph.nodes[index] for index in readers]
        gate = next((node for node in nodes if node.op in GATES), None)
        product = next((node for node in nodes if node.op == "Mul"), None)
        if len(nodes) != 2 or gate is None or product is None or tensor in self.graph.outputs:
            return None
        alone = len(self.readers.get(gate.outputs[0], [])) == 1 and gate.outputs[0] not in self.graph.outputs
        made = {*gate.outputs, *product.outputs} & self.written
        inputs = set(product.inputs) - self.graph.constants
        return product.outputs[0] if alone and not made and inputs == {tensor, gate.outputs[0]} else None

    def claims(self) -> tuple[Claim, ...]:
        covered: dict[int, list[int]] = {}
        pending: dict[str, list[int]] = {}  # executed tensor of unknown origin → the nodes behind it
        for index in self.order:
            node = self.nodes[index]
            if index in self.moving:
                continue
            behind = [i for name in node.inputs for i in pending.get(name, [])]
            cut = self._named(node) or self._between(node, self.targets[index])
            covered[index] = cut
            if node.outputs and not self.targets[index]:
                for name in node.outputs:
                    pending[name] = list(dict.fromkeys([*behind, index]))
                continue
            for other in dict.fromkeys(behind):
                covered[other] = sorted({*covered[other], *cut})
        return tuple(self._claim(index, covered.get(index, [])) for index in range(len(self.nodes)))

    def _named(self, node: ExecutedNode) -> list[int]:
        """Return the source nodes that the runtime itself names."""
        number = self.spelling.kernel_number
        names = {one for name in node.origins for one in (name, without(number, name))}
        found = {self.by_name[name] for name in names if name in self.by_name}
        if len(found) > 1 and matches(self.spelling.region, node.name):
            found |= self._region(found)
        return sorted(found)

    def _region(self, ends: set[int]) -> set[int]:
        """Return every source node that lies on a path between the ends of a region."""
        ahead, behind = self._reached(ends, forward=True), self._reached(ends, forward=False)
        return ahead & behind

    def _reached(self, starts: set[int], *, forward: bool) -> set[int]:
        found, queue = set(starts), list(starts)
        while queue:
            node = self.graph.nodes[queue.pop()]
            names = node.outputs if forward else node.inputs
            steps = (
                [i for n in names for i in self.readers.get(n, [])]
                if forward
                else [self.producers[n] for n in names if n in self.producers]
            )
            queue += [i for i in steps if i not in found]
            found.update(steps)
        return found

    def _between(self, node: ExecutedNode, targets: Iterable[str]) -> list[int]:
        """Return the source nodes between what a node writes and what any node leaves in memory."""
        found: set[int] = set()
        targets = set(targets)
        read = {self.known[name] for name in node.inputs if name in self.known}
        stack = [t for t in targets if t not in read]
        while stack:
            index = self.producers.get(stack.pop())
            if index is None or index in found:
                continue
            found.add(index)
            stack += [
                name
                for name in self.graph.nodes[index].inputs
                if name not in read and (name in targets or name not in self.held)
            ]
        return sorted(found)

    def _claim(self, index: int, cut: list[int]) -> Claim:
        node = self.nodes[index]
        modules = tuple(dict.fromkeys(m for i in cut for m in self.graph.nodes[i].modules))
        if modules and index not in self.moving:
            return Claim(node=node, modules=modules, match=self._match(index, cut))
        if index in self.moving or self._converts(node, cut):
            return Claim(node=node, layout=True, caused_by=self._cause(index), match="inferred")
        return Claim(node=node)

    def _converts(self, node: ExecutedNode, cut: Sequence[int]) -> bool:
        """Tell whether a node of no module only converts: all that it stands for does, or it by itself."""
        if cut:
            return all(self.graph.nodes[index].op in CONVERTING for index in cut)
        return node.type in CONVERTING

    def _match(self, index: int, cut: list[int]) -> Match:
        node = self.nodes[index]
        if node.origins:
            return "metadata"
        if not node.outputs or self._copied(node) in cut:
            return "name"
        return "tensor" if self.targets[index] else "inferred"

    def _cause(self, index: int) -> str | None:
        """Return the module that reads what a data movement writes, else the one that wrote it.

        A reorder out of a blocked layout is due to its producer, which wanted that layout.
        """
        node = self.nodes[index]
        origins = [m for i in self._named(node) for m in self.graph.nodes[i].modules]
        if origins:
            return origins[0]
        around = [*self.targets[index], *(self.known[n] for n in node.inputs if n in self.known)]
        ahead = [m for t in around if (m := self._reader(t))]
        behind = [m for t in around if (m := self._writer(t))]
        undoing = self.spelling.undoes | {DEQUANTIZES}
        undoes = node.type in undoing or set(node.inputs) & set(self.behind)
        order = [*behind, *ahead] if undoes else [*ahead, *behind]
        return next(iter(order), None)

    def _reader(self, tensor: str) -> str | None:
        seen, queue = set(), [tensor]
        while queue:
            for index in self.readers.get(queue.pop(0), []):
                if self.graph.nodes[index].modules:
                    return self.graph.nodes[index].modules[0]
                if index not in seen:
                    seen.add(index)
                    queue += self.graph.nodes[index].outputs
        return None

    def _writer(self, tensor: str) -> str | None:
        seen: set[str] = set()
        while tensor in self.producers and tensor not in seen:
            seen.add(tensor)
            node = self.graph.nodes[self.producers[tensor]]
            if node.modules:
                return node.modules[-1]
            tensor = node.inputs[0] if node.inputs else ""
        return None
