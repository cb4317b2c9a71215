"""What became of a sweep's cell, and how it is read from its folder, report and log. Imports no torch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolkit import schema
from toolkit.errors import CnnkitError, CorruptError
from toolkit.figures import duration_text
from toolkit.schema import Magnitude
from toolkit.training import TrainingReport

RESULT = "result.json"
# axes that say what a cell is computed in, or by which it is chosen
_FORMAT = ("precision", "layout", "device", "threads", "batch", "size")


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What became of one cell: the report of its training, or its exit status and error.

    A pruned trial of a search has neither: it was worse than its predecessors at the same epoch. One that
    diverged has no report: what the guard made of it at a lower rate tells nothing of the drawn one.
    """

    values: Mapping[str, str]
    status: Literal["done", "failed", "timeout", "pruned", "diverged"]
    wall_s: Magnitude
    error: str | None = None
    report: TrainingReport | None = None
    exit_status: int | None = None
    # the machine that it ran on; results of older releases lack it
    where: str | None = None
    # of a search: the held-out figure after each epoch, up to the one at which the trial was given up;
    # greater is better, so that a loss has its sign changed
    by_epoch: tuple[float, ...] = ()
    # its machines were lost again and again: what it had reached by then can be gone on with
    lost: bool = False

    @property
    def good(self) -> bool:
        """Tell whether the cell need not be trained again."""
        return (self.status == "done" and self.report is not None) or self.status in ("pruned", "diverged")

    @property
    def format(self) -> str | None:
        """Return the number format and the layout that the cell was computed in; None without a report."""
        return None if self.report is None else f"{self.report.arithmetic}, {self.report.layout}"

    @property
    def sentence(self) -> str:
        """Say in a few words what the cell came to."""
        if self.status == "pruned":
            return f"given up after epoch {len(self.by_epoch)}, at {abs(self.by_epoch[-1]):.4f}"
        if self.status == "diverged":
            return f"diverged after epoch {len(self.by_epoch)}: {self.error or 'it took a lower rate'}"
        if self.report is None:
            return f"{self.status} after {duration_text(self.wall_s, rough=True)}: {self.error}"
        return f"test accuracy {self.report.test_accuracy:.4f}, {duration_text(self.report.seconds)}"


def otherwise_computed(results: Iterable[CellResult]) -> list[tuple[CellResult, CellResult]]:
    """Return cells in another format than a first one has that no axis gave another: they do not compare."""
    firsts: dict[tuple[str | None, ...], CellResult] = {}
    found = []
    for result in results:
        if result.report is not None:
            first = firsts.setdefault(tuple(result.values.get(axis) for axis in _FORMAT), result)
            if first.format != result.format:
                found.append((first, result))
    return found


def known_result(cell: Path) -> CellResult | None:
    """Return the good result that a cell's folder holds; one that cannot be read is trained again."""
    found = read_result(cell)
    return found if found is not None and found.good else None


def read_result(cell: Path) -> CellResult | None:
    """Return the result that a cell's folder holds; None where there is none, or none that can be read."""
    path = cell / RESULT
    with contextlib.suppress(CnnkitError, FileNotFoundError):
        return schema.convert(CellResult, schema.read_json(path), what=str(path))
    return None


def read_report(output: bytes, *, what: str) -> TrainingReport:
    """Return the report that `cnnkit train --json` printed: its last line that is an object of JSON.

    Others may have printed there before the command began, or at its process's end. Raises CorruptError.
    """
    for line in reversed(output.splitlines()):
        with contextlib.suppress(ValueError):
            told = json.loads(line)
            if isinstance(told, dict):
                return schema.convert(TrainingReport, told, what=what)
    said = output.decode("utf-8", "replace").strip()
    raise CorruptError(f"{what} is not there; on stdout came {said[-200:]!r}")


def last_words(log: Path, status: int) -> str:
    """Return why a command failed, by what it said in its log and its exit status."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    if status < 0:
        return f"killed by signal {-status}, most often for want of memory; see {log}"
    return f"exit status {status}: {lines[-1] if lines else 'it said nothing'}; see {log}"
