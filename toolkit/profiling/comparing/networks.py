"""Two networks held against each other without running them: modules, shapes, types, settings and weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from toolkit.artifacts import artifacts_root, path_of
from toolkit.errors import CnnkitError, GateError
from toolkit.figures import names_text, shape_text
from toolkit.graphs import GRAPH
from toolkit.presence import is_file
from toolkit.profiling.comparing.groups import PartGroup, grouped
from toolkit.profiling.comparing.parts import NetworkPart, ReadNetwork, WeightTensor, difference_of
from toolkit.profiling.comparing.reading import kind_of, read_network
from toolkit.profiling.comparing.weight_parts import by_owners
from toolkit.profiling.comparing.wiring import rewired
from toolkit.tables import TextTable
from toolkit.telling import Tell, silent

Change = Literal[
    "added", "removed", "fused otherwise", "renamed", "type", "wiring", "shape", "settings", "weights", "ends"
]
# in the order in which a reader wants to know
ORDER: tuple[Change, ...] = (
    *("added", "removed", "fused otherwise", "type", "wiring", "shape", "settings", "ends", "weights"),
    "renamed",
)
_NAMED = 3  # of the weights that cannot be compared
HEAD = ("change", "module", "before", "after")


@dataclass(frozen=True, kw_only=True)
class NetworkChange:
    """One thing that differs; `difference` is the largest one of two tensors' values, None where unknown."""

    change: Change
    module: str
    before: str | None = None
    after: str | None = None
    difference: float | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkComparison:
    """Two networks held against each other; `same` is how many modules are alike in everything compared."""

    before: str
    after: str
    changes: tuple[NetworkChange, ...]
    same: int
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether nothing differs but names."""
        return all(entry.change == "renamed" for entry in self.changes)

    def require(self) -> Self:
        """Return the comparison of equal networks. Raises GateError, which says what differs."""
        if not self.equal:
            raise GateError(f"--strict: the networks differ: {self.summary()}")
        return self

    def summary(self) -> str:
        """Say in one line what differs."""
        counts = Counter(entry.change for entry in self.changes)
        told = [_counted(kind, counts[kind]) for kind in ORDER if counts[kind]]
        largest = max((entry.difference or 0.0 for entry in self.changes), default=0.0)
        apart = f" (by {largest:.2g} at most)" if largest else ""
        alike = f"{self.same} modules alike"
        return f"{', '.join(told)}{apart}; {alike}" if told else f"no difference; {alike}"

    def table(self, most: int | None = None) -> TextTable:
        """Return what differs, what was added and removed first; `most` rows of each kind."""
        kinds = [[entry for entry in self.changes if entry.change == kind] for kind in ORDER]
        rows = []
        for own in kinds:
            own.sort(key=lambda entry: -(entry.difference or 0.0))
            shown = own if most is None or len(own) <= most else own[:most]
            rows += [_texts(entry) for entry in shown]
            if len(shown) < len(own):
                rows.append((own[0].change, f"{len(own) - len(shown)} more", "", ""))
        return TextTable(rows=tuple(rows), head=HEAD, title=f"{self.before} → {self.after}")

    def markdown(self) -> str:
        """Return the comparison as Markdown, the table folded away."""
        lines = [f"### cnnkit: {self.before} → {self.after}: {self.summary()}", ""]
        lines += [f"- {note}" for note in self.notes] + [""] * bool(self.notes)
        lines += [
            "<details><summary>what differs</summary>",
            "",
            f"| {' | '.join(HEAD)} |",
            "|---|---|---|---|",
        ]
        lines += [f"| {' | '.join(text.replace('|', '∥') for text in row)} |" for row in self.table().rows]
        return "\n".join([*lines, "", "</details>"])

    def _repr_html_(self) -> str:
        return self.table().html()


def _counted(kind: Change, count: int) -> str:
    nouns: dict[Change, tuple[str, str]] = {
        "type": ("type differs", "types differ"),
        "wiring": ("module reads from elsewhere", "modules read from elsewhere"),
        "shape": ("shape differs", "shapes differ"),
        "settings": ("module is set otherwise", "modules are set otherwise"),
        "ends": ("input or output differs", "inputs or outputs differ"),
        "weights": ("tensor of weights differs", "tensors of weights differ"),
    }
    return f"{count} {nouns[kind][count > 1] if kind in nouns else kind}"


def _texts(entry: NetworkChange) -> tuple[str, str, str, str]:
    after = entry.after or ""
    if entry.difference:
        after = f"{after} (by {entry.difference:.2g} at most)".strip()
    return entry.change, entry.module, entry.before or "", after


def compare_networks(
    before: Path | str,
    after: Path | str,
    *,
    root: Path | str | None = None,
    model_file: Path | str | None = None,
    tell: Tell = silent,
) -> NetworkComparison:
    """Compare two networks, each an ONNX file, a file of weights or a name, without running them.

    `model_file` is a Python file of one's own with the code of the networks that are named; it is run.

    What is compared: modules that only one has, modules that one node computes in one and several in the
    other, types, output shapes at batch 1, settings, inputs and outputs, and every tensor of weights with the
    largest difference of its values; between two graphs, and two networks of torch, which modules each reads
    from. Parts of other names are paired by kind, shapes and order.
    Raises NotFoundError with the nearest match, CorruptError for a file that is neither, CnnkitError for a
    profile.
    """
    for side in (before, after):
        if is_file(Path(side)) and kind_of(Path(side)) == "profile":
            raise CnnkitError(f"{side} is no network but a profile, which is compared with a profile")
    tell(f"reading {before} and {after} …")
    first, second = (
        read_network(side, root=artifacts_root(root), model_file=path_of(model_file))
        for side in (before, after)
    )
    parts, uncalled = _comparable(first, second)
    groups, names = grouped(*parts)
    changes = [change for group in groups for change in _group(group, first, second)]
    changes += [
        NetworkChange(change="wiring", module=entry.what, before=entry.before, after=entry.after)
        for entry in rewired(groups, first, second)
    ]
    touched = {entry.module for entry in changes}
    same = [group for group in groups if group.before and group.after and _label(group) not in touched]
    changes += _ends(first, second)
    changes += [
        NetworkChange(change="renamed", module=old, before=old, after=new) for old, new in names.items()
    ]
    return NetworkComparison(
        before=str(before),
        after=str(after),
        changes=tuple(sorted(changes, key=lambda entry: ORDER.index(entry.change))),
        same=sum(len({name for part in group.before for name in part.modules}) for group in same),
        notes=tuple(dict.fromkeys((*first.notes, *second.notes, *uncalled))),
    )


def _comparable(
    first: ReadNetwork, second: ReadNetwork
) -> tuple[tuple[tuple[NetworkPart, ...], tuple[NetworkPart, ...]], list[str]]:
    """Return the parts of both that can be held against one another, and in words which weights cannot.

    What no call of a layer holds has no name in a graph, and what holds no weights none among their names.
    """
    if first.dialect == second.dialect:
        return (first.parts, second.parts), []
    if GRAPH not in (first.dialect, second.dialect):
        owned = [tuple(one for part in side.parts for one in by_owners(part)) for side in (first, second)]
        return (owned[0], owned[1]), []
    kept = [tuple(part for part in side.parts if part.called) for side in (first, second)]
    left = [part.modules[0] for side in (first, second) for part in side.parts if not part.called]
    shown = ", ".join(left[:_NAMED]) + (f" and {len(left) - _NAMED} more" if len(left) > _NAMED else "")
    note = f"the weights of {shown} are not compared with a graph, as no layer's call holds them"
    return (kept[0], kept[1]), [note] if left else []


def _label(group: PartGroup) -> str:
    names = dict.fromkeys(name for part in (*group.before, *group.after) for name in part.modules)
    return names_text(tuple(names))


def _nodes(side: tuple[NetworkPart, ...], label: str) -> str:
    """Return which modules go together; what the label says of where they are is left out."""
    first = label.partition(" + ")[0]
    prefix = first[: max(first.rfind("."), first.rfind("/")) + 1]
    groups = (" + ".join(name.removeprefix(prefix) for name in part.modules) for part in side)
    return "one node" if len(side) == 1 else " | ".join(groups)


def _group(group: PartGroup, first: ReadNetwork, second: ReadNetwork) -> Iterator[NetworkChange]:
    label = _label(group)
    if not group.before or not group.after:
        own = group.before or group.after
        told = ", ".join(f"{part.type or 'weights'} {shape_text(part.output_shape)}" for part in own)
        if group.before:
            yield NetworkChange(change="removed", module=label, before=told)
        else:
            yield NetworkChange(change="added", module=label, after=told)
    elif group.fused_otherwise:
        before, after = _nodes(group.before, label), _nodes(group.after, label)
        yield NetworkChange(change="fused otherwise", module=label, before=before, after=after)
        yield from _shapes(label, group.before[-1], group.after[-1])
    else:
        for part in group.before:
            other = next(one for one in group.after if set(one.modules) == set(part.modules))
            one, another = first.dialect, second.dialect
            roles = one == another or GRAPH not in (one, another)
            yield from _part(label, part, other, settings=one == another, roles=roles)


def _part(
    label: str, part: NetworkPart, other: NetworkPart, *, settings: bool, roles: bool
) -> Iterator[NetworkChange]:
    kinds = (
        [" + ".join(side.ops) for side in (part, other)]
        if part.ops and other.ops
        else (part.type, other.type)
    )
    if kinds[0] and kinds[1] and kinds[0] != kinds[1]:
        yield NetworkChange(change="type", module=label, before=kinds[0], after=kinds[1])
    yield from _shapes(label, part, other)
    keys = dict.fromkeys((*part.settings, *other.settings)) if settings and kinds[0] == kinds[1] else ()
    unlike = [key for key in keys if part.settings.get(key) != other.settings.get(key)]
    if unlike:
        texts = [
            ", ".join(f"{key} {side.settings[key]}" for key in unlike if key in side.settings)
            for side in (part, other)
        ]
        yield NetworkChange(change="settings", module=label, before=texts[0], after=texts[1])
    for role in dict.fromkeys((*part.weights, *other.weights)):
        # what a layer and a node hold goes by the same names where both are torch's
        if roles or (role in part.weights and role in other.weights):
            yield from _weight(label, role, part.weights.get(role), other.weights.get(role))
    if part.converts and other.converts:  # where one side alone converts, its nodes are counted by kind
        for role in dict.fromkeys((*part.converts, *other.converts)):
            yield from _weight(label, role, part.converts.get(role), other.converts.get(role))


def _shapes(label: str, part: NetworkPart, other: NetworkPart) -> Iterator[NetworkChange]:
    shapes = part.output_shape, other.output_shape
    if None not in shapes and shapes[0] != shapes[1]:
        before, after = map(shape_text, shapes)
        yield NetworkChange(change="shape", module=label, before=before, after=after)


def _weight(
    label: str, role: str, tensor: WeightTensor | None, other: WeightTensor | None
) -> Iterator[NetworkChange]:
    texts = [_held(role, one) for one in (tensor, other)]
    apart = difference_of(tensor, other) if tensor and other else None
    unlike_values = tensor and other and tensor.values is not None and other.values is not None and apart != 0
    if texts[0] != texts[1] or unlike_values:
        yield NetworkChange(change="weights", module=label, before=texts[0], after=texts[1], difference=apart)


def _held(role: str, tensor: WeightTensor | None) -> str:
    if tensor is None:
        return f"no {role}"
    return f"{role}: {tensor.dtype} {shape_text(tensor.shape) if tensor.shape else 'scalar'}"


def _ends(first: ReadNetwork, second: ReadNetwork) -> Iterator[NetworkChange]:
    """Yield inputs and outputs that differ, and nodes that only convert or move data, by kind."""
    if first.ends and second.ends:
        for name in dict.fromkeys((*first.ends, *second.ends)):
            before, after = first.ends.get(name), second.ends.get(name)
            if before != after:
                yield NetworkChange(change="ends", module=name, before=before, after=after)
    if first.dialect == second.dialect:
        for op in dict.fromkeys((*first.conversions, *second.conversions)):
            before_count, after_count = first.conversions.get(op, 0), second.conversions.get(op, 0)
            if before_count != after_count:
                yield NetworkChange(
                    change="added" if after_count > before_count else "removed",
                    module=f"{op} ({abs(after_count - before_count)})",
                    before=f"{before_count} nodes",
                    after=f"{after_count} nodes",
                )
