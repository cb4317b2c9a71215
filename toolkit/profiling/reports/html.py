"""A profile as one HTML file that opens offline: the time, where it goes and why, every row, charts.

The page's script draws tables and charts from figures that the file holds; without it the costliest rows,
totals and sentences stand there as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib import resources

from toolkit.figures import bytes_text, ms_text, percent_text, when_text
from toolkit.markup import Html, escaped, heading_row, listed, number_cell
from toolkit.profiling.comparing.differences import Comparison, Difference
from toolkit.profiling.reports.comparison import HEAD, cells_of, summary
from toolkit.profiling.reports.drawn import drawn_json
from toolkit.profiling.reports.selection import by_type, selected, timed_keys
from toolkit.profiling.reports.texts import (
    head_of,
    others_of,
    row_of,
    sums_of,
    total_of,
    totals_head,
)
from toolkit.profiling.result import Column, Explanation, Profile, Run, threads_text

SCRIPTS = ("core", "totals", "rows", "charts", "comparison", "start")
MOST_TYPES = 12


def html_report(profile: Profile, comparison: Comparison | None = None) -> str:
    """Return the whole page; nothing in it asks another host, and it reads without scripts and colour."""
    folder = resources.files(__package__) / "page"
    style = (folder / "page.css").read_text()
    script = "\n".join((folder / f"{name}.js").read_text() for name in SCRIPTS)
    title = escaped(f"{profile.model}: profile")
    parts = [_comparison(comparison)] if comparison else []
    parts += [_run(run, place) for place, run in enumerate(profile.runs)]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{style}</style></head><body>{_header(profile)}"
        f"<nav id='bar' aria-label='what is shown'></nav><main>{''.join(parts)}</main>"
        "<div id='tip' hidden></div>"
        f"<script type='application/json' id='data'>{drawn_json(profile, comparison)}</script>"
        f"<script>{script}</script></body></html>"
    )


def _header(profile: Profile) -> str:
    machine = profile.machine
    cores = f"{machine.usable_cores} cores" if machine.usable_cores else ""
    facts = [
        machine.processor or "processor unknown",
        cores,
        f"threads: {threads_text(profile.threads)}",
        f"device: {profile.device}",
        *(machine.gpus or ()),
        when_text(profile.created),
    ]
    shown = "".join(f"<li>{escaped(fact)}</li>" for fact in facts if fact)
    partial = "<p class='red'>Partial: the run was interrupted.</p>" if profile.partial else ""
    skipped = [f"{s.backend} ({s.precision}) was skipped: {s.reason}" for s in profile.skipped]
    told = listed([*skipped, *profile.notes])
    return (
        f"<header><p class='over'>cnnkit profile</p><h1>{escaped(profile.model)}</h1>"
        f"<ul class='facts'>{shown}</ul>{partial}{f'<div class=told>{told}</div>' if told else ''}</header>"
    )


def _run(run: Run, place: int) -> str:
    cards = "".join(_card(key, run) for key in run.backends)
    why = "".join(_why(key, run.backends[key], told) for key, told in run.explanations.items() if told)
    findings = "".join(f"<li>{_marked(text)}</li>" for text in run.findings)
    sections = (
        ("Where the time goes", "totals", _totals(run)),
        ("The costliest rows, and why", "why", why),
        ("What stands out", "findings", f"<ul class='findings'>{findings}</ul>" if findings else ""),
        ("Rows", "rows", _rows(run)),
        ("Memory while it runs", "memory", _memory(run)),
        ("Roofline", "roofline", "<p>The script of this page draws it.</p>"),
    )
    told = "".join(
        f"<section class='part' data-part='{part}'><h3>{title}</h3><div class='body'>{text}</div></section>"
        for title, part, text in sections
        if text
    )
    partial = " <small class='red'>(partial)</small>" if run.partial else ""
    return (
        f"<section class='run' data-run='{place}'><h2>Batch {run.batch}{partial}</h2>"
        f"<div class='cards'>{cards}</div>{_figures(run)}{told}</section>"
    )


def _card(key: str, run: Run) -> str:
    column = run.backends[key]
    latency = column.latency_ms
    headline = f"<b>{ms_text(latency.median)}</b> ms" if latency else "<b>not measured</b>"
    slowest = max((c.latency_ms.median for c in run.backends.values() if c.latency_ms), default=0.0)
    width = 100 * latency.median / slowest if latency and slowest else 0
    facts = _facts(column)
    flags = "".join(f"<li class='red'>▲ {escaped(flag)}</li>" for flag in column.flags)
    notes = "".join(f"<li>{escaped(note)}</li>" for note in column.notes)
    why = f"<p>{escaped(column.why_not)}</p>" if column.why_not else ""
    return (
        f"<article><h3>{escaped(key)} <small>{escaped(column.kind)}</small></h3><p class='big'>{headline}</p>"
        f"<div class='meter'><i style='width:{width:.1f}%'></i></div>"
        f"<p class='hint'>{escaped(_beside(key, run))}</p>{why}"
        f"<dl>{facts}</dl>{f'<ul>{flags}{notes}</ul>' if flags or notes else ''}</article>"
    )


def _beside(key: str, run: Run) -> str:
    """Say how a column's whole call compares with the slowest one's of its network, or the fastest one's."""
    timed = {name: c.latency_ms.median for name, c in run.beside(key).items() if c.latency_ms}
    if key not in timed:
        return "latency was not measured"
    fast, slow = min(timed, key=timed.__getitem__), max(timed, key=timed.__getitem__)
    if fast == slow or not timed[fast]:
        return "a call, median"
    if key == fast:
        return f"a call, median; {timed[slow] / timed[fast]:.1f} times as fast as {slow}"
    return f"a call, median; {timed[key] / timed[fast]:.1f} times as long as {fast}"


