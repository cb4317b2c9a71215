"""A comparison on the terminal and as Markdown, and the gate that a continuous integration job asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from toolkit.errors import CnnkitError, GateError
from toolkit.figures import UNKNOWN, change_text, ms_text, one_line
from toolkit.profiling.comparing.differences import Comparison, Difference
from toolkit.profiling.comparing.mismatch import refuse_incomplete

HEAD = ("batch", "backend", "module", "before ms", "after ms", "change", "interval", "verdict")


def cells_of(entry: Difference) -> list[str]:
    """Return a difference's texts under HEAD."""
    return [
        str(entry.batch),
        entry.backend,
        one_line(entry.row),
        ms_text(entry.before_ms),
        ms_text(entry.after_ms),
        change_text(entry.change),
        " … ".join(map(change_text, entry.interval)) if entry.interval else UNKNOWN,
        verdict_text(entry),
    ]


def verdict_text(entry: Difference) -> str:
    """Return the verdict, with the change that it rests on where that is not the measured one."""
    if entry.plain:
        return f"{entry.verdict}, plain difference"
    if entry.beyond is None or entry.change is None or abs(entry.beyond - entry.change) < 0.01:
        return entry.verdict
    return f"{entry.verdict}, {change_text(entry.beyond)} beyond the machine's own change"


def summary(found: Comparison) -> str:
    """Say in one line what changed."""
    counts = Counter(d.verdict for d in found.differences)
    rest = {
        "too noisy to judge": counts["too noisy to judge"],
        "with too few windows to judge": counts["too few windows"],
        "only before": counts["only before"],
        "only after": counts["only after"],
    }
    others = "".join(f", {count} {words}" for words, count in rest.items() if count)
    others += "".join(f"; {words}" for words in unrelated(found))
    if any(entry.plain for entry in found.differences):
        others += ", by plain differences: an import holds one number a row, which tells no noise"
    if not counts["slower"] and not counts["faster"]:
        return f"no change in {counts['no change']} rows{others}"
    worst = found.regressions()[:1]
    named = f"; most: {_named(worst[0])}" if worst else ""
    changed = f"{counts['slower']} slower, {counts['faster']} faster, {counts['no change']} unchanged"
    return f"{changed}{others}{named}"


def unrelated(found: Comparison) -> list[str]:
    """Say of each batch and backend where networks differ: most rows of either side are not in the other."""
    sides: dict[tuple[int, str], Counter[str]] = {}
    for entry in found.differences:
        if not entry.end_to_end:
            side = entry.verdict if entry.verdict.startswith("only") else "both"
            sides.setdefault((entry.batch, entry.backend), Counter())[side] += 1
    return [
        f"of different networks on {backend}, batch {batch}: rows in common {rows['both']}, "
        f"only before {rows['only before']}, only after {rows['only after']}"
        for (batch, backend), rows in sides.items()
        if rows["both"] < min(rows["only before"], rows["only after"])
    ]


def _named(entry: Difference) -> str:
    from_nothing = f"from 0 to {ms_text(entry.after_ms)} ms"
    by = from_nothing if entry.beyond is None else change_text(entry.beyond)
    return f"{one_line(entry.row)} on {entry.backend} {by}"


def print_comparison(found: Comparison, console: Console) -> None:
    """Print every row; the interval holds for all of them at once."""
    batches = {entry.batch for entry in found.differences}
    alone = f", batch {next(iter(batches))}" if len(batches) == 1 else ""
    title = escape(f"{found.before.model} → {found.after.model}{alone}")
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", collapse_padding=True, pad_edge=False)
    first = 1 if alone else 0
    for name in HEAD[first:]:
        table.add_column(
            name,
            justify="left" if name in ("backend", "module", "verdict") else "right",
            overflow="fold",
            min_width=14 if name == "module" else None,
        )
    styles = {"slower": "bold red", "faster": "green", "too noisy to judge": "yellow"}
    for entry in found.differences:
        table.add_row(*map(escape, cells_of(entry)[first:]), style=styles.get(entry.verdict))
    console.print(table)
    for line in (summary(found), *found.mismatch.lines):
        console.print(line, markup=False)


def markdown_report(found: Comparison) -> str:
    """Return the comparison as Markdown: what changed first, the whole table folded away."""
    changed = [d for d in found.differences if d.verdict != "no change" or d.end_to_end]
    lines = found.mismatch.lines
    return "\n".join(
        [
            f"### cnnkit: {found.before.model} → {found.after.model}: {summary(found)}",
            "",
            *(f"- {line}" for line in lines),
            *([""] if lines else []),
            *_markdown_table(changed),
            "",
            "<details><summary>all rows</summary>",
            "",
            *_markdown_table(found.differences),
            "",
            "</details>",
        ]
    )


def _markdown_table(found: Sequence[Difference]) -> list[str]:
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    return lines + [f"| {' | '.join(text.replace('|', '∥') for text in cells_of(d))} |" for d in found]


def gate(found: Comparison, over: float) -> None:
    """Raise GateError naming what is slower by more than `over`; CnnkitError for what nobody can judge."""
    others = unrelated(found)
    if others:
        raise CnnkitError(
            f"the profiles are {others[0]}, so nothing was judged; profile one network, with one "
            "naming of its modules, before and after"
        )
    if all(entry.verdict.startswith("only") for entry in found.differences):
        raise CnnkitError(
            "no row has a time both before and after, so nothing was judged; profile again with the "
            "same `--backend`"
        )
    slower = found.regressions(over=over)
    if slower:
        names = ", ".join(_named(entry) for entry in slower[:5])
        more = f" and {len(slower) - 5} more" if len(slower) > 5 else ""
        plain = " (plain differences of imports)" if any(entry.plain for entry in slower) else ""
        raise GateError(f"slower by more than {over:.0%}: {names}{more}{plain}")
    refuse_incomplete(found.mismatch)
    found.refuse_unjudged()


def passed_in_noise(found: Comparison) -> str | None:
    """Say which rows a gate let pass though they are too noisy to judge; None where there are none."""
    if found.fail_over is None or not found.allow_noise or not found.noisy:
        return None
    names = ", ".join(f"{entry.row} on {entry.backend}" for entry in found.noisy[:5])
    more = f" and {len(found.noisy) - 5} more" if len(found.noisy) > 5 else ""
    return f"--allow-noise: not judged, as too noisy: {names}{more}"
