"""A profile as one HTML file that opens offline: table, bars, memory, roofline, module tree, comparison."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources

from toolkit.figures import UNKNOWN, bytes_text, count_text, ms_text, percent_text, shape_text
from toolkit.markup import escaped, heading_row, listed, number_cell
from toolkit.profiling.comparing.differences import Comparison, Difference
from toolkit.profiling.reports.charts import bars, memory_chart, roofline_chart, tree
from toolkit.profiling.reports.comparison import HEAD, cells_of
from toolkit.profiling.reports.texts import sums_of, time_text
from toolkit.profiling.result import Cell, Column, Profile, Row, Run, threads_text


def html_report(profile: Profile, comparison: Comparison | None = None) -> str:
    """Return the whole page; nothing in it asks another host, and it reads without scripts and colour."""
    style, script = (
        resources.files(__package__).joinpath(f"page.{kind}").read_text() for kind in ("css", "js")
    )
    title = escaped(f"{profile.model}: profile")
    parts = [f"<h1>{title}</h1>", _facts(profile)]
    parts += [_comparison(comparison)] if comparison else []
    parts += [_run(run, profile) for run in profile.runs]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{style}</style></head><body><main>{''.join(parts)}</main>"
        f"<script>{script}</script></body></html>"
    )


def _when(profile: Profile) -> str:
    return profile.created.replace("T", " ").replace("+00:00", " UTC")


def _facts(profile: Profile) -> str:
    facts = {
        "device": profile.device,
        "threads": threads_text(profile.threads),
        "processor": profile.machine.processor or "unknown",
        "affinity": json.dumps(profile.machine.affinity),
        **({"GPUs": ", ".join(profile.machine.gpus)} if profile.machine.gpus else {}),
        "taken": _when(profile),
    }
    shown = "".join(f"<div><dt>{escaped(k)}</dt><dd>{escaped(v)}</dd></div>" for k, v in facts.items())
    partial = "<p class='red'>Partial: the run was interrupted.</p>" if profile.partial else ""
    skipped = listed(f"{s.backend} ({s.precision}) was skipped: {s.reason}" for s in profile.skipped)
    return f"<dl class='facts'>{shown}</dl>{partial}{skipped}"


def _run(run: Run, profile: Profile) -> str:
    cards = "".join(_card(key, column) for key, column in run.backends.items())
    findings = "".join(f"<li>{_marked(text)}</li>" for text in run.findings)
    sections = {
        "Time by row": bars(run),
        "Rows": f"<p class='hint'>Press a heading to sort.</p>{_table(run)}",
        "Module tree": tree(run),
        "Live tensors": memory_chart(run),
        "Roofline": roofline_chart(run, profile.machine.peaks),
    }
    if findings:
        sections = {"What stands out": f"<ul class='findings'>{findings}</ul>", **sections}
    told = "".join(f"<h3>{title}</h3>{section}" for title, section in sections.items())
    return f"<section><h2>Batch {run.batch}</h2><div class='cards'>{cards}</div>{told}</section>"


def _marked(text: str) -> str:
    """Show what stands between backticks as code."""
    pieces = escaped(text).split("`")
    return "".join(f"<code>{p}</code>" if index % 2 else p for index, p in enumerate(pieces))


def _card(key: str, column: Column) -> str:
    latency = column.latency_ms
    headline = f"{ms_text(latency.median)} ms" if latency else "not measured"
    flags = "".join(f"<li class='red'>▲ {escaped(flag)}</li>" for flag in column.flags)
    notes = "".join(f"<li>{escaped(note)}</li>" for note in column.notes)
    why = f"<p>{escaped(column.why_not)}</p>" if column.why_not else ""
    sums = "".join(
        f"<tr><th>{escaped(k)}</th><td>{escaped(v)}</td></tr>" for k, (v,) in sums_of([column]).items()
    )
    return (
        f"<article><h3>{escaped(key)} <small>{escaped(column.kind)}</small></h3><p class='big'>{headline}</p>"
        f"{why}<table class='sums'>{sums}</table><ul>{flags}{notes}</ul></article>"
    )


def _table(run: Run) -> str:
    head = ["row", "type", "output", "MACs"]
    for key in run.backends:
        head += [f"{key} ms", "%", "weights", "activations", "bound", "match"]
    return _sortable(head, (_row(index, row, run) for index, row in enumerate(run.rows)))


def _sortable(head: Iterable[str], rows: Iterable[str]) -> str:
    table = f"<table class='rows'>{heading_row(head)}<tbody>{''.join(rows)}</tbody></table>"
    return f"<div class='wide'>{table}</div>"


def _row(index: int, row: Row, run: Run) -> str:
    name = f"<th scope='row' data-v='{index}'>{escaped(row.label)}</th><td>{escaped(row.type)}</td>"
    work = f"<td>{shape_text(row.output_shape)}</td>{number_cell(row.macs, count_text(row.macs))}"
    cells = "".join(_cell(row.cells.get(key, Cell())) for key in run.backends)
    return f"<tr class='{'module' if row.modules else 'other'}'>{name}{work}{cells}</tr>"


def _cell(cell: Cell) -> str:
    weights, activations = cell.memory.weights_bytes, cell.memory.activation_bytes
    time = "none" if cell.match == "removed" else time_text(cell)
    bound = f"{cell.bound} {percent_text(cell.attainable)}" if cell.bound else UNKNOWN
    return (
        number_cell(cell.latency_ms, time, title="\n".join(cell.nodes))
        + number_cell(cell.share, percent_text(cell.share))
        + number_cell(weights, bytes_text(weights))
        + number_cell(activations, bytes_text(activations))
        + f"<td>{bound}</td><td>{cell.match or UNKNOWN}</td>"
    )


def _comparison(found: Comparison) -> str:
    sides = (f"{escaped(side.model)}, {escaped(_when(side))}" for side in (found.before, found.after))
    table = _sortable(HEAD, map(_difference, found.differences))
    return f"<section><h2>{' → '.join(sides)}</h2>{listed(found.mismatch.lines)}{table}</section>"


def _difference(entry: Difference) -> str:
    batch, backend, row, before, after, change, interval, verdict = cells_of(entry)
    mark = {"slower": "▲ ", "faster": "▼ "}.get(entry.verdict, "")
    return (
        f"<tr class='{entry.verdict.split()[0]}'>{number_cell(entry.batch, batch)}"
        f"<td>{escaped(backend)}</td><th scope='row'>{escaped(row)}</th>"
        + number_cell(entry.before_ms, before)
        + number_cell(entry.after_ms, after)
        + number_cell(entry.change, change)
        + f"<td>{interval}</td><td>{mark}{escaped(verdict)}</td></tr>"
    )
