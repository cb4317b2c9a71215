"""Why an int8 file is slower than the fp32 one on a backend: rows of a short profile that take longer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from toolkit.choosing import Candidate
from toolkit.choosing.contest import Contest
from toolkit.choosing.standing import Entrant
from toolkit.figures import ms_text
from toolkit.graphs.source import graph_of
from toolkit.profiling.bench import run_batch
from toolkit.profiling.columns import ColumnSource, ColumnSources
from toolkit.profiling.result import Run
from toolkit.profiling.settings import ProfileSettings

# a file counts as slower from here on; so many rows are told, of so many seconds' profile
SLOWER, ROWS, DURATION_S, WINDOWS = 1.1, 3, 0.15, 3
LAYOUT = "layout"
PLAIN, CHEAPER = "fp32", "int8"


@dataclass(frozen=True, kw_only=True)
class SlowerRow:
    """A row of the profile, and what it takes in either file, in milliseconds."""

    label: str
    plain_ms: float
    cheaper_ms: float


def why_slower(contest: Contest, chosen: str) -> tuple[str, ...]:
    """Say of the backend that was chosen, and of the baseline's, which rows take longer in its int8 file.

    Nothing where int8 is not slower there.
    """
    standing = contest.standing
    # what failed, hung or crashed would do so in this process
    plain = [one for one in standing.entrants if not one.candidate.settings and one.tracks and not one.lost]
    asked = [chosen, *([standing.baseline.candidate.backend] if standing.baseline else [])]
    said = []
    for backend in dict.fromkeys(asked):
        own = [one for one in plain if one.candidate.backend == backend]
        first = _fastest(own, PLAIN, contest)
        # on other threads its rows would tell of those
        alike = [one for one in own if first and one.candidate.threads == first.candidate.threads]
        second = _fastest(alike, CHEAPER, contest)
        if first is None or second is None:
            continue
        times = contest.standing.score(second) / contest.standing.score(first)
        if not math.isfinite(times) or times <= SLOWER:
            continue
        batch = standing.told_batch(first)
        told = _rows_told(first.candidate, second.candidate, batch, contest)
        rest = f": {told}" if told else ""
        said.append(f"{CHEAPER} is {times:.1f} times slower than {PLAIN} on {backend}{rest}")
    return tuple(said)


def _rows_told(plain: Candidate, cheaper: Candidate, batch: int, contest: Contest) -> str:
    """Say which rows take longer; where they could not be profiled, why: the choice stands by now."""
    try:
        rows = slower_rows(plain, cheaper, batch, contest.settings.seed)
    except Exception as error:  # a runtime's own errors share no base class
        return f"by which rows is not known ({(str(error) or type(error).__name__).splitlines()[0]})"
    return "; ".join(
        f"{row.label} takes {ms_text(row.cheaper_ms)} ms, in {PLAIN} "
        f"{ms_text(row.plain_ms) if row.plain_ms else 'nothing'}"
        for row in rows
    )


def _fastest(entrants: list[Entrant], precision: str, contest: Contest) -> Entrant | None:
    own = [one for one in entrants if one.candidate.artifact.passport.precision == precision]
    return min(own, key=contest.standing.score, default=None)


def columns_of(ones: Mapping[str, Candidate]) -> ColumnSources:
    """Return candidates as columns of one profile, by the names that they are given."""
    targets = [
        ColumnSource(
            key=name,
            backend=one.backend,
            artifact=one.artifact,
            graph=source.path if (source := graph_of(one.artifact)) else None,
        )
        for name, one in ones.items()
    ]
    return ColumnSources(named=True, targets=targets)


def slower_rows(plain: Candidate, cheaper: Candidate, batch: int, seed: int) -> tuple[SlowerRow, ...]:
    """Profile two files of one backend, on the first one's threads; return rows that the second is slower in.

    Empty where the runtime tells no time per layer. Raises what a runtime raises.
    """
    settings = ProfileSettings(
        threads=plain.threads, duration_s=DURATION_S, seed=seed, walks=False, windows=WINDOWS
    )
    found = run_batch(columns_of({PLAIN: plain, CHEAPER: cheaper}), settings, batch)
    return _longer(found) if found else ()


def _longer(run: Run) -> tuple[SlowerRow, ...]:
    rows = []
    for row in run.rows:
        if not row.modules and row.type != LAYOUT:
            continue  # what passes between nodes is no reason
        first, second = (row.cells.get(key) for key in (PLAIN, CHEAPER))
        plain_ms = (first.latency_ms if first else None) or 0.0
        cheaper_ms = (second.latency_ms if second else None) or 0.0
        if cheaper_ms > plain_ms:
            rows.append(SlowerRow(label=row.label, plain_ms=plain_ms, cheaper_ms=cheaper_ms))
    return tuple(sorted(rows, key=lambda one: one.plain_ms - one.cheaper_ms)[:ROWS])
