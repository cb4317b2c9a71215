"""A profile as one HTML file that opens offline: table, bars, memory, roofline, module tree, comparison."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib import resources

from toolkit.figures import bytes_text, count_text, ms_text, percent_text, shape_text
from toolkit.profiling.comparing.conditions import context_of
from toolkit.profiling.comparing.differences import Difference
from toolkit.profiling.reports.charts import bars, memory_chart, roofline_chart, tree
from toolkit.profiling.reports.comparison import verdict_text
from toolkit.profiling.result import Cell, Column, Profile, Run


def html_report(
    profile: Profile, *, before: Profile | None = None, differences: Sequence[Difference] = ()
) -> str:
    """Return the whole page; nothing in it asks another host, and it reads without scripts and colour."""
    style = resources.files(__package__).joinpath("page.css").read_text()
    script = resources.files(__package__).joinpath("page.js").read_text()
    title = f"{profile.model}: profile"
    parts = [f"<h1>{_e(title)}</h1>", _facts(profile)]
    if before is not None:
        parts.append(_comparison(differences, before, profile))
    for run in profile.runs:
        parts.append(_run(run, profile))
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{_e(title)}</title><style>{style}</style></head><body><main>{''.join(parts)}</main>"
        f"<script>{script}</script></body></html>"
    )


def _e(text: object) -> str:
    return html.escape(str(text), quote=True)


def _when(profile: Profile) -> str:
    return profile.created.replace("T", " ").replace("+00:00", " UTC")


def _facts(profile: Profile) -> str:
    machine = profile.machine
    facts = [
        ("device", profile.device),
        ("threads", profile.threads or "each runtime's default"),
        ("processor", machine.get("processor") or "unknown"),
        ("affinity", json.dumps(machine.get("affinity"))),
        ("taken", _when(profile)),
    ]
    listed = "".join(f"<div><dt>{_e(k)}</dt><dd>{_e(v)}</dd></div>" for k, v in facts)
    partial = "<p class='red'>Partial: the run was interrupted.</p>" if profile.partial else ""
    skipped = "".join(
        f"<li>{_e(s['backend'])} ({_e(s['precision'])}) was skipped: {_e(s['reason'])}</li>"
        for s in profile.skipped
    )
    return f"<dl class='facts'>{listed}</dl>{partial}" + (f"<ul>{skipped}</ul>" if skipped else "")


def _run(run: Run, profile: Profile) -> str:
    sections = [f"<h2>Batch {run.batch}</h2>", _sums(run)]
    if run.findings:
        items = "".join(f"<li>{_marked(text)}</li>" for text in run.findings)
        sections.append(f"<h3>What stands out</h3><ul class='findings'>{items}</ul>")
    sections += [
        "<h3>Time by row</h3>",
        bars(run),
        "<h3>Rows</h3><p class='hint'>Press a heading to sort.</p>",
        _table(run),
        "<h3>Module tree</h3>",
        tree(run),
        "<h3>Live tensors</h3>",
        memory_chart(run),
        "<h3>Roofline</h3>",
        roofline_chart(run, profile.machine.get("peaks")),
    ]
    return f"<section>{''.join(sections)}</section>"


def _marked(text: str) -> str:
    """Show what stands between backticks as code."""
    pieces = _e(text).split("`")
    return "".join(f"<code>{p}</code>" if index % 2 else p for index, p in enumerate(pieces))


def _sums(run: Run) -> str:
    cards = []
    for key, column in run.backends.items():
        latency = column.latency_ms
        headline = f"{ms_text(latency.median)} ms" if latency else "not measured"
        flags = "".join(f"<li class='red'>▲ {_e(flag)}</li>" for flag in column.flags)
        notes = "".join(f"<li>{_e(note)}</li>" for note in column.notes)
        why = f"<p>{_e(column.why_not)}</p>" if column.why_not else ""
        lines = "".join(f"<tr><th>{_e(k)}</th><td>{_e(v)}</td></tr>" for k, v in _lines(column))
        name = f"{_e(key)} <small>{_e(column.kind)}</small>"
        cards.append(
            f"<article><h3>{name}</h3><p class='big'>{_e(headline)}</p>{why}"
            f"<table class='sums'>{lines}</table><ul>{flags}{notes}</ul></article>"
        )
    return f"<div class='cards'>{''.join(cards)}</div>"


def _lines(column: Column) -> list[tuple[str, str]]:
    latency, memory = column.latency_ms, column.memory
    tail = f"{ms_text(latency.p90)} · {ms_text(latency.p99)} ms" if latency else "–"
    return [
        ("p90 · p99", tail),
        ("spread of windows", percent_text(latency.spread) if latency else "–"),
        ("layers", f"{ms_text(column.layer_sum_ms)} ms"),
        ("layout", f"{ms_text(column.layout_ms)} ms"),
        *([("unmatched", f"{ms_text(column.unmatched_ms)} ms")] if column.unmatched_ms else []),
        ("residual", f"{ms_text(column.residual_ms, signed=True)} ms"),
        ("distortion", f"{ms_text(column.distortion_ms, signed=True)} ms"),
        (
            "coverage",
            f"{percent_text(column.coverage)} of nodes, {percent_text(column.time_coverage)} of time",
        ),
        ("weights", bytes_text(memory.weights_bytes)),
        ("peak activations", bytes_text(memory.peak_activation_bytes)),
        ("predicted", bytes_text(memory.predicted_peak_activation_bytes)),
    ]


def _table(run: Run) -> str:
    head = "".join(f"<th scope='col'>{_e(name)}</th>" for name in ("row", "type", "output", "MACs"))
    for key in run.backends:
        names = (f"{key} ms", "%", "weights", "activations", "bound", "match")
        head += "".join(f"<th scope='col'>{_e(name)}</th>" for name in names)
    body = []
    for index, row in enumerate(run.rows):
        kind = "module" if row.modules else "other"
        cells = f"<th scope='row' data-v='{index}'>{_e(row.label)}</th><td>{_e(row.type)}</td>"
        cells += f"<td>{_e(shape_text(row.output_shape))}</td>" + _number(row.macs, count_text(row.macs))
        for key in run.backends:
            cells += _cell(row.cells.get(key, Cell()))
        body.append(f"<tr class='{kind}'>{cells}</tr>")
    return (
        f"<div class='wide'><table class='rows'><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
        "</table></div>"
    )


def _cell(cell: Cell) -> str:
    nodes = _e("\n".join(cell.nodes))
    weights, activations = cell.memory.weights_bytes, cell.memory.activation_bytes
    time = "none" if cell.match == "removed" else ms_text(cell.latency_ms)
    bound = f"{cell.bound} {percent_text(cell.attainable)}" if cell.bound else "–"
    return (
        _number(cell.latency_ms, time, title=nodes)
        + _number(cell.share, percent_text(cell.share))
        + _number(weights, bytes_text(weights))
        + _number(activations, bytes_text(activations))
        + f"<td>{_e(bound)}</td><td>{_e(cell.match or '–')}</td>"
    )


def _number(value: float | None, text: str, *, title: str = "") -> str:
    shown = f" title='{title}'" if title else ""
    return f"<td class='n' data-v='{'' if value is None else value}'{shown}>{_e(text)}</td>"


def _comparison(found: Sequence[Difference], before: Profile, after: Profile) -> str:
    marks = {"slower": "▲ ", "faster": "▼ "}
    body = "".join(
        f"<tr class='{d.verdict.split()[0]}'><td class='n' data-v='{d.batch}'>{d.batch}</td>"
        f"<td>{_e(d.backend)}</td><th scope='row'>{_e(d.row)}</th>"
        + _number(d.before_ms, ms_text(d.before_ms))
        + _number(d.after_ms, ms_text(d.after_ms))
        + _number(d.change, f"{d.change:+.1%}" if d.change is not None else "–")
        + f"<td>{_e(f'{d.interval[0]:+.1%} … {d.interval[1]:+.1%}' if d.interval else '–')}</td>"
        f"<td>{_e(marks.get(d.verdict, '') + verdict_text(d))}</td></tr>"
        for d in found
    )
    names = ("batch", "backend", "row", "before ms", "after ms", "change", "interval", "verdict")
    head = "".join(f"<th scope='col'>{name}</th>" for name in names)
    lines = "".join(f"<li>{_e(line)}</li>" for line in context_of(before, after).lines)
    return (
        f"<section><h2>{_e(before.model)}, {_e(_when(before))} → {_e(after.model)}, {_e(_when(after))}</h2>"
        f"{f'<ul>{lines}</ul>' if lines else ''}"
        f"<div class='wide'><table class='rows'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        "</div></section>"
    )
