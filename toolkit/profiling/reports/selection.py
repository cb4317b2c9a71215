"""Which rows a report shows first, what the others add up to, and what rows of one type or stage sum to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from toolkit.figures import names_text, one_line
from toolkit.profiling.result import JOIN, Cell, CellMemory, Row, Run

# more rows than MANY are not read: the TOP costliest are shown, and what the others sum to
TOP, MANY = 20, 30
# a stage that takes more than this is divided, as long as there are no more than so many
LARGE_STAGE, MOST_STAGES = 0.4, 16
Number = TypeVar("Number", int, float)
PARTS = re.compile(r"[./]+")


@dataclass(frozen=True, kw_only=True)
class Selected:
    """The rows that are shown, in the order in which they are, and one of what the others sum to.

    `order` says in words what they are ordered by.
    """

    rows: tuple[Row, ...]
    others: Row | None
    count: int
    order: str


@dataclass(frozen=True, kw_only=True)
class Total:
    """What rows of one kind add up to: `ms` and `share` by column, None where none of them was timed."""

    name: str
    rows: int
    ms: Mapping[str, float | None]
    share: Mapping[str, float | None]


def selected(run: Run, top: int | None = None) -> Selected:
    """Return the costliest rows first: `top` of them, all where it is 0, in the network's own order then.

    None shows TOP of more than MANY. Each timed column counts alike; without times, multiply-adds do.
    """
    if top == 0:
        return Selected(rows=run.rows, others=None, count=0, order="in the network's order")
    timed = timed_keys(run)
    ordered = sorted(run.rows, key=lambda row: cost(row, timed), reverse=True)
    count = top or (TOP if len(ordered) > MANY else len(ordered))
    others = ordered[count:]
    order = "most multiply-adds first" if not timed else "costliest first"
    if len(timed) > 1:
        order += " by their mean share"
    return Selected(
        rows=tuple(ordered[:count]), others=_sum(others) if others else None, count=len(others), order=order
    )


def timed_keys(run: Run) -> list[str]:
    """Return the columns whose rows have times."""
    return [key for key, column in run.backends.items() if column.timed]


def cost(row: Row, timed: Sequence[str]) -> float:
    """Return what rows are ordered by: the sum of their shares, or their multiply-adds."""
    if not timed:
        return float(row.macs or 0)
    return sum(row.cells[key].share or 0.0 for key in timed if key in row.cells)


def _sum(rows: Sequence[Row]) -> Row:
    """Return one row with the sums of several; a figure that a part lacks counts as nothing."""
    keys = dict.fromkeys(key for row in rows for key in row.cells)
    return Row(
        modules=("others",),
        type="",
        macs=_known(row.macs for row in rows),
        cells={key: _cell([row.cells[key] for row in rows if key in row.cells]) for key in keys},
    )


def _cell(cells: Sequence[Cell]) -> Cell:
    return Cell(
        latency_ms=_known(cell.latency_ms for cell in cells),
        share=_known(cell.share for cell in cells),
        memory=CellMemory(
            weights_bytes=_known(cell.memory.weights_bytes for cell in cells),
            activation_bytes=_known(cell.memory.activation_bytes for cell in cells),
        ),
        nodes=tuple(name for cell in cells for name in cell.nodes),
    )


def _known(values: Iterable[Number | None]) -> Number | None:
    found = [value for value in values if value is not None]
    return sum(found[1:], found[0]) if found else None


def short_name(row: Row) -> str:
    """Return a row's label without what its later modules share with the first: `a.b.conv + norm + relu`."""
    return one_line(names_text(row.modules)) or row.label


def fitted_name(text: str, width: int) -> str:
    """Return a row's name in `width` letters: its later modules become a number, then its middle goes."""
    if len(text) <= width:
        return text
    first, *later = text.split(JOIN)
    return cut_middle(f"{first} +{len(later)}" if later else first, width)


