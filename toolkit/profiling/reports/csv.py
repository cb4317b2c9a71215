"""A profile as CSV: one line a row and column, figures in milliseconds and bytes, unknown ones empty."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from toolkit.profiling.result import Profile

HEAD = (
    *("model", "batch", "row", "modules", "type", "output_shape", "parameters", "macs", "caused_by"),
    *("backend", "precision", "latency_ms", "share", "weights_bytes", "activation_bytes"),
    *("gflops", "gbytes_s", "attainable", "bound", "match", "nodes"),
)


def csv_report(profile: Profile) -> str:
    """Return the rows of every run as CSV text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEAD, *_lines(profile)])
    return text.getvalue()


def _lines(profile: Profile) -> Iterable[tuple[object, ...]]:
    for run in profile.runs:
        for index, row in enumerate(run.rows):
            shape = "x".join(map(str, row.output_shape or ()))
            named = (profile.model, run.batch, index, "; ".join(row.modules), row.type, shape, row.parameters)
            for key, cell in row.cells.items():
                yield (
                    *(*named, cell.macs, row.caused_by, key, run.backends[key].precision),
                    *(cell.latency_ms, cell.share, cell.memory.weights_bytes, cell.memory.activation_bytes),
                    *(cell.gflops, cell.gbytes_s, cell.attainable, cell.bound, cell.match),
                    "; ".join(cell.nodes),
                )
