"""Train a job from start to finish: data, network, epochs, one look at the test set, checkpoint."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version

from toolkit.artifacts import check_name
from toolkit.checkpoints import tool_versions
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.machine.cpu import cpu
from toolkit.machine.threads import compute_with, threads_given_back
from toolkit.models import FINETUNE
from toolkit.opening import require_torch
from toolkit.training import Job, Outcome, Watcher, recipes
from toolkit.training.compute.format import find_device
from toolkit.training.compute.ranks import LostRankError, Ranks, joined
from toolkit.training.data.describing import describe
from toolkit.training.data.prepare import PreparedData, prepare, pretrained_input
from toolkit.training.process.failures import explained
from toolkit.training.process.interrupts import Interrupts
from toolkit.training.process.usage import release
from toolkit.training.process.watchdog import Watchdog
from toolkit.training.record import left_out
from toolkit.training.record.facts import RunFacts, compute_options, differences, identity, scheme_of
from toolkit.training.record.folder import RunFolder
from toolkit.training.record.names import refuse_other_content
from toolkit.training.record.pictures import note_pictures


def train(job: Job, watcher: Watcher | None = None) -> Outcome:
    """Train, choose the epoch, read the test set once, and promote the checkpoint.

    Raises CnnkitError in words for what can be foreseen: see toolkit.training.process.failures.
    """
    started = time.perf_counter()
    require_torch()
    with explained(job, begun=False), threads_given_back(), joined(job) as ranks:
        return _train(job, (watcher if ranks.leads else None) or Watcher(), ranks, started)


def _train(job: Job, watcher: Watcher, ranks: Ranks, started: float) -> Outcome:
    from toolkit.training.session import Session

    watcher.say(f"training {job.model.name}, recipe {recipes.summary(recipes.check(job.recipe))}")
    _tell_of_the_start(job, watcher)
    recipes.insist_that_layers_thaw(job.recipe, freeze=job.freeze)
    find_device(job.device)
    ranks.only_lead(lambda: refuse_other_content(job))
    with explained(job, begun=False):
        prepared = ranks.together(lambda: prepare(job, watcher))
        for text in (describe(prepared), pretrained_input(job, prepared), left_out()):
            if text:
                watcher.say(text)
        asked = ranks.together(lambda: _asked(job, prepared))
        insist_on_one_job(ranks, asked)
        folder = ranks.only_lead(lambda: _folder(job, asked, watcher, ranks))
        compute_with(ranks.lead(lambda: folder.facts().threads if folder else None))
    with explained(job, begun=True):
        try:
            if folder:
                note_pictures(folder.path, prepared)
            session = Session(job, prepared, folder, watcher, ranks)
            with (
                Watchdog(watcher.say, give_up_s=job.stall_limit_s) as dog,
                Interrupts() as interrupts,
                _stopped_together(interrupts),
            ):
                return session.train(started, dog.step, interrupts)
        except Exception:
            if folder:
                folder.abandon()
            raise
        finally:
            if folder:
                folder.close()
            kept = release(job.device)
            if kept:
                watcher.say(kept)


def _tell_of_the_start(job: Job, watcher: Watcher) -> None:
    if not job.pretrained and job.model.published:
        watcher.say(
            f"{job.model.name} starts from scratch; --pretrained starts from its published weights where "
            "this machine's cache holds them, --pretrained FILE from a file"
        )
    if _is_at_a_tenth(job):
        watcher.say(
            f"{job.model.name} has no recipe of its own for trained weights: its default one at a tenth of "
            f"the rate, {job.recipe.lr:g}; --lr takes another"
        )
    if job.freeze and not job.pretrained:
        watcher.say(
            "note: --freeze without --pretrained keeps random weights in all layers but the last; "
            "--pretrained FILE starts from trained ones"
        )


def _is_at_a_tenth(job: Job) -> bool:
    """Tell whether the rate is a tenth of the default recipe's, as it is for trained weights, unasked."""
    recipe = job.recipe
    if FINETUNE in job.model.recipes or "lr" in recipe.changed:
        return False
    if not recipe.source.endswith(".toml"):  # a file may be called finetune.toml
        return recipe.name == FINETUNE
    if job.pretrained is None:
        return False
    with contextlib.suppress(NotFoundError):  # a network of one's own may have no default recipe
        return recipe.lr == job.model.recipe(FINETUNE).lr
    return False