def cut_middle(text: str, width: int) -> str:
    """Return a text of at most `width` letters: an ellipsis stands for its middle."""
    if len(text) <= width:
        return text
    end = (width - 1) * 3 // 4  # the end tells more than the beginning, which many names share
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def by_type(run: Run, most: int | None = None) -> tuple[Total, ...]:
    """Return what rows of each layer type sum to, the costliest first; one for all beyond `most`."""
    found = _totals(run, lambda row: row.type if row.modules else _KINDS.get(row.type, row.type))
    if most is None or len(found) <= most:
        return found
    small = {total.name for total in found[most - 1 :]}
    name = f"{len(small)} other types"
    named = {total.name: name if total.name in small else total.name for total in found}
    return _totals(run, lambda row: named[row.type if row.modules else _KINDS.get(row.type, row.type)])


_KINDS = {"layout": "data moved or converted", "overhead": "between the nodes"}


def by_stage(run: Run) -> tuple[Total, ...]:
    """Return what each stage of the network sums to, in the network's order: parts of the modules' paths.

    Stages are the first parts of the paths; one that takes much is divided into what it holds.
    """
    stages, homes = stages_of(run), homes_of(run)
    return _totals(
        run, lambda row: stages.get(owner_of(row, homes)) or _KINDS.get(row.type, row.type), ordered=False
    )


def stages_of(run: Run) -> dict[str, str]:
    """Return the stage of each row by the first of its modules."""
    timed, homes = timed_keys(run), homes_of(run)
    weight: dict[str, float] = {}
    for row in run.rows:
        if owner := owner_of(row, homes):
            weight[owner] = weight.get(owner, 0.0) + cost(row, timed)
    whole = sum(weight.values())
    stages = _inside(_Stage(depth=0, names=tuple(weight)))
    while True:
        costs = [sum(weight[name] for name in stage.names) for stage in stages]
        parts = [_inside(stage) for stage in stages]
        large = [
            index
            for index, found in enumerate(parts)
            if found and costs[index] >= LARGE_STAGE * whole and len(stages) + len(found) - 1 <= MOST_STAGES
        ]
        if not large or not whole:
            break
        place = max(large, key=costs.__getitem__)
        stages[place : place + 1] = parts[place]
    return {name: _beginning(name, stage.depth) for stage in stages for name in stage.names}


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """Modules whose paths begin with the same so many parts."""

    depth: int
    names: tuple[str, ...]


def _inside(stage: _Stage) -> list[_Stage]:
    """Return the stages that a stage holds; none where it is one module."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name in stage.names:
        found.setdefault(tuple(_parts(name)[: stage.depth + 1]), []).append(name)
    if len(stage.names) == 1 or all(len(_parts(name)) <= stage.depth for name in stage.names):
        return []
    return [_Stage(depth=stage.depth + 1, names=tuple(names)) for names in found.values()]


def _parts(name: str) -> list[str]:
    return [part for part in PARTS.split(name) if part]


def _beginning(name: str, depth: int) -> str:
    """Return the first parts of a path as they are written."""
    ends = [match.start() for match in PARTS.finditer(name) if match.start()]
    return name[: ends[depth - 1]] if depth <= len(ends) else name


def homes_of(run: Run) -> dict[str, str]:
    """Return the first module of each module's row."""
    return {name: row.modules[0] for row in run.rows for name in row.modules}


def owner_of(row: Row, homes: Mapping[str, str]) -> str:
    """Return the first module of a row, or of the row that it moves data for; empty where there is none."""
    return row.modules[0] if row.modules else homes.get(row.caused_by or "", "")


def _totals(run: Run, kind: Callable[[Row], str], *, ordered: bool = True) -> tuple[Total, ...]:
    timed = timed_keys(run)
    groups: dict[str, list[Row]] = {}
    for row in run.rows:
        groups.setdefault(kind(row), []).append(row)
    if ordered:
        by_cost = sorted(groups.items(), key=lambda item: sum(cost(r, timed) for r in item[1]), reverse=True)
        groups = dict(by_cost)
    return tuple(
        Total(
            name=name,
            rows=len(rows),
            ms={key: _known(_of(row, key).latency_ms for row in rows) for key in timed},
            share={key: _known(_of(row, key).share for row in rows) for key in timed},
        )
        for name, rows in groups.items()
    )


def _of(row: Row, key: str) -> Cell:
    return row.cells.get(key, Cell())
