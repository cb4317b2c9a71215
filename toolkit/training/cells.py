"""One cell of a sweep: a `cnnkit train` in a process of its own, and what became of it. Imports no torch."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from safetensors import SafetensorError, safe_open

from toolkit import schema
from toolkit.artifacts import write_json
from toolkit.clusters import Demand, LostWorkError, Work, Workplace
from toolkit.errors import CnnkitError, CorruptError, DivergedError
from toolkit.figures import duration_text
from toolkit.processes import stopped_as_by_ctrl_c
from toolkit.recipes import Recipe
from toolkit.schema import Magnitude
from toolkit.training import TrainingReport, recipes
from toolkit.training.record.folder import FIRST_ATTEMPT, GOOD, unfinished_runs
from toolkit.training.sending import ReadFiles, rooted

T = TypeVar("T")

STALL_S = 600
_RESULT = "result.json"
# bytes that file systems take, 255, less the number of a search's trial
_LONGEST_NAME = 250


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


def cell_name(values: Mapping[str, str], *, hashed: bool = False) -> str:
    """Return a cell's name, also of its folder: what no folder's name may hold is replaced or cut off.

    A name that is cut off ends in a hash of the whole, and any that is `hashed`.
    """
    told = _told(values)
    data = "".join(letter if letter.isalnum() or letter in "-_.+" else "-" for letter in told).encode()
    if len(data) <= _LONGEST_NAME and not hashed:
        return data.decode()
    digest = hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{data[: _LONGEST_NAME - len(digest) - 1].decode('utf-8', 'ignore')}_{digest}"


def cell_names(cells: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names of all cells of a sweep, each another one.

    a/b.toml and a-b.toml are two recipes, and would be one folder: the one whose letters were replaced is
    hashed. Others keep the plain name, by which sweeps of older releases go on.
    """
    plain = [cell_name(values) for values in cells]
    count = Counter(plain)
    return [
        cell_name(values, hashed=count[name] > 1 and name != _told(values))
        for values, name in zip(cells, plain, strict=True)
    ]


def _told(values: Mapping[str, str]) -> str:
    return "_".join(f"{axis}-{value}" for axis, value in values.items()) or "only"


def known_result(cell: Path) -> CellResult | None:
    """Return the good result that a cell's folder holds; one that cannot be read is trained again."""
    with contextlib.suppress(CnnkitError, FileNotFoundError):
        path = cell / _RESULT
        found = schema.convert(CellResult, schema.read_json(path), what=str(path))
        good = (found.status == "done" and found.report) or found.status in ("pruned", "diverged")
        return found if good else None
    return None


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """What all cells of a sweep share: a model, arguments of `cnnkit train`, and where they run.

    `read` returns what they read of this machine's files, for cells that run elsewhere; `recipe_of`
    the recipe that a cell of some values was planned with, None where none was.
    """

    model: str
    arguments: Sequence[str]
    place: Workplace
    timeout_s: float | None = None
    read: Callable[[], ReadFiles] | None = None
    memory_bytes: int | None = None
    recipe_of: Callable[[Mapping[str, str]], Recipe | None] | None = None

    def need(self, values: Mapping[str, str]) -> Demand:
        """Return what a cell asks a machine for: a CPU for each thread, a GPU where it computes on one."""
        told = dict(zip(self.arguments, self.arguments[1:], strict=False))
        threads = values.get("threads") or told.get("--threads") or "1"
        gpus = int(values.get("device", "cpu").startswith("cuda"))
        return Demand(cpus=int(threads), gpus=gpus, memory_bytes=self.memory_bytes)

    def words(self, values: Mapping[str, str], cell: Path, root: str) -> list[str]:
        """Return the command of a cell, whose paths lie under `root`; it goes on with what the cell holds."""
        told = ["train", self.model, "--json", "--artifacts", f"{root}{cell.absolute() if root else cell}"]
        read = self.read() if root and self.read is not None else None
        told += ["--stall-limit", str(STALL_S), *rooted([*self.arguments, *_arguments(values)], root, read)]
        if read is not None and read.data_dir is not None and "--data-dir" not in self.arguments:
            told += ["--data-dir", f"{root}{read.data_dir}"]
        # without a result the cell was stopped with its sweep; one that failed starts anew
        if not (cell / _RESULT).exists() and any(unfinished_runs(runs) for runs in cell.glob("*/runs")):
            told.append("--resume")
        return told


