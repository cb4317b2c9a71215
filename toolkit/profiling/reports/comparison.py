"""A comparison on the terminal and as Markdown, and the gate that a continuous integration job asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from toolkit.errors import GateError
from toolkit.figures import ms_text
from toolkit.profiling.comparing.conditions import context_of
from toolkit.profiling.comparing.differences import Difference, regressions
from toolkit.profiling.result import Profile

HEAD = ("batch", "backend", "module", "before ms", "after ms", "change", "interval", "verdict")


def _cells(entry: Difference) -> list[str]:
    interval = f"{entry.interval[0]:+.1%} … {entry.interval[1]:+.1%}" if entry.interval else "–"
    return [
        str(entry.batch),
        entry.backend,
        entry.row,
        ms_text(entry.before_ms),
        ms_text(entry.after_ms),
        f"{entry.change:+.1%}" if entry.change is not None else "–",
        interval,
        verdict_text(entry),
    ]


def verdict_text(entry: Difference) -> str:
    """Return the verdict, with the change that it rests on where that is not the measured one."""
    if entry.beyond is None or entry.change is None or abs(entry.beyond - entry.change) < 0.01:
        return entry.verdict
    return f"{entry.verdict}, {entry.beyond:+.1%} beyond the machine's own change"


def summary(found: Sequence[Difference]) -> str:
    """Say in one line what changed."""
    counts = Counter(d.verdict for d in found)
    rest = {
        "with too few windows to judge": counts["too few windows"],
        "only before": counts["only before"],
        "only after": counts["only after"],
    }
    others = "".join(f", {count} {words}" for words, count in rest.items() if count)
    if not counts["slower"] and not counts["faster"]:
        return f"no change in {counts['no change']} rows{others}"
    worst = next(iter(regressions(found, over=0.0)), None)
    named = f"; most: {_named(worst)}" if worst else ""
    changed = f"{counts['slower']} slower, {counts['faster']} faster, {counts['no change']} unchanged"
    return f"{changed}{others}{named}"


def _named(entry: Difference) -> str:
    by = f"{entry.beyond:+.1%}" if entry.beyond is not None else f"from 0 to {ms_text(entry.after_ms)} ms"
    return f"{entry.row} on {entry.backend} {by}"


def print_comparison(found: Sequence[Difference], before: Profile, after: Profile, console: Console) -> None:
    """Print every row; the interval holds for all of them at once."""
    batches = {entry.batch for entry in found}
    alone = f", batch {next(iter(batches))}" if len(batches) == 1 else ""
    title = f"{before.model} → {after.model}{alone}"
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", collapse_padding=True, pad_edge=False)
    first = 1 if alone else 0
    for name in HEAD[first:]:
        words = name in ("backend", "module", "verdict")
        table.add_column(
            name,
            justify="left" if words else "right",
            overflow="fold",
            min_width=14 if name == "module" else None,
        )
    styles = {"slower": "bold red", "faster": "green"}
    for entry in found:
        table.add_row(*map(escape, _cells(entry)[first:]), style=styles.get(entry.verdict))
    console.print(table)
    console.print(summary(found), markup=False)
    for line in context_of(before, after).lines:
        console.print(line, markup=False)


def markdown_report(found: Sequence[Difference], before: Profile, after: Profile) -> str:
    """Return the comparison as Markdown: what changed first, the whole table folded away."""
    changed = [d for d in found if d.verdict != "no change" or d.end_to_end]
    title = f"### cnnkit: {before.model} → {after.model}: {summary(found)}"
    whole, lines = _markdown_table(found), context_of(before, after).lines
    return "\n".join(
        [
            title,
            "",
            *(f"- {line}" for line in lines),
            *([""] if lines else []),
            *_markdown_table(changed),
            "",
            "<details><summary>all rows</summary>",
            "",
            *whole,
            "",
            "</details>",
        ]
    )


def _markdown_table(found: Sequence[Difference]) -> list[str]:
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    return lines + [f"| {' | '.join(text.replace('|', '∥') for text in _cells(d))} |" for d in found]


def gate(slower: Sequence[Difference], over: float) -> None:
    """Raise GateError naming what became slower by more than `over`."""
    if slower:
        names = ", ".join(_named(entry) for entry in slower[:5])
        more = f" and {len(slower) - 5} more" if len(slower) > 5 else ""
        raise GateError(f"slower by more than {over:.0%}: {names}{more}")
