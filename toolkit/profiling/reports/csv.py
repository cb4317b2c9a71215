"""A profile as CSV: one line a row and column, figures in milliseconds and bytes, unknown ones empty."""

from __future__ import annotations

import csv
import io

from toolkit.profiling.result import Profile

HEAD = (
    *("model", "batch", "row", "modules", "type", "output_shape", "parameters", "macs", "caused_by"),
    *("backend", "precision", "latency_ms", "share", "weights_bytes", "activation_bytes"),
    *("gflops", "gbytes_s", "attainable", "bound", "match", "nodes"),
)


def csv_report(profile: Profile) -> str:
    """Return the rows of every run as CSV text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    for run in profile.runs:
        for index, row in enumerate(run.rows):
            for key, cell in row.cells.items():
                shape = "x".join(map(str, row.output_shape)) if row.output_shape else ""
                fixed = [profile.model, run.batch, index, "; ".join(row.modules), row.type, shape]
                measured = [cell.latency_ms, cell.share, cell.memory.weights_bytes]
                rated = [cell.gflops, cell.gbytes_s, cell.attainable, cell.bound, cell.match]
                precision = run.backends[key].precision
                writer.writerow(
                    [
                        *fixed,
                        *(row.parameters, cell.macs, row.caused_by, key, precision),
                        *(*measured, cell.memory.activation_bytes, *rated, "; ".join(cell.nodes)),
                    ]
                )
    return text.getvalue()
