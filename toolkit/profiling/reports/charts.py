"""The charts of the HTML report: bars, live tensors, roofline and the module tree, as HTML and SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from toolkit.figures import bytes_text, ms_text, percent_text
from toolkit.profiling.reports.markup import escaped
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
        cells = [(i, key, row.cells[key]) for i, key in enumerate(timed) if key in row.cells]
        lines = "".join(
            f"<div class='bar b{i % 3}'><span class='k'>{escaped(key)}</span>"
            f"<i style='width:{100 * cell.latency_ms / largest:.2f}%'></i>"
            f"<span>{escaped(ms_text(cell.latency_ms))} ms</span></div>"
            for i, key, cell in cells
            if cell.latency_ms is not None
        )
        if lines:
            parts.append(f"<div class='label'>{escaped(row.label)}</div>{lines}")
    return f"<div class='bars'>{''.join(parts)}</div>"


def tree(run: Run) -> str:
    """Return the modules as a tree; a cost is its row's in the first timed column, in figures and shade."""
    key = next((key for key, column in run.backends.items() if column.timed), None)
    if key is None:
        return "<p>Nothing was timed.</p>"
    root: dict[str, Any] = {}
    for row in run.rows:
        cell = row.cells.get(key, Cell())
        for place, name in enumerate(row.modules):
            node = root
            for part in [part for part in name.replace("/", ".").split(".") if part]:
                node = node.setdefault(part, {})
            # a fused row's cost stands on its first module; the others say where it is
            node[""] = (cell if place == 0 else None, row.modules[0])
    return f"<div class='tree'><p class='hint'>Cost in {escaped(key)}.</p>{_branch(root)}</div>"


def _branch(node: Mapping[str, Any]) -> str:
    items = []
    for name, child in node.items():
        if name == "":
            continue
        share = _total(child)
        held = child.get("")
        said = f"with {held[1]}" if held and held[0] is None else percent_text(share)
        shade = (
            f" style='background:color-mix(in srgb, var(--other) {min(80, 100 * share):.0f}%, transparent)'"
        )
        items.append(
            f"<li><span class='cost'{shade}>{escaped(said)}</span>{escaped(name)}{_branch(child)}</li>"
        )
    return f"<ul>{''.join(items)}</ul>" if items else ""


def _total(node: Mapping[str, Any]) -> float:
    own = node.get("")
    share = (own[0].share or 0.0) if own and own[0] is not None else 0.0
    return share + sum(_total(child) for name, child in node.items() if name != "")


def memory_chart(run: Run) -> str:
    """Return the bytes of tensors alive at each node, a line a column."""
    lines = {key: c.memory.timeline for key, c in run.backends.items() if c.memory.timeline}
    if not lines:
        return "<p>Not known: a tensor's size was missing.</p>"
    top = max(size for line in lines.values() for _, size in line)
    parts = [_frame(f"{bytes_text(top)}", "first node", "last node")]
    legend = []
    for index, (key, line) in enumerate(lines.items()):
        steps = max(1, len(line))
        path = []
        for place, (_, size) in enumerate(line):
            y = _y(size / top if top else 0)
            path += [f"{_x(place / steps):.1f},{y:.1f}", f"{_x((place + 1) / steps):.1f},{y:.1f}"]
        parts.append(f"<polyline class='line s{index % 3}' points='{' '.join(path)}'/>")
        peak = max(line, key=lambda entry: entry[1])
        legend.append(f"{key}: {bytes_text(peak[1])} at {peak[0]}")
    return _svg(parts, "Live tensors by node", legend)


def roofline_chart(run: Run, peaks: Peaks | None) -> str:
    """Return each timed row as a mark at its intensity and rate, under the machine's roofs (log scales)."""
    points = [
        (index, key, row.label, cell, 2 * cell.macs / cell.ideal_bytes)
        for row in run.rows
        for index, key in enumerate(run.backends)
        if (cell := row.cells.get(key)) and cell.gflops and cell.macs and cell.ideal_bytes
    ]
    if not points or not peaks:
        return "<p>Not known: no timed row has work and bytes, or the peaks were not measured.</p>"
    roof = peaks.gflops.get("fp32") or 1.0
    xs = [p[4] for p in points] + [0.1, 100]
    ys = [p[3].gflops or 0 for p in points] + [roof]
    low_x, high_x = math.log10(min(xs)), math.log10(max(xs))
    low_y, high_y = math.log10(min(ys) / 2), math.log10(max(ys) * 2)

    def at(intensity: float, rate: float) -> tuple[float, float]:
        x = (math.log10(intensity) - low_x) / (high_x - low_x)
        y = (math.log10(max(rate, 1e-12)) - low_y) / (high_y - low_y)
        return _x(x), _y(min(1.0, max(0.0, y)))

    parts = [_frame(f"{10**high_y:.0f} GFLOP/s", f"{10**low_x:.2g}", f"{10**high_x:.3g} FLOP/byte")]
    for place, (level, bandwidth) in enumerate(peaks.gbytes_s.items()):
        knee = roof / bandwidth
        start = max(10**low_x, 10**low_y / bandwidth)
        points_text = [
            at(start, start * bandwidth),
            at(max(start, min(knee, 10**high_x)), min(roof, 10**high_x * bandwidth)),
        ]
        if knee < 10**high_x:
            points_text.append(at(10**high_x, roof))
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points_text)
        # each name a step further along its slope, so that those of close roofs do not overlap
        (x0, y0), (x1, y1), along = points_text[0], points_text[1], 0.02 + 0.28 * place
        x, y = x0 + along * (x1 - x0), y0 + along * (y1 - y0)
        parts.append(
            f"<polyline class='line axis' points='{drawn}'/>"
            f"<text x='{x + 4:.0f}' y='{y - 4:.0f}'>{escaped(level)}</text>"
        )
    for index, key, label, cell, intensity in points:
        x, y = at(intensity, cell.gflops or 0)
        said = f"{label}, {key}: {cell.gflops:.1f} GFLOP/s, {percent_text(cell.attainable)} of attainable"
        mark = MARKS[index % len(MARKS)]
        parts.append(
            f"<text class='s{index % 3}' x='{x:.1f}' y='{y:.1f}' text-anchor='middle'>"
            f"{mark}<title>{escaped(said)}</title></text>"
        )
    legend = [f"{MARKS[i % len(MARKS)]} {key}" for i, key in enumerate(run.backends)]
    return _svg(parts, "Roofline", [*legend, f"roof: {roof:.0f} GFLOP/s in fp32, {peaks.threads} threads"])


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
