"""A search's trial, judged by the epochs of its cell as they come. Imports no torch."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

from safetensors import SafetensorError, safe_open

from toolkit.errors import DivergedError
from toolkit.training.cell_results import CellResult
from toolkit.training.record.folder import FIRST_ATTEMPT, GOOD


class TrialJudge(Protocol):
    """What a search asks of a cell."""

    def figure(self, epoch: Mapping[str, str]) -> float | None:
        """Return the figure of a row of the epochs' table, greater being better."""

    @property
    def first_alone(self) -> bool:
        """Tell whether further attempts, at lower rates, say nothing of the trial's own values."""

    def gives_up(self, by_epoch: Sequence[float]) -> bool:
        """Tell whether figures so far are worse than its predecessors'."""


def pruned(result: CellResult, by_epoch: tuple[float, ...]) -> CellResult:
    """Return a trial's result as that of one that was given up after so many epochs."""
    return replace(result, status="pruned", by_epoch=by_epoch, report=None, error=None, exit_status=None)


def _by_epoch(
    cell: Path, trial: TrialJudge, *, ended: bool
) -> tuple[tuple[float, ...], Literal["pruned", "diverged"] | None]:
    """Return the figures of a cell's epochs up to where its trial ends early, and as what it does.

    The epochs are judged one by one, however many came since the last look: it changes nothing when that is.
    Of a cell at work those alone count that the guard cannot take back, but where its first attempt alone
    counts, all of which stays.
    """
    tables = sorted(cell.glob("*/runs/*/epochs.csv"))
    if not tables:
        return (), None
    run = tables[-1].parent
    rows, lowered = _first_attempt(run) if trial.first_alone else (_rows(run / "epochs.csv"), False)
    lasting = len(rows) if ended or trial.first_alone else _lasting_epochs(run)
    found: list[float] = []
    for row in rows[:lasting]:
        figure = trial.figure(row)
        if figure is None:
            break
        found.append(figure)
        if trial.gives_up(found):
            return tuple(found), "pruned"
    return tuple(found), "diverged" if lowered else None


def _first_attempt(run: Path) -> tuple[list[dict[str, str]], bool]:
    """Return the epochs of a run's first attempt, also those that the guard took back, and whether it did."""
    kept = run / FIRST_ATTEMPT
    if kept.exists():
        return _rows(kept), True
    rows = _rows(run / "epochs.csv")
    first = [row for row in rows if not int(row.get("attempt") or 0)]
    return first, len(first) < len(rows)


def _rows(table: Path) -> list[dict[str, str]]:
    with contextlib.suppress(OSError), table.open(newline="") as stream:
        return list(csv.DictReader(stream))
    return []


def _lasting_epochs(run: Path) -> int:
    """Return how many epochs of a run stay whatever comes: those up to where the guard would go back to."""
    with contextlib.suppress(OSError, SafetensorError), safe_open(run / GOOD, framework="numpy") as state:
        return int(json.loads(state.metadata()["progress"])["epoch"])
    return 0


def given_up(cell: Path, trial: TrialJudge) -> bool:
    """Tell whether a cell at work is given up by what it has reached."""
    return _by_epoch(cell, trial, ended=False)[1] is not None


def judged(result: CellResult, cell: Path, trial: TrialJudge) -> CellResult:
    """Return the result of a cell that has ended as what its trial came to."""
    by_epoch, early = _by_epoch(cell, trial, ended=True)
    if early == "pruned":
        return pruned(result, by_epoch)
    if early is None and result.exit_status == DivergedError.exit_status:
        return replace(result, status="diverged", by_epoch=by_epoch)
    if early is None:
        return replace(result, by_epoch=by_epoch)
    return replace(result, status="diverged", by_epoch=by_epoch, report=None, error=None, exit_status=None)
