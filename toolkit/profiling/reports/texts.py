"""What a profile's tables say, as text: the head and the rows of one batch size, and what columns sum to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from toolkit.figures import UNKNOWN, bytes_text, count_text, ms_text, percent_text, shape_text
from toolkit.profiling.reports.selection import Selected, Total, cut_middle, short_name
from toolkit.profiling.result import Cell, Column, Profile, Row, Run

# what stands beside a column's times, from the most to the least
Detail = Literal["all", "figures", "memory", "times"]
WIDEST_NAME = 40
COPIES = "copies to · from the device ms"


def title_of(profile: Profile, run: Run, order: str = "") -> str:
    """Return the words above a run's table."""
    threads = f"threads: {profile.threads or 'default'}{' (partial)' if run.partial else ''}"
    return f"{profile.model}, batch {run.batch}, {profile.device}, {threads}{order and '; '}{order}"


def head_of(run: Run, keys: Sequence[str], detail: Detail) -> list[str]:
    """Return the headings, two lines each where a column is named."""
    head = {"all": ["module", "type", "output", "MACs"], "figures": ["module", "output", "MACs"]}
    found = head.get(detail, ["module"])
    for key in keys:
        figures = run.backends[key].timed or run.backends[key].measured
        found.append(f"{key}\n{'ms' if figures else 'dtype'}")
        if detail in ("all", "figures"):
            found.append("\n%" if figures else "\nlayers")
        if detail == "all":
            found.append("\nweights + activations")
        elif detail != "times":
            found.append("\nmemory")
    return found


def row_of(row: Row, run: Run, keys: Sequence[str], detail: Detail) -> list[str]:
    """Return a row's texts under those headings; a row that is no module's has neither type nor shape."""
    texts = [f"  ↳ {row.label}" if row.type == "layout" else short_name(row)]
    if detail in ("all", "figures"):
        own = [row.type, shape_text(row.output_shape), count_text(row.macs)][detail == "figures" :]
        texts += own if row.modules else [""] * len(own)
    return texts + _cells(row, run, keys, detail)


def others_of(found: Selected, run: Run, keys: Sequence[str], detail: Detail) -> list[str]:
    """Return the texts of what the rows sum to that are not shown; none where all are."""
    if found.others is None:
        return []
    texts = [f"{found.count} other rows"]
    if detail in ("all", "figures"):
        texts += ["", "", count_text(found.others.macs)][detail == "figures" :]
    return texts + _cells(found.others, run, keys, detail)


def _cells(row: Row, run: Run, keys: Sequence[str], detail: Detail) -> list[str]:
    texts: list[str] = []
    for key in keys:
        column, cell = run.backends[key], row.cells.get(key, Cell())
        if not (column.timed or column.measured):
            figures = [cell.dtype or UNKNOWN, str(len(cell.nodes) or UNKNOWN)]
        elif cell.match == "removed":
            figures = ["none", ""]
        else:
            figures = [time_text(cell), percent_text(cell.share)]
        texts += figures if detail in ("all", "figures") else figures[:1]
        if detail != "times":
            texts.append(_memory(cell, wide=detail == "all"))
    return texts


def totals_head(title: str, keys: Sequence[str]) -> list[str]:
    """Return the headings of a table of totals."""
    return [title, "rows", *(text for key in keys for text in (f"{key}\nms", "\n%"))]


def total_of(total: Total, keys: Sequence[str]) -> list[str]:
    """Return a total's texts under those headings."""
    figures = ((ms_text(total.ms[key]), percent_text(total.share[key])) for key in keys)
    return [total.name, str(total.rows), *(text for pair in figures for text in pair)]


def time_text(cell: Cell) -> str:
    """Return a row's time; what it is less than where that is all that the runtime tells."""
    return ms_text(cell.latency_ms) if cell.below_ms is None else f"<{cell.below_ms:g}"


def _memory(cell: Cell, *, wide: bool) -> str:
    weights, activations = cell.memory.weights_bytes, cell.memory.activation_bytes
    if not cell.nodes or (weights is None and activations is None):
        return UNKNOWN
    if wide:
        return f"{bytes_text(weights)} + {bytes_text(activations)}"
    return bytes_text(None if weights is None or activations is None else weights + activations)


def sums_of(columns: Sequence[Column]) -> dict[str, list[str]]:
    """Return what columns add up to, by label a text a column; what none of them has is left out."""
    clean = [c.latency_ms for c in columns]
    lines = {
        "end to end, median ms": [ms_text(c.median) if c else "not measured" for c in clean],
        "p90 · p99 ms": [f"{ms_text(c.p90)} · {ms_text(c.p99)}" if c else UNKNOWN for c in clean],
        "first call ms": [ms_text(c.first_call_ms) if c else UNKNOWN for c in clean],
        "spread of windows": [percent_text(c.spread) if c else UNKNOWN for c in clean],
        "= layers": [ms_text(c.layer_sum_ms) for c in columns],
        "+ layout": [ms_text(c.layout_ms) for c in columns],
        "+ unmatched": [ms_text(c.unmatched_ms) for c in columns],
        "+ residual": [ms_text(c.residual_ms, signed=True) for c in columns],
        "distortion by profiling": [ms_text(c.distortion_ms, signed=True) for c in columns],
        COPIES: [f"{ms_text(c.upload_ms)} · {ms_text(c.download_ms)}" for c in columns],
        "weights": [bytes_text(c.memory.weights_bytes) for c in columns],
        "peak activations": [bytes_text(c.memory.peak_activation_bytes) for c in columns],
        "  predicted from shapes": [bytes_text(c.memory.predicted_peak_activation_bytes) for c in columns],
        "  set by": [cut_middle(c.memory.peak_module or UNKNOWN, WIDEST_NAME) for c in columns],
        "workspace": [bytes_text(c.memory.workspace_bytes) for c in columns],
        "whole process, peak": [bytes_text(c.memory.process_peak_bytes) for c in columns],
        "coverage, nodes · time": [
            f"{percent_text(c.coverage)} · {percent_text(c.time_coverage)}" for c in columns
        ],
        "runs, clean · profiled": [
            f"{c.latency_ms.runs if c.latency_ms else 0} · {c.profiled_runs}" for c in columns
        ],
    }
    silent = {"+ unmatched": not any(c.unmatched_ms for c in columns)}
    silent[COPIES] = all(c.upload_ms is None for c in columns)
    return {label: texts for label, texts in lines.items() if not silent.get(label)}