@contextlib.contextmanager
def _stopped_together(interrupts: Interrupts) -> Iterator[None]:
    """Take a lost rank for the stop that it is, where all were asked to: one of them is the first to end."""
    try:
        yield
    except LostRankError:
        if interrupts.asked:
            raise KeyboardInterrupt from None
        raise


def _asked(job: Job, prepared: PreparedData) -> RunFacts:
    """Return what makes a run of the job the run it is."""
    from toolkit.training.data.balance import objective_of
    from toolkit.training.teacher import teacher_hash

    objective = objective_of(job.recipe, prepared.learned.labels, prepared.dataset.classes)
    return identity(
        job,
        prepared.dataset.fingerprint,
        prepared.record,
        weights=objective.weights,
        teacher=teacher_hash(job),
        levels=prepared.preprocessing.levels,
    )


def _folder(job: Job, asked: RunFacts, watcher: Watcher, ranks: Ranks) -> RunFolder:
    """Make the run's folder, or open the one to resume; its choice of threads and format comes first."""
    runs = job.root / check_name(job.artifact_name) / "runs"
    if not job.resume:
        folder = RunFolder.new(runs)
        threads = compute_with(job.threads or _divided(ranks, watcher))
        begun = replace(asked, threads=threads, ranks=ranks.seat.count, torch=version("torch"))
        folder.begin(replace(begun, scheme=scheme_of(job), options=compute_options(job)))
        return folder
    folder = RunFolder.unfinished(runs, asked)
    begun = folder.facts()
    watcher.say(f"resuming {folder.path}")
    other_torch = f"torch {begun.torch} and goes on with {version('torch')}"
    others = [other_torch] if begun.torch != version("torch") else []
    if begun.ranks != ranks.seat.count:
        others.append(
            f"{begun.ranks} rank{'s' if begun.ranks > 1 else ''} and goes on with {ranks.seat.count}"
        )
    if begun.scheme != scheme_of(job):
        others.append("draws, schedules, averages or input of another release")
    if any(begun.kept.get("compute", {}).values()):
        others.append("kernels that this release does not have")
    for what in others:
        watcher.say(
            f"note: the run was begun with {what}: its weights may end otherwise than those of a run that "
            "was never stopped"
        )
    kept: list[tuple[str, object, object]] = []
    if begun.ranks == ranks.seat.count:
        kept.append(("threads", job.threads, begun.threads))
    compute = begun.compute
    if compute:
        kept += [("precision", job.arithmetic, compute.arithmetic), ("layout", job.layout, compute.layout)]
    for option, now, then in kept:
        if now not in (None, "auto", "measured", then):
            watcher.say(
                f"--{option} {now} is not used: a run goes on as it was begun, with {then}, to end with the "
                "same weights"
            )
    if begun.ranks != ranks.seat.count:
        # as many threads a rank as before would be too many, or too few, for the machine
        threads = compute_with(job.threads or _divided(ranks, watcher))
        folder.begin(begun.shared_out_anew(ranks.seat.count, threads, job.threads))
        return folder
    compute_with(begun.threads)
    return folder


def _divided(ranks: Ranks, watcher: Watcher) -> int | None:
    """Return how many threads each rank of this machine computes with, and say so; None for torch's own."""
    if ranks.alone:
        return None
    here, threads = ranks.seat.here, max(1, cpu().cores // ranks.seat.here)
    watcher.say(
        f"{here} ranks on this machine's {cpu().cores} cores compute with {threads} "
        f"thread{'s' if threads > 1 else ''} each (--threads takes others)"
    )
    return threads


def insist_on_one_job(ranks: Ranks, asked: RunFacts) -> None:
    """Raise CnnkitError, on every rank, where one has other data, another seed, recipe or release."""
    if ranks.alone:
        return
    releases = ranks.gather(" with ".join(f"{n} {v}" for n, v in tool_versions("cnnkit", "torch").items()))
    facts = ranks.gather(asked)

    def compare() -> None:
        for rank in range(1, ranks.seat.count):
            wrong = differences(facts[rank], facts[0])
            if releases[rank] != releases[0]:
                wrong = [f"{releases[0]}, now {releases[rank]}"]
            if wrong:
                # differences speaks of what was begun and what is asked now: here, of the first and this rank
                told = "; ".join(wrong).replace(", now ", f" on rank 0, on rank {rank} ")
                raise CnnkitError(f"rank {rank} trains something else: {told}; start all ranks alike")

    ranks.only_lead(compare)
