"""What an executed node stands for, as the runtime itself tells it: names, metadata, neighbours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from toolkit.traces import ExecutedNode, NodeSpelling, matches, without

Match = Literal["name", "tensor", "metadata", "inferred"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The modules of one executed node, or the module that made a data movement necessary.

    A node with neither modules nor `layout` is unclaimed. `match` says how it was found. `guessed`: it
    stands with its neighbour in the list, with which it shares no tensor; coverage counts it as unclaimed.
    """

    node: ExecutedNode
    modules: tuple[str, ...] = ()
    match: Match | None = None
    layout: bool = False
    caused_by: str | None = None
    guessed: bool = False

    @property
    def explained(self) -> bool:
        """Whether the node is known to stand for its modules."""
        return bool(self.modules) and not self.guessed


def module_of(node_name: str) -> str:
    """Return the module in a node's name as cnnkit's exporter writes it (`<module>/<Op>`)."""
    module, slash, op = node_name.rpartition("/")
    return module if slash and module.strip("/") and op[:1].isupper() else node_name


def own_claims(nodes: Sequence[ExecutedNode], spelling: NodeSpelling) -> Iterable[Claim]:
    """Yield claims by the runtime's own names, where there is no source graph to lay them over."""
    known = {name for node in nodes for name in node.origins if len(node.origins) > 1 or node.type != "layer"}
    named = [tuple(_known(name, known, spelling) for name in node.origins) for node in nodes]
    shared = _scopes(name for names in named for name in names)
    for node, names in zip(nodes, named, strict=True):
        modules = node.modules or tuple(
            dict.fromkeys(n if _scope(n) in shared else module_of(n) for n in names)
        )
        if node.moves_data:
            yield Claim(node=node, layout=True, caused_by=next(iter(modules), None), match="inferred")
        else:
            match: Match | None = ("name" if node.modules else "metadata") if modules else None
            yield Claim(node=node, modules=modules, match=match)


def _scope(name: str) -> str | None:
    """Return the scope of a node whose name another exporter wrote (`/a/MatMul`); None for other names."""
    scope, slash, _ = name.rpartition("/")
    return scope if slash and name.startswith("/") else None


def _scopes(names: Iterable[str]) -> set[str]:
    """Return the scopes with several nodes, which are no layers then: each node stands for itself."""
    counts = Counter(_scope(name) for name in set(names))
    return {scope for scope, count in counts.items() if scope is not None and count > 1}


def _known(name: str, known: set[str], spelling: NodeSpelling) -> str:
    """Return the node that a kernel's `node_linear_1_2` numbers, where that one is known."""
    plain = without(spelling.kernel_number, name)
    return plain if name not in known and plain in known else name


def inferred_regions(claims: Sequence[Claim], spelling: NodeSpelling) -> tuple[Claim, ...]:
    """Let kernels that no node named stand with the kernel that they read from, else with their neighbour."""
    found = list(claims)
    for index, entry in enumerate(found):
        if entry.modules or not matches(spelling.nameless, entry.node.name):
            continue
        node = entry.node
        before = [c for c in found[:index] if c.modules]
        after = [c for c in found[index + 1 :] if c.modules]
        writers = [c for c in before if set(c.node.outputs) & set(node.inputs)]
        near = next(iter([*reversed(writers), *reversed(before), *after]), None)
        if near is None:
            continue
        if node.moves_data:
            cause = next(iter(after or [near])).modules[0]
            found[index] = Claim(node=node, layout=True, caused_by=cause, match="inferred")
        else:
            found[index] = Claim(node=node, modules=near.modules, match="inferred", guessed=not writers)
    return tuple(found)
