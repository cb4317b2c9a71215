"""Choose number format and layout by rule: equal machines choose alike, busy or not.

The rule is a function of the device's features, the network and the batch. What it was made from (2 cores
of an AMD EPYC with AVX512-BF16 and VNNI, November 2026; a training step against plain fp32): channels-last
is 0.99 to 1.9 times as fast in every network with convolutions; bf16 is another 1.6 to 2.2 times in those
from alexnet28 on, as fast as fp32 in a LeNet of batch 64, and slower below (0.85 times at batch 16).
`--precision measured` times the candidates instead (toolkit/training/compute/probe.py).
"""

from __future__ import annotations

from torch import Tensor, nn

from toolkit.machine.cpu import cpu
from toolkit.modules import walk
from toolkit.training import Job
from toolkit.training.compute.candidates import ComputeChoice, candidates
from toolkit.training.compute.format import Compute
from toolkit.training.compute.probe import Trial, measure, short_batch

# multiply-adds of a batch's forward pass from which a shorter format is worth its conversions
_CPU_WORK, _GPU_WORK = 40e6, 4e9


def choose(job: Job, module: nn.Module, inputs: Tensor, labels: Tensor) -> ComputeChoice:
    """Choose what a job leaves open, given one batch of input; a shorter format must agree with fp32."""
    possible = candidates(job, module)
    if len(possible) == 1:
        return ComputeChoice(compute=possible[0], why="asked for")
    if job.arithmetic == "measured":
        return measure(job, module, inputs, labels, possible)
    wanted = by_rule(job, module, tuple(inputs.shape))
    plain = next(c for c in possible if c.channels_last == wanted.channels_last)
    if wanted.arithmetic != plain.arithmetic:
        few = short_batch(inputs), labels[: len(short_batch(inputs))]
        if not Trial(module, *few, wanted).agrees(Trial(module, *few, plain)):
            return ComputeChoice(
                compute=plain, why="by rule", note=f"{wanted.arithmetic}'s gradient points elsewhere"
            )
    return ComputeChoice(compute=wanted, why="by rule", note=_feature(wanted))


def by_rule(job: Job, module: nn.Module, shape: tuple[int, ...]) -> Compute:
    """Return what the rule alone names, of what a job allows, for a network and batches of (N, C, H, W)."""
    macs = sum(row.macs or 0 for row in walk(module, (1, *shape[1:])))
    return _fitting(candidates(job, module), job, module, macs * shape[0])


def _fitting(possible: list[Compute], job: Job, module: nn.Module, work: float) -> Compute:
    """Return the candidate that the rule names; `possible` begins with the plainest one."""
    formats = {compute.arithmetic for compute in possible}
    on_gpu = job.device.startswith("cuda")
    fast = on_gpu or cpu().fast_bf16
    short = "bf16" in formats and fast and work >= (_GPU_WORK if on_gpu else _CPU_WORK)
    arithmetic = "bf16" if short or "fp32" not in formats else "fp32"
    if arithmetic not in formats:  # only fp16 is left where it was asked for
        arithmetic = possible[0].arithmetic
    layered = any(isinstance(layer, nn.Conv2d) for layer in module.modules())
    # on a GPU channels-last gains with the tensor cores, which compute in the shorter formats
    wants_last = layered and job.device != "mps" and (not on_gpu or arithmetic != "fp32")
    of_format = [c for c in possible if c.arithmetic == arithmetic and not c.plain_first]
    return next((c for c in of_format if c.channels_last == wants_last), of_format[0])


def _feature(wanted: Compute) -> str | None:
    """Return the processor's instructions that the choice comes from, where it has any."""
    if wanted.device != "cpu":
        return None
    if wanted.arithmetic == "bf16":
        return ", ".join(name for name in cpu().instruction_sets if "BF16" in name) or None
    return None
