"""One cell of a sweep: a `cnnkit train` in a process of its own, and what became of it. Imports no torch."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from toolkit import schema
from toolkit.artifacts import write_json
from toolkit.clusters import Demand, LostWorkError, Work, Workplace
from toolkit.errors import CnnkitError
from toolkit.processes import stopped_as_by_ctrl_c
from toolkit.training.cell_results import RESULT, CellResult, last_words, read_report, read_result
from toolkit.training.planned import Planned
from toolkit.training.record.folder import REPORT, unfinished_runs
from toolkit.training.sending import ReadFiles, cache_folders, rooted
from toolkit.training.trials import TrialJudge, given_up, judged

T = TypeVar("T")

STALL_S = 600
# bytes that file systems take, 255, less the number of a search's trial
_LONGEST_NAME = 250


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


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """What all cells of a sweep share: a model, arguments of `cnnkit train`, and where they run.

    `read` returns what they read of this machine's files, for cells that run elsewhere; `planned` is what
    their trainings are held to. `heeded` returns those of a cell's values that do something together, which
    alone `cnnkit train` takes.
    """

    model: str
    arguments: Sequence[str]
    place: Workplace
    timeout_s: float | None = None
    read: Callable[[], ReadFiles] | None = None
    memory_bytes: int | None = None
    planned: Planned = field(default_factory=Planned)
    heeded: Callable[[Mapping[str, str]], Mapping[str, str]] = lambda values: values

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
        arguments = [*self.arguments, *_arguments(self.heeded(values))]
        told += ["--stall-limit", str(STALL_S), *rooted(arguments, root, read)]
        if read is not None and read.data_dir is not None and "--data-dir" not in self.arguments:
            told += ["--data-dir", f"{root}{read.data_dir}"]
        if any(unfinished_runs(runs) for runs in cell.glob("*/runs")):
            told.append("--resume")
        return told


def run_cell(
    plan: CellPlan, values: Mapping[str, str], cell: Path, *, label: str, trial: TrialJudge | None = None
) -> CellResult:
    """Train one cell in a process of its own; what the process printed is kept beside the cell's result.

    A `trial` of a search is asked after each epoch whether the cell is worth going on with.
    """
    _clear(cell)
    cell.mkdir(parents=True, exist_ok=True)
    work = Work(
        label=label,
        folder=cell,
        log=cell / "log.txt",
        words=partial(plan.words, values, cell),
        need=plan.need(values),
        timeout_s=plan.timeout_s,
        folders=cache_folders(plan.arguments),
        enough=partial(_is_enough, plan.planned, values, cell, trial),
    )
    result = _result_of(work, values, plan.place)
    if trial is not None:
        result = judged(result, cell, trial)
    result = plan.planned.held(result, cell)
    write_json(cell / RESULT, schema.plain(result))
    return result


def _clear(cell: Path) -> None:
    """Remove what an earlier try left that failed; a run that can be gone on with stays.

    That is one that was stopped with its sweep, or whose machines were lost: it has no result of its own.
    """
    if not (cell / RESULT).exists():
        for ended in cell.glob(f"*/runs/*/{REPORT}"):  # and nobody came to write its result down
            shutil.rmtree(ended.parent)
        return
    found = read_result(cell)
    if found is None or not found.lost:
        for left in cell.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
    (cell / RESULT).unlink()  # at last, so that what is half removed is no run to go on with


def _is_enough(planned: Planned, values: Mapping[str, str], cell: Path, trial: TrialJudge | None) -> bool:
    """Tell whether a cell at work is to be ended: its trial is given up, or trains what was not planned."""
    return (trial is not None and given_up(cell, trial)) or planned.wrong(values, cell) is not None


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


def _result_of(work: Work, values: Mapping[str, str], place: Workplace) -> CellResult:
    start = time.perf_counter()
    try:
        ended = place.run(work)
    except LostWorkError as lost:
        wall_s = time.perf_counter() - start
        return CellResult(values=values, status="failed", wall_s=wall_s, error=str(lost), lost=True)
    except subprocess.TimeoutExpired as late:
        error = f"stopped after {late.timeout:.0f} s (--cell-timeout)"
        return CellResult(values=values, status="timeout", wall_s=late.timeout, error=error)
    found = partial(CellResult, values=values, wall_s=ended.wall_s, where=ended.where)
    if ended.status == 0:
        with contextlib.suppress(CnnkitError):
            return found(status="done", report=read_report(ended.output, what="the report of a cell"))
    return found(status="failed", error=last_words(work.log, ended.status), exit_status=ended.status)


def _arguments(values: Mapping[str, str]) -> Iterator[str]:
    """Yield the options of a cell; true and false stand for switches."""
    for word, value in values.items():
        if value in ("true", "false"):
            yield f"--{word}" if value == "true" else f"--no-{word}"
        else:
            yield from (f"--{word}", value)
