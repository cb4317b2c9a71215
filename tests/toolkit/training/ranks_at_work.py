"""Trainings of several real processes, forked off one that has imported torch already."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.ports import free_port
from toolkit import zoo
from toolkit.models import ModelSpec
from toolkit.training import Job, Watcher, recipes

PATIENCE_S = 120


def on_ranks(count: int, work: Callable[..., Any], *given: Any) -> list[Any]:
    """Do the same work in `count` processes that see themselves as ranks; return what each returned."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.distributed", "toolkit.training.session", __name__])
    port = free_port()
    begun = []
    for rank in range(count):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(there, rank, count, port, work, given), daemon=True)
        process.start()
        there.close()
        begun.append((process, here))
    found = []
    try:
        for process, here in begun:
            assert here.poll(PATIENCE_S), "a rank does not answer"
            try:
                answer, error = here.recv()
            except EOFError:
                process.join()
                answer, error = None, f"ended with {process.exitcode}"
            assert error is None, error
            found.append(answer)
    finally:
        for process, _ in begun:
            process.join(10)
            process.kill()
    return found


def _work(
    there: Connection, rank: int, count: int, port: int, work: Callable[..., Any], given: tuple[Any, ...]
) -> None:
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if count > 1:
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ.update({name: str(value) for name, value in told.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    try:
        there.send((work(*given), None))
    except BaseException:
        there.send((None, traceback.format_exc()))
    sys.stdout.flush()


def job_of(model: str | ModelSpec, root: Path, changes: dict[str, Any], **more: Any) -> Job:
    """Return a job on the real sample of one thread in fp32."""
    spec = zoo.model(model) if isinstance(model, str) else model
    recipe = recipes.override(recipes.find(spec, "default"), changes)
    options = {"dataset": "fashion-mnist-sample", "root": root, "threads": 1, "arithmetic": "fp32"}
    return Job(model=spec, recipe=recipe, **{**options, **more})


class Wide:
    """Batches whose pictures are float64."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self.steps, self.images = batches.steps, batches.images

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Any, Any]]:
        for images, labels in self._batches.epoch(epoch, first):
            yield images.double(), labels


class Reversed(Wide):
    """Batches whose pictures come in the opposite order, from another picture on."""

    def __init__(self, batches: Any, turn: int = 0) -> None:
        super().__init__(batches)
        self.turn = turn

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Any, Any]]:
        for images, labels in self._batches.epoch(epoch, first):
            yield images.flip(0).roll(self.turn, 0).contiguous(), labels.flip(0).roll(self.turn, 0)


def steps(
    model: str | ModelSpec,
    root: Path,
    changes: dict[str, Any],
    count: int,
    kind: Callable[[Any], Wide] | None = Wide,
    **more: Any,
) -> dict[str, Any]:
    """Take so many steps; return weights as arrays, and the last epoch's loss and right answers.

    `kind` is how batches are changed: Wide computes everything in float64.
    """
    from toolkit.training.compute.ranks import joined
    from toolkit.training.data.prepare import prepare
    from toolkit.training.loop import Loop
    from toolkit.training.readiness import make_ready

    job = job_of(model, root, changes, **more)
    prepared = prepare(job)
    with joined(job) as ranks:
        loop = make_ready(job, prepared, Watcher(), ranks=ranks).loop
        if kind is not None:
            module = loop.module.double() if kind is Wide else loop.module
            loop = Loop(module, dataclasses.replace(loop.setup, batches=kind(loop.setup.batches)))
        while True:
            assert loop.epoch(lambda: None) is None
            if loop.progress.ticks >= count:
                break
            loop.next_epoch()
        done = loop.progress
        figures = {"loss": done.loss_sum / done.seen, "right": done.right, "seen": done.seen}
        weights = {name: value.numpy().copy() for name, value in loop.weights().items()}
    return {**weights, **figures}
