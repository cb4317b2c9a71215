"""A job made ready to step: network, format, batches, objective and guard as one loop."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import torch

from toolkit.errors import MISFITS
from toolkit.heads import weights_by_classes
from toolkit.listings.rows import DecodedRows, decoders
from toolkit.machine.arithmetic import plain_fp32
from toolkit.modules import shadow
from toolkit.training import Job, Watcher
from toolkit.training.compute.candidates import ComputeChoice
from toolkit.training.compute.format import Compute, find_device
from toolkit.training.compute.norms import has_batch_norm
from toolkit.training.compute.ranks import Ranks
from toolkit.training.compute.rule import choose
from toolkit.training.compute.seats import Seat
from toolkit.training.data.balance import objective_of
from toolkit.training.data.batches import Batches, InputTransform, MemoryBatches, tensors
from toolkit.training.data.prepare import PreparedData
from toolkit.training.guard import DivergenceGuard, guard_for
from toolkit.training.loop import Loop, LoopSetup
from toolkit.training.process.usage import forget_device_peak
from toolkit.training.starting import fresh_network, insist_that_it_fits
from toolkit.training.teacher import teacher_for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ready:
    """A loop at its first step; `guard` is the one that fits it, whether it watches or not."""

    loop: Loop
    guard: DivergenceGuard
    judge: torch.nn.Module


def make_ready(
    job: Job,
    prepared: PreparedData,
    watcher: Watcher,
    *,
    begun: Compute | None = None,
    teacher_begun: Compute | None = None,
    chosen: Callable[[Compute], None] = lambda compute: None,
    ranks: Ranks | None = None,
) -> Ready:
    """Build a job's loop; `begun` is what a run that goes on computes in, `chosen` hears of a choice.

    `teacher_begun` is what its teacher computes in then. Of several ranks the first one chooses, by the
    whole batch, as one process would. Raises CnnkitError where the network does not fit the data.
    """
    ranks = ranks or Ranks()
    device = find_device(job.device)
    be_deterministic(job.device)
    transform = input_transform(job, prepared)
    by_classes = _by_classes(job, prepared)
    module = fresh_network(job, prepared, by_classes=by_classes, tell=watcher.say)
    # scores in plain fp32 what is kept, whatever is trained in
    judge = fresh_network(job, prepared, by_classes=by_classes).to(device)
    operations = insist_that_it_fits(judge, job.model, prepared, device)
    if begun is None:

        def found() -> ComputeChoice:
            images, labels = tensors(prepared.learned.take(slice(0, job.recipe.batch)))
            choice = choose(job, module, transform(images), labels)
            chosen(choice.compute)
            return choice

        choice = ranks.lead(found)
    else:
        choice = ComputeChoice(compute=begun, why="as begun")
    watcher.say(choice.sentence)
    compute = choice.compute
    forget_device_peak(job.device)  # the candidates' copies are not the training's
    transform = dataclasses.replace(transform, channels_last=compute.channels_last)
    batches = _batches(job, prepared, transform, ranks.seat)
    objective = objective_of(job.recipe, prepared.learned.labels, prepared.dataset.classes)
    guard = guard_for(
        operations,
        objective,
        epochs=job.recipe.epochs,
        warmup_epochs=job.recipe.warmup_epochs,
        epoch_steps=batches.steps,
    )
    setup = _setup(job, compute, batches, guard, watcher)
    teacher = teacher_for(job, prepared, ranks, begun=teacher_begun)
    if teacher is not None:
        watcher.say(f"the teacher computes in {teacher.compute.arithmetic}, {teacher.compute.layout}")
    setup = dataclasses.replace(
        setup, operations=operations, by_classes=by_classes, teacher=teacher, ranks=ranks
    )
    _tell_of_ranks(job, module, ranks, watcher)
    loop = Loop(compute.place(module), setup)
    if loop.frozen is not None:
        watcher.say(loop.frozen.sentence)
    return Ready(loop=loop, guard=guard, judge=judge)


def _by_classes(job: Job, prepared: PreparedData) -> frozenset[str]:
    """Return the weights that tell which layer is the head, where the job treats it by itself.

    None of a network that is built for some numbers of classes alone: its last layer is the head.
    """
    if not (job.pretrained or job.freeze or job.recipe.layer_decay != 1):
        return frozenset()
    channels, classes = prepared.preprocessing.channels, len(prepared.dataset.classes)
    try:
        own, other = (shadow(job.model.build, channels, count) for count in (classes, classes + 1))
    except (*MISFITS, TypeError, LookupError):
        return frozenset()
    return weights_by_classes(own, other)


def _setup(
    job: Job, compute: Compute, batches: Batches, guard: DivergenceGuard, watcher: Watcher
) -> LoopSetup:
    return LoopSetup(
        recipe=job.recipe,
        compute=compute,
        seed=job.seed,
        batches=batches,
        objective=guard.objective,
        freeze=job.freeze,
        guard=guard if job.recipe.guard else None,
        watcher=watcher,
        sync_batch_norm=job.sync_batch_norm,
    )


def _tell_of_ranks(job: Job, module: torch.nn.Module, ranks: Ranks, watcher: Watcher) -> None:
    """Say how a batch is shared out, and what of that changes the weights."""
    batch, count = job.recipe.batch, ranks.seat.count
    if ranks.alone:
        return
    at_work = sum(Seat(rank=rank, count=count).share(batch).counts for rank in range(count))
    watcher.say(
        f"{count} ranks share each batch of {batch} out"
        + ("" if at_work == count else f"; it suffices for {at_work} of them, --batch {2 * count} for all")
    )
    if has_batch_norm(module) and not job.sync_batch_norm:
        watcher.say(
            f"note: batch norm takes mean and deviation of each rank's {batch // at_work} pictures, so the "
            "weights end otherwise than those of one process; --sync-batch-norm takes them of the whole batch"
        )


def input_transform(job: Job, prepared: PreparedData) -> InputTransform:
    """Return the last steps to a job's input, plainly laid out, as pictures are scored."""
    return InputTransform(preprocessing=prepared.preprocessing, device=find_device(job.device))


def be_deterministic(device: str) -> None:
    """Ask a GPU's libraries for fp32 that is fp32 and for kernels that give equal bits each time.

    A CPU's do both by themselves.
    """
    if not device.startswith("cuda"):
        return
    plain_fp32()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # adaptive pooling has no such kernel on CUDA: warn there rather than refuse to train
    torch.use_deterministic_algorithms(True, warn_only=True)


def _batches(job: Job, prepared: PreparedData, transform: InputTransform, seat: Seat) -> Batches:
    learned = prepared.learned
    # a loader's processes cost more than they bring where nothing is to be decoded
    decoding = isinstance(learned.images, DecodedRows)
    if job.loader == "memory" and not decoding:
        return MemoryBatches(learned, job.recipe, job.seed, transform, seat)
    from toolkit.training.data.workers import WorkerBatches

    usual = max(1, decoders() // seat.here) if decoding else 0
    workers = usual if job.workers is None else job.workers
    return WorkerBatches(learned, job.recipe, job.seed, transform, workers=workers, seat=seat)
