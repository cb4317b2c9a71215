"""What a profile's tables say, as text: the head and the rows of one batch size, and what columns sum to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from toolkit.figures import UNKNOWN, bytes_text, count_text, ms_text, percent_text, shape_text
from toolkit.profiling.result import Cell, Column, Profile, Row, Run

# what stands beside a column's times, from the most to the least
Detail = Literal["all", "memory", "times"]
COPIES = "copies to · from the device ms"


def title_of(profile: Profile, run: Run) -> str:
    """Return the words above a run's table."""
    threads = f"threads: {profile.threads or 'default'}{' (partial)' if run.partial else ''}"
    return f"{profile.model}, batch {run.batch}, {profile.device}, {threads}"


def head_of(run: Run, keys: Sequence[str], detail: Detail) -> list[str]:
    """Return the headings, two lines each where a column is named."""
    head = ["module", "type", "output", "MACs"] if detail == "all" else ["module"]
    for key in keys:
        figures = run.backends[key].timed or run.backends[key].measured
        head.append(f"{key}\n{'ms' if figures else 'dtype'}")
        if detail == "all":
            head += ["\n%" if figures else "\nlayers", "\nweights + activations"]
        elif detail == "memory":
            head.append("\nmemory")
    return head


def row_of(row: Row, run: Run, keys: Sequence[str], detail: Detail) -> list[str]:
    """Return a row's texts under those headings; a row that is no module's has neither type nor shape."""
    texts = [f"  ↳ {row.label}" if row.type == "layout" else row.label]
    if detail == "all":
        own = [row.type, shape_text(row.output_shape), count_text(row.macs)]
        texts += own if row.modules else ["", "", ""]
    for key in keys:
        column, cell = run.backends[key], row.cells.get(key, Cell())
        if not (column.timed or column.measured):
            figures = [cell.dtype or UNKNOWN, str(len(cell.nodes) or UNKNOWN)]
        elif cell.match == "removed":
            figures = ["none", ""]
        else:
            figures = [time_text(cell), percent_text(cell.share)]
        texts += figures if detail == "all" else figures[:1]
        if detail != "times":
            texts.append(_memory(cell, wide=detail == "all"))
    return texts


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
        "  set by": [c.memory.peak_module or UNKNOWN for c in columns],
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
