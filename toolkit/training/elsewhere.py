"""A training on a cluster: each rank is a `cnnkit train` on some machine, started as torchrun would start it.

The first rank writes and speaks, as ever; its files come to lie under the artifacts of this machine.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from toolkit.artifacts import CHECKPOINT
from toolkit.clusters import Cluster, Demand, Ended, Work
from toolkit.errors import CnnkitError
from toolkit.opening import Selection, open_model
from toolkit.processes import stopped_as_by_ctrl_c
from toolkit.training import Job, TrainingReport, Watcher
from toolkit.training.cell_results import last_words, read_report
from toolkit.training.record.folder import trained_elsewhere, unfinished_runs
from toolkit.training.record.names import refuse_other_content
from toolkit.training.sending import (
    ReadFiles,
    cache_folders,
    insist_that_weights_are_typed,
    read_files,
    rooted,
)
from toolkit.transfer import pretrained_file

# what a rank says whose own fault it is not (LostRankError)
_MISSES_OTHERS = re.compile(r"ranks? [\d, ]+ (ended|did not answer)|the ranks lost each other")


@dataclass(kw_only=True)
class Relay:
    """Tells a watcher each line that a command says, once; asked now and then whether that is enough."""

    log: Path
    watcher: Watcher
    told: int = 0

    def __call__(self) -> bool:
        if self.log.exists():
            lines = self.log.read_bytes().decode("utf-8", "replace").splitlines(keepends=True)
            whole = [line.rstrip("\n") for line in lines if line.endswith("\n")]
            for line in whole[self.told :]:
                if not line.startswith("error: "):  # that is raised
                    self.watcher.say(line)
            self.told = len(whole)
        return False


def train_elsewhere(
    cluster: Cluster,
    address: str | None,
    job: Job,
    arguments: Sequence[str],
    *,
    watcher: Watcher,
    verbose: bool,
) -> TrainingReport:
    """Train a job in `job.ranks` processes of a cluster; `arguments` are what `cnnkit train` is told.

    Raises CnnkitError in the words of the rank that failed, or where the cluster does.
    """
    refuse_other_content(job)  # no rank sees the artifacts of this machine
    if ":" in job.device:
        raise CnnkitError(f"--device {job.device} names a GPU of one machine; --device cuda takes any")
    threads = job.threads or 1
    if job.threads is None:
        watcher.say(f"{_ranks(job.ranks)} with 1 thread each (--threads takes others)")
        arguments = [*arguments, "--threads", "1"]
    insist_that_weights_are_typed([job.recipe], arguments)
    if job.pretrained is not None:
        pretrained_file(job.model.name, job.pretrained)  # or no rank would find it
    arguments = _as_files(job, arguments)
    read = read_files(job.dataset_name, job.data_dir, job.columns, arguments)
    need = Demand(cpus=threads, gpus=int(job.device.startswith("cuda")))
    folder = job.root / job.artifact_name
    with (
        _stopped_in_words(),
        trained_elsewhere(folder / "runs", resume=job.resume),
        tempfile.TemporaryDirectory(prefix="cnnkit-ranks-") as others,
        cluster.open(address, lambda: read.paths, need, tell=watcher.say, verbose=verbose) as place,
    ):
        works = []
        for rank in range(job.ranks):
            own = folder if rank == 0 else Path(others) / str(rank) / job.artifact_name
            own.mkdir(parents=True, exist_ok=True)
            log = own / "runs" / "log.txt"
            works.append(
                Work(
                    label=f"rank {rank}",
                    folder=own,
                    log=log,
                    words=partial(_words, job, arguments, read, own.parent),
                    need=need,
                    enough=Relay(log=log, watcher=watcher) if rank == 0 else None,
                    goes_on_from=_goes_on_from(job, folder) if rank == 0 else (),
                    environment=_seat(rank, job.ranks),
                    folders=cache_folders(arguments),
                )
            )
        return _report(works, place.run_together(works), folder / "runs")


def _as_files(job: Job, arguments: Sequence[str]) -> list[str]:
    """Return arguments that name files where they named what only this machine finds by its name."""
    selection = Selection(root=job.root, formats=(CHECKPOINT,))
    teacher = str(open_model(job.teacher, selection).path) if job.teacher else None
    files = {"--teacher": teacher, "--pretrained": job.pretrained}
    return [files.get(word) or own for word, own in zip(("", *arguments), arguments, strict=False)]


@contextlib.contextmanager
def _stopped_in_words() -> Iterator[None]:
    with stopped_as_by_ctrl_c():
        try:
            yield
        except KeyboardInterrupt:
            raise CnnkitError("stopped; the same command with --resume goes on where it was") from None


def _ranks(count: int) -> str:
    return "the rank computes" if count == 1 else f"{count} ranks compute"


def _words(job: Job, arguments: Sequence[str], read: ReadFiles, artifacts: Path, root: str) -> list[str]:
    told = ["train", job.model.name, "--json", "--artifacts", f"{root}{artifacts.absolute()}"]
    told += rooted(arguments, root, read)
    if root and read.data_dir is not None and job.data_dir is None:
        told += ["--data-dir", f"{root}{read.data_dir}"]
    return told


def _goes_on_from(job: Job, folder: Path) -> tuple[Path, ...]:
    """Return the files that a rank must find: the checkpoint that it may replace, and what it resumes."""
    runs = unfinished_runs(folder / "runs") if job.resume else []
    found = [path for run in runs for path in run.rglob("*")]
    found += [*folder.glob(f"{job.artifact_name}.safetensors*")]
    return tuple(sorted(path for path in found if path.is_file()))


def _seat(rank: int, count: int) -> Mapping[str, str]:
    """Return a launcher's variables; every rank is the only one of its machine, as far as it can tell."""
    told = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    return {name: str(value) for name, value in told.items()} if count > 1 else {}


def _report(works: Sequence[Work], ended: Sequence[Ended | None], runs: Path) -> TrainingReport:
    failed = {rank: end.status for rank, end in enumerate(ended) if end is not None and end.status}
    if failed:
        raise _failure(works, failed, runs)
    assert ended[0] is not None  # no other failed, so that none was stopped
    return read_report(ended[0].output, what="the report of a training")


def _failure(works: Sequence[Work], failed: Mapping[int, int], runs: Path) -> CnnkitError:
    """Return why a training failed: a rank's own fault, its end by a signal, or what others miss.

    The logs of the ranks that failed are kept beside the first one's.
    """
    logs = {rank: runs / f"rank-{rank}.txt" if rank else works[0].log for rank in failed}
    for rank, log in logs.items():
        if rank and works[rank].log.exists():
            shutil.copy(works[rank].log, log)
    said = {rank: last_words(logs[rank], status) for rank, status in failed.items()}
    own = [rank for rank, status in failed.items() if status > 0 and not _MISSES_OTHERS.match(said[rank])]
    killed = [rank for rank, status in failed.items() if status < 0]
    rank = next(iter((*own, *killed, *failed)))
    error = CnnkitError(f"rank {rank}: {said[rank]}" if rank and rank in (*own, *killed) else said[rank])
    error.exit_status = max(1, failed[rank])
    return error
