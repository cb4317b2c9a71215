"""A comparison on the terminal and as Markdown, and the gate that a continuous integration job asks for."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from toolkit.errors import GateError
from toolkit.profiling.compare import Difference
from toolkit.profiling.reports.numbers import ms_text
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
    counts = {v: sum(1 for d in found if d.verdict == v) for v in ("slower", "faster", "no change")}
    if not counts["slower"] and not counts["faster"]:
        return f"no change in {counts['no change']} rows"
    worst = max((d for d in found if d.verdict == "slower"), key=lambda d: d.beyond or 0, default=None)
    named = f"; most: {worst.row} on {worst.backend} {worst.beyond:+.1%}" if worst else ""
    return f"{counts['slower']} slower, {counts['faster']} faster, {counts['no change']} unchanged{named}"


def print_comparison(found: Sequence[Difference], before: Profile, after: Profile, console: Console) -> None:
    """Print every row; the interval holds for all of them at once."""
    table = Table(box=SIMPLE_HEAD, title=f"{before.model} → {after.model}", title_justify="left")
    for name in HEAD:
        table.add_column(name, justify="left" if name in ("backend", "module", "verdict") else "right")
    styles = {"slower": "bold red", "faster": "green"}
    for entry in found:
        table.add_row(*map(escape, _cells(entry)), style=styles.get(entry.verdict))
    console.print(table)
    console.print(summary(found), markup=False)
    if before.partial or after.partial:
        console.print("one of the profiles is partial: it was interrupted")


def markdown_report(found: Sequence[Difference], before: Profile, after: Profile) -> str:
    """Return the comparison as Markdown: what changed first, the whole table folded away."""
    changed = [d for d in found if d.verdict != "no change" or d.end_to_end]
    title = f"### cnnkit: {before.model} → {after.model}: {summary(found)}"
    whole = _markdown_table(found)
    return "\n".join(
        [
            title,
            "",
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
        names = ", ".join(f"{d.row} on {d.backend} {d.beyond:+.1%}" for d in slower[:5])
        more = f" and {len(slower) - 5} more" if len(slower) > 5 else ""
        raise GateError(f"slower by more than {over:.0%}: {names}{more}")