def run_cell(
    plan: CellPlan, values: Mapping[str, str], cell: Path, *, label: str, trial: TrialJudge | None = None
) -> CellResult:
    """Train one cell in a process of its own; what the process printed is kept beside the cell's result.

    A `trial` of a search is asked after each epoch whether the cell is worth going on with.
    """
    cell.mkdir(parents=True, exist_ok=True)
    work = Work(
        label=label,
        folder=cell,
        log=cell / "log.txt",
        words=partial(plan.words, values, cell),
        need=plan.need(values),
        timeout_s=plan.timeout_s,
        enough=None if trial is None else partial(_given_up, cell, trial),
    )
    result = _result_of(work, values, plan.place)
    other = _unplanned(result, plan)
    if other is not None:
        result = replace(result, status="failed", report=None, error=other)
    elif trial is not None:
        result = _judged(result, cell, trial)
    write_json(cell / _RESULT, schema.plain(result))
    return result


def pruned(result: CellResult, by_epoch: tuple[float, ...]) -> CellResult:
    """Return a trial's result as that of one that was given up after so many epochs."""
    return replace(result, status="pruned", by_epoch=by_epoch, report=None, error=None, exit_status=None)


@contextlib.contextmanager
def queue(place: Workplace) -> Iterator[Callable[[Callable[[], T]], Callable[[], T]]]:
    """Yield a function that has calls made, as many at once as a place takes; it returns how to get a result.

    Where that is one, a call is made by this thread when its result is asked for. On the way out by an error
    or a stop, calls that are at work are stopped, and the others are not made.
    """
    if place.at_once == 1:
        yield lambda call: call
        return
    with stopped_as_by_ctrl_c(), ThreadPoolExecutor(place.at_once) as pool:
        try:
            yield lambda call: pool.submit(call).result
        except BaseException:
            place.stop()
            pool.shutdown(cancel_futures=True)
            raise


class TrialJudge(Protocol):
    """What a search asks of a cell."""

    def figure(self, epoch: Mapping[str, str]) -> float | None:
        """Return the figure of a row of the epochs' table, greater being better."""

    @property
    def first_alone(self) -> bool:
        """Tell whether further attempts, at lower rates, say nothing of the trial's own values."""

    def gives_up(self, by_epoch: Sequence[float]) -> bool:
        """Tell whether figures so far are worse than its predecessors'."""


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


def _given_up(cell: Path, trial: TrialJudge) -> bool:
    return _by_epoch(cell, trial, ended=False)[1] is not None


def _judged(result: CellResult, cell: Path, trial: TrialJudge) -> CellResult:
    by_epoch, early = _by_epoch(cell, trial, ended=True)
    if early == "pruned":
        return pruned(result, by_epoch)
    if early is None and result.exit_status == DivergedError.exit_status:
        return replace(result, status="diverged", by_epoch=by_epoch)
    if early is None:
        return replace(result, by_epoch=by_epoch)
    return replace(result, status="diverged", by_epoch=by_epoch, report=None, error=None, exit_status=None)


def _result_of(work: Work, values: Mapping[str, str], place: Workplace) -> CellResult:
    start = time.perf_counter()
    try:
        ended = place.run(work)
    except LostWorkError as lost:
        wall_s = time.perf_counter() - start
        return CellResult(values=values, status="failed", wall_s=wall_s, error=str(lost))
    except subprocess.TimeoutExpired as late:
        error = f"stopped after {late.timeout:.0f} s (--cell-timeout)"
        return CellResult(values=values, status="timeout", wall_s=late.timeout, error=error)
    found = partial(CellResult, values=values, wall_s=ended.wall_s, where=ended.where)
    if ended.status == 0:
        with contextlib.suppress(CnnkitError):
            return found(status="done", report=read_report(ended.output, what="the report of a cell"))
    return found(status="failed", error=last_words(work.log, ended.status), exit_status=ended.status)


def _unplanned(result: CellResult, plan: CellPlan) -> str | None:
    """Say that a cell was trained by another recipe than was planned; None where it was not.

    Each cell reads a recipe file anew, which may be edited while the sweep runs.
    """
    planned = plan.recipe_of(result.values) if plan.recipe_of and result.report else None
    if planned is None or result.report is None:
        return None
    fields = (*recipes.settings(), "own_pixels")
    now, then = ([getattr(recipe, name) for name in fields] for recipe in (result.report.settings, planned))
    told = [f"{name} {a}, planned {b}" for name, a, b in zip(fields, now, then, strict=True) if a != b]
    if not told:
        return None
    return (
        "the recipe was edited while the sweep ran, and this cell was trained by the new one "
        f"({'; '.join(told)}); put it back and --resume, or start another sweep"
    )


def _arguments(values: Mapping[str, str]) -> Iterator[str]:
    """Yield the options of a cell; true and false stand for switches."""
    for word, value in values.items():
        if value in ("true", "false"):
            yield f"--{word}" if value == "true" else f"--no-{word}"
        else:
            yield from (f"--{word}", value)


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
