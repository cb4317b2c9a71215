"""A profile and a comparison as small tables in a notebook: no style sheet, no script, every text escaped."""

from __future__ import annotations

from toolkit.markup import html_table, listed
from toolkit.profiling.comparing.differences import Comparison
from toolkit.profiling.reports.comparison import HEAD, cells_of, summary
from toolkit.profiling.reports.selection import selected
from toolkit.profiling.reports.texts import head_of, others_of, row_of, sums_of, title_of
from toolkit.profiling.result import Profile, Run


def profile_tables(profile: Profile) -> str:
    """Return, for each batch size, the costliest rows first, and what each column sums to."""
    return "".join(_run(profile, run) for run in profile.runs)


def _run(profile: Profile, run: Run) -> str:
    keys = list(run.backends)
    shown = selected(run)
    rows = [row_of(row, run, keys, "memory") for row in shown.rows]
    rows += [others_of(shown, run, keys, "memory")] if shown.others else []
    sums = [[label, *texts] for label, texts in sums_of(list(run.backends.values())).items()]
    named = ["", *(f"{key} ({column.kind})" for key, column in run.backends.items())]
    table = html_table(head_of(run, keys, "memory"), rows, title_of(profile, run, shown.order))
    return f"{table}{html_table(named, sums)}{listed(run.findings)}"


def comparison_table(found: Comparison) -> str:
    """Return every row that both profiles have, below one line that says what changed."""
    rows = map(cells_of, found.differences)
    title = f"{found.before.model} → {found.after.model}: {summary(found)}"
    return html_table(HEAD, rows, title) + listed(found.mismatch.lines)
