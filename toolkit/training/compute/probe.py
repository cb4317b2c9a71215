"""Choose number format and layout by trying them: measured for speed, and compared with plain fp32.

A choice is kept for the machine, model, batch and threads that it was made for, so that the next run
with the same seed computes alike.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit import schema
from toolkit.artifacts import cache_root, write_json
from toolkit.checkpoints import tool_versions
from toolkit.errors import CnnkitError, CorruptError, UnavailableError
from toolkit.machine.cpu import cpu
from toolkit.outputs import logits_of
from toolkit.schema import Magnitude
from toolkit.training import Job
from toolkit.training.compute.format import Compute, first_convolution

_ROUNDS, _MOST_ROUNDS, _TURN_S = 3, 11, 0.012
_ENOUGH_S = 1.2  # no further round begins after that
_HOPELESS = 1.2  # times the fastest: such a candidate is not tried again
_MIN_GAIN = 1.08  # a plainer choice is kept unless another is faster by more than chance explains
_MIN_COSINE = 0.98  # between gradients; bf16 keeps 8 bits, which costs about 0.001 to 0.005
_SHORT_STEPS = 200  # a run of fewer steps ends before a probe would have paid for itself
_PIXELS = 800_000  # a larger batch is cut for the probe: a step should take well under a second


@dataclass(frozen=True, kw_only=True)
class ComputeChoice:
    """A choice and how it was come by; `gain` is its speed over plain fp32, None where unmeasured.

    `kept` is whether it stands where the next run looks for it.
    """

    compute: Compute
    gain: Magnitude | None
    why: Literal["asked for", "measured now", "measured before", "short run", "as begun"]
    kept: bool = True

    @property
    def sentence(self) -> str:
        """Say the choice to people."""
        gain = f", {self.gain:.2f} times plain fp32" if self.gain else ""
        threads = f"{self.compute.threads} thread{'s' if self.compute.threads > 1 else ''}"
        first = " but for the first layer" if self.compute.plain_first else ""
        unkept = ""
        if not self.kept:
            unkept = (
                f"; {cache_root()} cannot be written, so the next run measures anew and may choose "
                "otherwise: set XDG_CACHE_HOME to a folder that can"
            )
        return (
            f"computing on {self.compute.device} with {threads} in {self.compute.arithmetic}{first}, "
            f"{self.compute.layout} ({self.why}{gain}){unkept}"
        )


def choose(job: Job, module: nn.Module, inputs: Tensor, labels: Tensor, steps: int) -> ComputeChoice:
    """Choose what a job's `auto` leaves open, for a run of so many steps, trying on one batch of input."""
    threads = torch.get_num_threads()
    candidates = list(_candidates(job, module, threads))
    if len(candidates) == 1:
        return ComputeChoice(compute=candidates[0], gain=None, why="asked for")
    if steps < _SHORT_STEPS:
        return ComputeChoice(compute=candidates[0], gain=None, why="short run")
    kept = _cache_file(job, module, tuple(inputs.shape), candidates)
    known = _read(kept)
    if known is not None:
        return known
    chosen = _measure(module, inputs, labels, candidates)
    try:
        write_json(kept, asdict(chosen))
    except CnnkitError:  # a home that is read-only or full is no reason not to train
        return replace(chosen, kept=False)
    return chosen


def _candidates(job: Job, module: nn.Module, threads: int) -> Iterator[Compute]:
    """Yield what may be chosen from, the plainest first."""
    possible = _formats(job.device)
    if job.arithmetic not in ("auto", *possible):
        raise UnavailableError(
            f"{job.arithmetic} training does not run on {job.device}; it has {', '.join(possible)}"
        )
    formats = [kind for kind in possible if job.arithmetic in ("auto", kind)]
    layouts = (False, True) if job.layout == "auto" else (job.layout == "channels-last",)
    # oneDNN's bf16 gradient for few channels is slower than fp32's, and only the first layer has so few
    firsts = (False, True) if job.device == "cpu" and first_convolution(module) else (False,)
    for kind, channels_last, plain in itertools.product(formats, layouts, firsts):
        if kind == "bf16" or not plain:
            yield Compute(
                device=job.device,
                threads=threads,
                arithmetic=kind,
                channels_last=channels_last,
                plain_first=plain,
            )


def _formats(device: str) -> tuple[Literal["fp32", "bf16", "fp16"], ...]:
    if device == "mps":
        return ("fp32",)
    if device.startswith("cuda"):
        return ("fp32", "bf16", "fp16") if torch.cuda.is_bf16_supported() else ("fp32", "fp16")
    return ("fp32", "bf16")


def _measure(module: nn.Module, inputs: Tensor, labels: Tensor, candidates: list[Compute]) -> ComputeChoice:
    """Time a training step of every sound candidate, in turns; keep the fastest."""
    count = max(1, min(len(inputs), _PIXELS // inputs[0].numel()))
    inputs, labels = inputs[:count], labels[:count]
    plain = candidates[0]
    reference = _Trial(module, inputs, labels, plain)
    trials = [reference]
    for compute in candidates[1:]:
        trial = _Trial(module, inputs, labels, compute)
        if trial.agrees(reference):
            trials.append(trial)
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


class _Trial:
    """A copy of the network under one candidate."""

    def __init__(self, module: nn.Module, inputs: Tensor, labels: Tensor, compute: Compute) -> None:
        self.compute = compute
        self._module = compute.place(copy.deepcopy(module)).eval()
        layout = torch.channels_last if compute.channels_last else torch.contiguous_format
        self._inputs = inputs.to(compute.device).contiguous(memory_format=layout)
        self._labels = labels.to(compute.device)
        self.gains: list[float] = []
        self.step()
        self.gradient = torch.cat(
            [p.grad.float().reshape(-1) for p in self._module.parameters() if p.grad is not None]
        )
        # dropout would make gradients differ, so it is only on where time is taken
        self._module.train()
        began = time.perf_counter()
        self.step()
        self.last_s = time.perf_counter() - began

    def step(self) -> None:
        self._module.zero_grad(set_to_none=True)
        with self.compute.autocast():
            logits = logits_of(self._module(self._inputs))
        functional.cross_entropy(logits.float(), self._labels).backward()  # type: ignore[no-untyped-call]
        if self._inputs.is_cuda:
            torch.cuda.synchronize(self._inputs.device)

    def agrees(self, reference: _Trial) -> bool:
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
    return (
        cache_root()
        / "compute"
        / f"{job.model.name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.json"
    )


def _machine(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {cpu().name}"


def _read(path: Path) -> ComputeChoice | None:
    try:
        found = schema.convert(ComputeChoice, schema.read_json(path), what=str(path))
    except (CorruptError, FileNotFoundError):
        return None  # a choice that cannot be read is made anew
    return replace(found, why="measured before")