def _facts(column: Column) -> str:
    latency, memory = column.latency_ms, column.memory
    facts = {
        "p90 · p99": f"{ms_text(latency.p90)} · {ms_text(latency.p99)} ms" if latency else "",
        "spread": percent_text(latency.spread) if latency else "",
        "weights": bytes_text(memory.weights_bytes),
        "peak activations": bytes_text(memory.peak_activation_bytes),
    }
    return "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in facts.items() if text)


def _figures(run: Run) -> str:
    """Return every sum of every column, folded away."""
    head = ["sum", *(f"{key} ({column.kind})" for key, column in run.backends.items())]
    sums = sums_of(list(run.backends.values())).items()
    body = "".join(f"<tr><th scope='row'>{escaped(label)}</th>{_tds(texts)}</tr>" for label, texts in sums)
    table = f"<table class='plain'>{heading_row(head)}<tbody>{body}</tbody></table>"
    differences = [
        f"{key}: answers differ from {run.reference.get(key) or next(iter(run.backends))}'s by "
        f"{difference:.1e} of the largest one"
        for key, difference in run.agreement.items()
        if difference is not None
    ]
    unknown = [
        f"{key}: {name} is unknown: {why}"
        for key, column in run.backends.items()
        for name, why in column.memory.why_null.items()
    ]
    unknown += [f"{key}: {column.memory.note}" for key, column in run.backends.items() if column.memory.note]
    return (
        f"<details class='all'><summary>Every sum: latency, layers, memory, coverage</summary>"
        f"{_region('every sum', table)}{listed([*differences, *unknown])}</details>"
    )


def _tds(texts: Iterable[str]) -> str:
    return "".join(f"<td class='n'>{escaped(text)}</td>" for text in texts)


def _region(label: str, table: str) -> str:
    """Return a table that scrolls within itself, by keyboard, too."""
    return f"<div class='wide' role='region' tabindex='0' aria-label='{label}'>{table}</div>"


def _marked(text: str) -> Html:
    """Show what stands between backticks as code."""
    pieces = escaped(text).split("`")
    return Html("".join(f"<code>{p}</code>" if index % 2 else p for index, p in enumerate(pieces)))


