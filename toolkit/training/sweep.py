"""A sweep: one training for each combination of values, each in a process of its own, one after another.

A cell that fails, runs out of memory or hangs costs that cell; the rest goes on. Imports no torch.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from toolkit.artifacts import write_bytes, write_json
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.training import EpochRecord
from toolkit.training.process.child import run_child
from toolkit.training.record.folder import dated_folder, lock, unfinished_runs

_PLAN, _RESULT, _LOCK = "sweep.json", "result.json", "sweep.lock"
STALL_S = 600


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What a sweep consists of: options of `cnnkit train`, those with several values being the axes.

    `axes` maps an option's word to its values as text; `fixed` are further arguments of every cell;
    `recipes` holds the fields of each recipe, since a name stays the same when a recipe is edited.
    """

    model: str
    axes: Mapping[str, tuple[str, ...]]
    fixed: tuple[str, ...]
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def cells(self) -> list[dict[str, str]]:
        """Return every combination of the axes' values, the last axis changing fastest."""
        return [
            dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())
        ]

    @property
    def varied(self) -> dict[str, tuple[str, ...]]:
        """Return the axes that have more than one value."""
        return {name: values for name, values in self.axes.items() if len(values) > 1}


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What became of one cell: the JSON of its `cnnkit train` as `report`, or its exit status and error."""

    values: Mapping[str, str]
    status: Literal["done", "failed", "timeout"]
    wall_s: float
    error: str | None = None
    report: Mapping[str, Any] | None = None
    exit_status: int | None = None

    def figure(self, key: str) -> Any:
        """Return a figure of the report; None where the cell has none."""
        return self.report.get(key) if self.report else None

    @property
    def records(self) -> tuple[EpochRecord, ...]:
        """Return what the cell's epochs came to."""
        return tuple(EpochRecord(**record) for record in self.figure("history") or ())


def cell_name(values: Mapping[str, str]) -> str:
    """Return a cell's name, also of its folder."""
    name = "_".join(f"{axis}-{value}" for axis, value in values.items()) or "only"
    return "".join(letter if letter.isalnum() or letter in "-_.+" else "-" for letter in name)


def open_folder(sweeps: Path, plan: SweepPlan, *, resume: bool) -> Path:
    """Make a sweep's folder, or return the newest one of the same plan to go on in."""
    wanted = json.loads(json.dumps(asdict(plan)))
    if resume:
        for found in sorted(sweeps.glob(f"*/{_PLAN}"), reverse=True):
            if _read_json(found) == wanted:
                return found.parent
        raise NotFoundError(
            f"no sweep of this command, with its recipes as they are now, in {sweeps} to resume; without "
            "--resume one starts"
        )
    folder = dated_folder(sweeps)
    write_json(folder / _PLAN, wanted)
    return folder


def run_sweep(plan: SweepPlan, folder: Path, *, timeout_s: float | None) -> Iterator[tuple[CellResult, bool]]:
    """Run the cells that have no good result yet; yield every cell's, and whether it was there already.

    Raises CnnkitError where another process is at work in the folder, and KeyboardInterrupt when stopped.
    """
    held = lock(folder / _LOCK)
    if held is None:
        raise CnnkitError(f"another process works on the sweep in {folder}; wait for it or stop it")
    with held:
        for values in plan.cells():
            cell = folder / "cells" / cell_name(values)
            known = _known(cell)
            result = known or _run_cell(plan, values, cell, timeout_s)
            if not known:
                write_json(cell / _RESULT, asdict(result))
            yield result, known is not None


def _known(cell: Path) -> CellResult | None:
    with contextlib.suppress(CorruptError, NotFoundError, TypeError):
        found = CellResult(**_read_json(cell / _RESULT))
        return found if found.status == "done" else None
    return None


