"""Number format and layout by trying them: measured for speed, and compared with plain fp32.

A choice is kept for the machine, model, batch and threads that it was made for, so that the next run
with the same seed computes alike; another machine, or a busy one, may choose otherwise.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import platform
import statistics
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit import schema
from toolkit.caching import cache_folder, note_use, write_thing
from toolkit.checkpoints import tool_versions
from toolkit.errors import CnnkitError, CorruptError
from toolkit.machine.cpu import cpu
from toolkit.modules import walk
from toolkit.outputs import logits_of
from toolkit.training import Job
from toolkit.training.compute.candidates import ComputeChoice
from toolkit.training.compute.format import Compute
from toolkit.training.objective import insist_that_it_learns

_ROUNDS, _MOST_ROUNDS, _TURN_S = 3, 11, 0.012
_ENOUGH_S = 1.2  # no further round begins after that
_HOPELESS = 1.2  # times the fastest: such a candidate is not tried again
_MIN_GAIN = 1.08  # a plainer choice is kept unless another is faster by more than chance explains
_MIN_COSINE = 0.98  # between gradients; bf16 keeps 8 bits, which costs about 0.001 to 0.005
_PIXELS = 800_000  # a larger batch is cut for the probe: a step should take well under a second


def measure(
    job: Job, module: nn.Module, inputs: Tensor, labels: Tensor, possible: list[Compute]
) -> ComputeChoice:
    """Choose the fastest of what is possible, by trying on one batch of input, or take what is known."""
    kept = _cache_file(job, module, tuple(inputs.shape), possible)
    known = _read(kept)
    if known is not None:
        return known
    chosen = _measure(module, inputs, labels, possible)
    try:
        write_thing(kept, json.dumps(asdict(chosen)).encode())
    except CnnkitError:  # a home that is read-only or full is no reason not to train
        return replace(chosen, kept=False)
    return chosen


def short_batch(inputs: Tensor) -> Tensor:
    """Return as much of a batch as is tried on: a step should take well under a second.

    Two pictures at least, where there are two: batch norm compares the values of a channel.
    """
    return inputs[: max(2, _PIXELS // inputs[0].numel())]


def _measure(module: nn.Module, inputs: Tensor, labels: Tensor, candidates: list[Compute]) -> ComputeChoice:
    """Time a training step of every sound candidate, in turns; keep the fastest."""
    inputs = short_batch(inputs)
    labels = labels[: len(inputs)]
    plain = candidates[0]
    # weight_norm's weights can be copied once they were worked out without a record of how
    walk(module, (1, *inputs.shape[1:]))
    reference = Trial(module, inputs, labels, plain)
    trials = [reference]
    for compute in candidates[1:]:
        trial = Trial(module, inputs, labels, compute)
        if trial.agrees(reference):
            trials.append(trial)
    for trial in trials:
        trial.begin_steps()
    started = time.perf_counter()
    for turn in range(_MOST_ROUNDS):
        # a machine's speed may change by half within a second, so only what one round holds is compared
        for trial in trials:
            trial.take_turn()
        for trial in trials:
            trial.gains.append(reference.last_s / trial.last_s)
        if turn + 1 < _ROUNDS:
            continue
        limit = max(trial.gain for trial in trials) / _HOPELESS
        trials = [trial for trial in trials if trial is reference or trial.gain > limit]
        if time.perf_counter() - started > _ENOUGH_S:
            break
    fastest = max(trials, key=lambda trial: trial.gain)
    if fastest.gain < _MIN_GAIN:
        fastest = reference
    return ComputeChoice(compute=fastest.compute, gain=fastest.gain, why="measured now")


class Trial:
    """A copy of the network under one candidate: its gradient in eval mode, then the times of its steps."""

    def __init__(self, module: nn.Module, inputs: Tensor, labels: Tensor, compute: Compute) -> None:
        self.compute = compute
        self._module = compute.place(copy.deepcopy(module)).eval()
        layout = torch.channels_last if compute.channels_last else torch.contiguous_format
        # of its own: a network may change its input in place, and all candidates are to start alike
        self._inputs = inputs.to(compute.device).clone(memory_format=layout)
        self._labels = labels.to(compute.device)
        self.gains: list[float] = []
        self.last_s = math.inf
        self.step()
        self.gradient = torch.cat(
            [p.grad.float().reshape(-1) for p in self._module.parameters() if p.grad is not None]
        )

    def begin_steps(self) -> None:
        """Take a first step as a training does; dropout, which makes gradients differ, is on from here."""
        self._module.train()
        began = time.perf_counter()
        self.step()
        self.last_s = time.perf_counter() - began

    def step(self) -> None:
        self._module.zero_grad(set_to_none=True)
        with self.compute.autocast():
            logits = logits_of(self._module(self._inputs))
        insist_that_it_learns(self._module, logits)
        functional.cross_entropy(logits.float(), self._labels).backward()  # type: ignore[no-untyped-call]
        if self._inputs.is_cuda:
            torch.cuda.synchronize(self._inputs.device)

    def agrees(self, reference: Trial) -> bool:
        """Tell whether the gradient points where plain fp32's does."""
        cosine = functional.cosine_similarity(self.gradient, reference.gradient, dim=0)
        return bool(cosine >= _MIN_COSINE)

    def take_turn(self) -> None:
        """Take steps for a moment; what counts is the fastest, which other work disturbed least."""
        if self.last_s < _TURN_S:
            self.step()  # the caches still hold what the others computed with
        self.last_s = math.inf
        started = now = time.perf_counter()
        while now - started < _TURN_S:
            self.step()
            before, now = now, time.perf_counter()
            self.last_s = min(self.last_s, now - before)

    @property
    def gain(self) -> float:
        """Return by how much it was faster than plain fp32 in the same rounds."""
        return statistics.median(self.gains)


def _cache_file(job: Job, module: nn.Module, shape: tuple[int, ...], candidates: list[Compute]) -> Path:
    # what was chosen from is part of the key: a version that knows more candidates measures anew
    sizes = [tuple(p.shape) for p in module.parameters()]
    key = (
        _machine(job.device),
        job.model.name,
        sizes,
        shape,
        candidates,
        tool_versions("torch").get("torch"),
    )
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    return cache_folder("compute") / f"{job.model.name}-{digest}.json"


def _machine(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {cpu().name}"


def _read(path: Path) -> ComputeChoice | None:
    try:
        found = schema.convert(ComputeChoice, schema.read_json(path), what=str(path))
    except (CorruptError, FileNotFoundError):
        return None  # a choice that cannot be read is made anew
    note_use(path)
    return replace(found, why="measured before")