def _why(key: str, column: Column, told: Sequence[Explanation]) -> str:
    cards = "".join(_reason(place, entry) for place, entry in enumerate(told, start=1))
    red = "; ".join(column.flags)
    flags = f"<p class='red'>Red: {escaped(red)}</p>" if red else ""
    head = f"<h4>In {escaped(key)}</h4>{flags}"
    return f"<div class='why' data-column='{escaped(key)}'>{head}<ol>{cards}</ol></div>"


def _reason(place: int, entry: Explanation) -> str:
    share = percent_text(entry.share) if entry.share is not None else ""
    advice = f"<p class='try'><b>Try</b> {_marked(entry.advice)}</p>" if entry.advice else ""
    return (
        f"<li><p class='rank' aria-hidden='true'>{place}</p><div><p class='name'>{_breakable(entry.row)}</p>"
        f"<p class='cost'><b>{ms_text(entry.latency_ms)} ms</b> {share}</p>"
        f"<p>{_marked(entry.why)}</p>{advice}</div></li>"
    )


def _breakable(name: str) -> Html:
    """Let a name go on in the next line behind a dot or a slash."""
    return Html(re.sub(r"(?<=[./])(?=.)", "<wbr>", escaped(name)))


def _totals(run: Run) -> str:
    keys = timed_keys(run)
    if not keys:
        return "<p>Nothing was timed.</p>"
    return _table(
        "totals by layer type",
        totals_head("layer type", keys),
        (total_of(t, keys) for t in by_type(run, MOST_TYPES)),
    )


def _rows(run: Run) -> str:
    keys, shown = list(run.backends), selected(run)
    rows = [row_of(row, run, keys, "figures") for row in shown.rows]
    rows += [others_of(shown, run, keys, "figures")] if shown.others else []
    said = f"<p class='hint'>{shown.order[:1].upper()}{shown.order[1:]}.</p>"
    return said + _table("rows", head_of(run, keys, "figures"), rows)


def _table(label: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join(f"<tr><th scope='row'>{escaped(name)}</th>{_tds(texts)}</tr>" for name, *texts in rows)
    return _region(label, f"<table class='plain'>{heading_row(head)}<tbody>{body}</tbody></table>")


def _memory(run: Run) -> str:
    told = [
        f"{key}: at most {bytes_text(size)} of tensors are alive, at {name}"
        for key, column in run.backends.items()
        if column.memory.timeline
        for name, size in [max(column.memory.timeline, key=lambda entry: entry[1])]
    ]
    return listed(told) or "<p>Not known: a tensor's size was missing.</p>"


def _comparison(found: Comparison) -> str:
    sides = (
        f"{escaped(side.model)}, {escaped(when_text(side.created))}" for side in (found.before, found.after)
    )
    # without its script the page shows the whole calls and what changed
    changed = [entry for entry in found.differences if entry.end_to_end or entry.verdict != "no change"]
    rows = "".join(map(_difference, changed))
    table = f"<table class='plain'>{heading_row(HEAD)}<tbody>{rows}</tbody></table>"
    said = summary(found)
    return (
        "<section class='comparison' data-part='comparison'><h2>What changed</h2>"
        f"<p class='sides'>{' → '.join(sides)}</p>"
        f"<p class='lead'>{escaped(said[:1].upper() + said[1:])}.</p>"
        f"{listed(found.mismatch.lines)}<div class='body'>{_region('differences', table)}</div></section>"
    )


def _difference(entry: Difference) -> str:
    batch, backend, row, before, after, change, interval, verdict = cells_of(entry)
    mark = {"slower": "▲ ", "faster": "▼ "}.get(entry.verdict, "")
    return (
        f"<tr class='{escaped(entry.verdict.split()[0])}'>{number_cell(entry.batch, batch)}"
        f"<td>{escaped(backend)}</td><th scope='row'>{escaped(row)}</th>"
        + number_cell(entry.before_ms, before)
        + number_cell(entry.after_ms, after)
        + number_cell(entry.change, change)
        + f"<td>{interval}</td><td>{mark}{escaped(verdict)}</td></tr>"
    )
