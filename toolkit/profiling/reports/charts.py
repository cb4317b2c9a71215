"""The charts of the HTML report: bars, live tensors, roofline and the module tree, as HTML and SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.figures import bytes_text, ms_text, percent_text
from toolkit.markup import escaped
from toolkit.profiling.result import Cell, Peaks, Run

WIDTH, HEIGHT, LEFT, BOTTOM = 760, 300, 70, 40
MARKS = ("●", "▲", "■", "◆")


def bars(run: Run) -> str:
    """Return a bar a row and timed column, all on one scale."""
    timed = [key for key, column in run.backends.items() if column.timed]
    largest = max((c.latency_ms or 0 for r in run.rows for c in r.cells.values()), default=0)
    if not timed or not largest:
        return "<p>Nothing was timed.</p>"
    parts = []
    for row in run.rows:
        times = ((i, key, row.cells.get(key, Cell()).latency_ms) for i, key in enumerate(timed))
        lines = "".join(
            f"<div class='bar b{i % 3}'><span class='k'>{escaped(key)}</span>"
            f"<i style='width:{100 * ms / largest:.2f}%'></i><span>{ms_text(ms)} ms</span></div>"
            for i, key, ms in times
            if ms is not None
        )
        parts += [f"<div class='label'>{escaped(row.label)}</div>{lines}"] if lines else []
    return f"<div class='bars'>{''.join(parts)}</div>"


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One module in the tree: the parts of its name, and its row's share or with which module that stands."""

    parts: tuple[str, ...]
    share: float
    beside: str | None


def tree(run: Run) -> str:
    """Return the modules as a tree; a cost is its row's in the first timed column, in figures and shade."""
    key = next((key for key, column in run.backends.items() if column.timed), None)
    if key is None:
        return "<p>Nothing was timed.</p>"
    # a fused row's cost stands on its first module; the others say where it is
    leaves = [
        Leaf(
            parts=tuple(part for part in name.replace("/", ".").split(".") if part),
            share=0.0 if place else row.cells.get(key, Cell()).share or 0.0,
            beside=row.modules[0] if place else None,
        )
        for row in run.rows
        for place, name in enumerate(row.modules)
    ]
    return f"<div class='tree'><p class='hint'>Cost in {escaped(key)}.</p>{_branch(leaves, 0)}</div>"


def _branch(leaves: Sequence[Leaf], depth: int) -> str:
    """Return the names at one depth of the modules' paths, each above those inside it."""
    inside: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        if len(leaf.parts) > depth:
            inside.setdefault(leaf.parts[depth], []).append(leaf)
    items = []
    for name, under in inside.items():
        share = sum(leaf.share for leaf in under)
        beside = [leaf.beside for leaf in under if leaf.beside and len(leaf.parts) == depth + 1]
        said = f"with {beside[-1]}" if beside else percent_text(share)
        shade = f"color-mix(in srgb, var(--other) {min(80, 100 * share):.0f}%, transparent)"
        cost = f"<span class='cost' style='background:{shade}'>{escaped(said)}</span>"
        items.append(f"<li>{cost}{escaped(name)}{_branch(under, depth + 1)}</li>")
    return f"<ul>{''.join(items)}</ul>" if items else ""


def memory_chart(run: Run) -> str:
    """Return the bytes of tensors alive at each node, a line a column."""
    lines = {key: c.memory.timeline for key, c in run.backends.items() if c.memory.timeline}
    if not lines:
        return "<p>Not known: a tensor's size was missing.</p>"
    top = max(1, *(size for line in lines.values() for _, size in line))
    parts, legend = [_frame(bytes_text(top), "first node", "last node")], []
    for index, (key, line) in enumerate(lines.items()):
        edges = ((edge / len(line), size / top) for i, (_, size) in enumerate(line) for edge in (i, i + 1))
        path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in edges)
        parts.append(f"<polyline class='line s{index % 3}' points='{path}'/>")
        name, peak = max(line, key=lambda entry: entry[1])
        legend.append(f"{key}: {bytes_text(peak)} at {name}")
    return _svg(parts, "Live tensors by node", legend)