def _run_cell(plan: SweepPlan, values: Mapping[str, str], cell: Path, timeout_s: float | None) -> CellResult:
    """Train one cell in a process of its own; what it printed is kept beside its result."""
    command = [sys.executable, "-m", "cnnkit", "train", plan.model, "--json", "--artifacts", str(cell)]
    command += ["--stall-limit", str(STALL_S), *plan.fixed, *_arguments(values)]
    # without a result the cell was stopped with its sweep; one that failed starts anew
    if not (cell / _RESULT).exists() and any(unfinished_runs(runs) for runs in cell.glob("*/runs")):
        command.append("--resume")
    cell.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with (cell / "log.txt").open("wb") as log:
        try:
            status, output = run_child(command, log=log, timeout_s=timeout_s)
        except subprocess.TimeoutExpired:
            error = f"stopped after {timeout_s:.0f} s (--cell-timeout)"
            return CellResult(values=values, status="timeout", wall_s=time.monotonic() - started, error=error)
    wall_s = time.monotonic() - started
    if status == 0:
        with contextlib.suppress(ValueError):
            return CellResult(values=values, status="done", wall_s=wall_s, report=json.loads(output))
    error = _last_words(cell / "log.txt", status)
    return CellResult(values=values, status="failed", wall_s=wall_s, error=error, exit_status=status)


def _arguments(values: Mapping[str, str]) -> list[str]:
    """Return the options of a cell; true and false stand for switches."""
    arguments = []
    for name, value in values.items():
        if value in ("true", "false"):
            arguments.append(f"--{name}" if value == "true" else f"--no-{name}")
        else:
            arguments += [f"--{name}", value]
    return arguments


def _last_words(log: Path, status: int) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    if status < 0:
        return f"killed by signal {-status}, most often for want of memory; see {log}"
    return f"exit status {status}: {lines[-1] if lines else 'it said nothing'}; see {log}"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise NotFoundError(f"no file {path}") from None
    except (OSError, ValueError) as error:
        raise CorruptError(f"{path} cannot be read: {error}") from None


FIGURES = (
    "test_accuracy",
    "val_accuracy",
    "seconds",
    "images_per_second",
    "peak_memory_bytes",
    "device_peak_memory_bytes",
)


def rows(plan: SweepPlan, results: Sequence[CellResult]) -> list[dict[str, Any]]:
    """Return the sweep's table: a row for each cell, with None for what a failed cell did not measure."""
    return [
        {
            **{axis: result.values[axis] for axis in plan.axes},
            "status": result.status,
            **{key: result.figure(key) for key in FIGURES},
            "error": result.error,
            "checkpoint": result.figure("checkpoint"),
        }
        for result in results
    ]


def write_results(plan: SweepPlan, folder: Path, results: Sequence[CellResult]) -> dict[str, Path]:
    """Write the sweep's table as CSV, its curves and, for two axes, a heat map; return where."""
    import csv
    import io

    from toolkit.training.record.charts import draw_heat_map, draw_overlay

    text = io.StringIO()
    table = rows(plan, results)
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    files = {"csv": folder / "cells.csv"}
    write_bytes(files["csv"], text.getvalue().encode())
    varied = plan.varied
    done = [result for result in results if result.status == "done"]
    if done:
        files["curves"] = folder / "curves.png"
        names = {cell_label(result.values, varied): result.records for result in done}
        draw_overlay(files["curves"], names, f"{plan.model}: {len(done)} of {len(results)} cells")
    if len(varied) == 2 and done:
        files["heat_map"] = folder / "heat_map.png"
        (row_axis, row_values), (column_axis, column_values) = varied.items()
        found = {(r.values[row_axis], r.values[column_axis]): r.figure("test_accuracy") for r in results}
        draw_heat_map(
            files["heat_map"],
            [[found[row, column] for column in column_values] for row in row_values],
            row_values,
            column_values,
            title=f"{plan.model}: test accuracy",
            xlabel=column_axis,
            ylabel=row_axis,
        )
    return files


def cell_label(values: Mapping[str, str], varied: Mapping[str, Sequence[str]]) -> str:
    """Return what tells a cell from the others."""
    return ", ".join(f"{axis} {values[axis]}" for axis in varied) or "the only cell"
