"""Train a job from start to finish: data, network, epochs, one look at the test set, checkpoint."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib.metadata import version

from toolkit.artifacts import check_name
from toolkit.errors import CnnkitError
from toolkit.opening import require_torch
from toolkit.training import Job, Outcome, Watcher, recipes
from toolkit.training.compute.format import find_device
from toolkit.training.data.describing import describe
from toolkit.training.data.prepare import PreparedData, prepare, pretrained_input
from toolkit.training.process.failures import explained
from toolkit.training.process.interrupts import Interrupts
from toolkit.training.process.usage import release
from toolkit.training.process.watchdog import Watchdog
from toolkit.training.record import left_out
from toolkit.training.record.facts import identity
from toolkit.training.record.folder import RunFolder
from toolkit.training.record.pictures import note_pictures


def train(job: Job, watcher: Watcher | None = None) -> Outcome:
    """Train, choose the epoch, read the test set once, and promote the checkpoint.

    Raises CnnkitError in words for what can be foreseen: see toolkit.training.process.failures.
    """
    started = time.perf_counter()
    require_torch()
    from toolkit.training.session import Session

    watcher = watcher or Watcher()
    watcher.say(f"training {job.model.name}, recipe {recipes.summary(recipes.check(job.recipe))}")
    if not job.pretrained and job.model.published:
        watcher.say(
            f"{job.model.name} starts from scratch; --pretrained starts from its published weights where "
            "this machine's cache holds them, --pretrained FILE from a file"
        )
    if job.freeze and not job.pretrained:
        watcher.say(
            "note: --freeze without --pretrained keeps random weights in all layers but the last; "
            "--pretrained FILE starts from trained ones"
        )
    if job.recipe.unfreeze_at is not None and not job.freeze:
        raise CnnkitError("--unfreeze-at needs --freeze: without it all layers learn from the start")
    find_device(job.device)
    with explained(job, begun=False):
        prepared = prepare(job, watcher)
        for text in (describe(prepared), pretrained_input(job, prepared), left_out()):
            if text:
                watcher.say(text)
        folder = _folder(job, prepared, watcher)
        note_pictures(folder.path, prepared)
    with explained(job, begun=True):
        try:
            session = Session(job, prepared, folder, watcher)
            with Watchdog(watcher.say, give_up_s=job.stall_limit_s) as dog, Interrupts() as interrupts:
                return session.train(started, dog.step, interrupts)
        except Exception:
            folder.abandon()
            raise
        finally:
            folder.close()
            kept = release(job.device)
            if kept:
                watcher.say(kept)


def _folder(job: Job, prepared: PreparedData, watcher: Watcher) -> RunFolder:
    """Make the run's folder, or open the one to resume; its choice of threads and format comes first."""
    from toolkit.training.data.balance import objective_of
    from toolkit.training.teacher import teacher_hash

    runs = job.root / check_name(job.artifact_name) / "runs"
    objective = objective_of(job.recipe, prepared.learned.labels, prepared.dataset.classes)
    asked = identity(
        job,
        prepared.dataset.fingerprint,
        prepared.record,
        weights=objective.weights,
        teacher=teacher_hash(job),
    )
    if not job.resume:
        folder = RunFolder.new(runs)
        folder.begin(replace(asked, threads=_threads(job.threads), torch=version("torch")))
        return folder
    folder = RunFolder.unfinished(runs, asked)
    begun = folder.facts()
    watcher.say(f"resuming {folder.path}")
    other_torch = f"torch {begun.torch} and goes on with {version('torch')}"
    others = [other_torch] if begun.torch != version("torch") else []
    if any(begun.kept.get("compute", {}).values()):
        others.append("kernels that this release does not have")
    for what in others:
        watcher.say(
            f"note: the run was begun with {what}: its weights may end otherwise than those of a run that "
            "was never stopped"
        )
    kept: list[tuple[str, object, object]] = [("threads", job.threads, begun.threads)]
    compute = begun.compute
    if compute:
        kept += [("precision", job.arithmetic, compute.arithmetic), ("layout", job.layout, compute.layout)]
    for option, now, then in kept:
        if now not in (None, "auto", "measured", then):
            watcher.say(
                f"--{option} {now} is not used: a run goes on as it was begun, with {then}, to end with the "
                "same weights"
            )
    _threads(begun.threads)
    return folder


def _threads(wanted: int | None) -> int:
    import torch

    if wanted:
        torch.set_num_threads(wanted)
    return torch.get_num_threads()