@dataclass(frozen=True, kw_only=True)
class LogAxes:
    """Both axes of the roofline in powers of ten: FLOP a byte to the right, GFLOP/s upwards."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def at(self, intensity: float, rate: float) -> tuple[float, float]:
        """Return where a mark stands; what lies above or below the frame stands on its edge."""
        x = (math.log10(intensity) - self.low_x) / (self.high_x - self.low_x)
        y = (math.log10(max(rate, 1e-12)) - self.low_y) / (self.high_y - self.low_y)
        return _x(x), _y(min(1.0, max(0.0, y)))


def roofline_chart(run: Run, peaks: Peaks | None) -> str:
    """Return each timed row as a mark at its intensity and rate, under the machine's roofs (log scales)."""
    marks = [
        (index, f"{row.label}, {key}", cell, 2 * cell.macs / cell.ideal_bytes, cell.gflops)
        for row in run.rows
        for index, key in enumerate(run.backends)
        if (cell := row.cells.get(key)) and cell.gflops and cell.macs and cell.ideal_bytes
    ]
    if not marks or not peaks:
        return "<p>Not known: no timed row has work and bytes, or the peaks were not measured.</p>"
    roof = peaks.gflops.get("fp32") or 1.0
    xs, ys = [0.1, 100, *(mark[3] for mark in marks)], [roof, *(mark[4] for mark in marks)]
    axes = LogAxes(
        low_x=math.log10(min(xs)),
        high_x=math.log10(max(xs)),
        low_y=math.log10(min(ys) / 2),
        high_y=math.log10(max(ys) * 2),
    )
    right = f"{10**axes.high_x:.3g} FLOP/byte"
    parts = [_frame(f"{10**axes.high_y:.0f} GFLOP/s", f"{10**axes.low_x:.2g}", right)]
    parts += [_roof(*level, roof, axes, place) for place, level in enumerate(peaks.gbytes_s.items())]
    for index, name, cell, intensity, rate in marks:
        x, y = axes.at(intensity, rate)
        said = f"{name}: {rate:.1f} GFLOP/s, {percent_text(cell.attainable)} of attainable"
        parts.append(
            f"<text class='s{index % 3}' x='{x:.1f}' y='{y:.1f}' text-anchor='middle'>"
            f"{MARKS[index % len(MARKS)]}<title>{escaped(said)}</title></text>"
        )
    legend = [f"{MARKS[i % len(MARKS)]} {key}" for i, key in enumerate(run.backends)]
    return _svg(parts, "Roofline", [*legend, f"roof: {roof:.0f} GFLOP/s in fp32, {peaks.threads} threads"])


def _roof(level: str, bandwidth: float, roof: float, axes: LogAxes, place: int) -> str:
    """Return what one cache level allows: a slope up to the machine's own roof, and its name on it."""
    low, high, knee = 10**axes.low_x, 10**axes.high_x, roof / bandwidth
    start = max(low, 10**axes.low_y / bandwidth)
    line = [
        axes.at(start, start * bandwidth),
        axes.at(max(start, min(knee, high)), min(roof, high * bandwidth)),
    ]
    if knee < high:
        line.append(axes.at(high, roof))
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
    # each name a step further along its slope, so that those of close roofs do not overlap
    (x0, y0), (x1, y1), along = line[0], line[1], 0.02 + 0.28 * place
    x, y = x0 + along * (x1 - x0), y0 + along * (y1 - y0)
    name = f"<text x='{x + 4:.0f}' y='{y - 4:.0f}'>{escaped(level)}</text>"
    return f"<polyline class='line axis' points='{drawn}'/>{name}"


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - 10)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - 20)


def _frame(top: str, left: str, right: str) -> str:
    x0, y0, x1, y1 = _x(0), _y(0), _x(1), _y(1)
    return (
        f"<path class='axis' fill='none' d='M{x0},{y1}V{y0}H{x1}'/>"
        f"<text x='{x0}' y='{y1 - 6}'>{escaped(top)}</text>"
        f"<text x='{x0}' y='{y0 + 18}'>{escaped(left)}</text>"
        f"<text x='{x1}' y='{y0 + 18}' text-anchor='end'>{escaped(right)}</text>"
    )


def _svg(parts: list[str], title: str, legend: list[str]) -> str:
    said = " · ".join(legend)
    return (
        f"<figure style='margin:0'><svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{title}'>"
        f"{''.join(parts)}</svg><figcaption class='hint'>{escaped(said)}</figcaption></figure>"
    )
