"""Choose number format and layout by rule: equal machines choose alike, busy or not.

The rule is a function of the device's features, the network and the batch. What it was made from (2 cores
of an AMD EPYC with AVX512-BF16 and VNNI, November 2026; a training step against plain fp32): channels-last
is 0.99 to 1.9 times as fast in every network with convolutions; bf16 is another 1.6 to 2.2 times in those
from alexnet28 on, as fast as fp32 in a LeNet of batch 64, and slower below (0.85 times at batch 16). Where
much of what is computed comes from depthwise convolutions it is slower on a CPU whatever the batch
(EfficientNet-Lite0 0.56, on an Intel Xeon with AMX 0.63; ShuffleNetV2 0.68, MobileNetV2 0.80 times as
fast); ConvNeXt-Atto, in which they are few beside dense layers, gains (1.07), and so do convolutions in wider
groups (1.3 to 1.4).
`--precision measured` times the candidates instead (toolkit/training/compute/probe.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from toolkit.machine.cpu import cpu
from toolkit.modules import ModuleRow, walk
from toolkit.training import Job
from toolkit.training.compute.candidates import ComputeChoice, candidates
from toolkit.training.compute.format import Compute
from toolkit.training.compute.probe import Trial, measure, short_batch

# multiply-adds of a batch's forward pass from which a shorter format is worth its conversions
_CPU_WORK, _GPU_WORK = 40e6, 4e9
# share of depthwise convolutions in what convolutions and the like put out, from which a CPU has fp32
_DEPTHWISE = 0.2


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
    rows = walk(module, (1, *shape[1:]))
    work = shape[0] * sum(row.macs or 0 for row in rows)
    if job.device.startswith("cuda"):
        gains = work >= _GPU_WORK
    else:
        gains = cpu().fast_bf16 and work >= _CPU_WORK and _depthwise(rows) < _DEPTHWISE
    return _fitting(candidates(job, module), job, module, gains=gains)


def _depthwise(rows: Sequence[ModuleRow]) -> float:
    """Return the share that depthwise convolutions have in what all layers with multiply-adds put out."""
    sizes = {True: 0, False: 0}
    for row in rows:
        if row.macs:
            sizes[row.depthwise] += math.prod(row.output_shape)
    return sizes[True] / max(1, sum(sizes.values()))


def _fitting(possible: list[Compute], job: Job, module: nn.Module, *, gains: bool) -> Compute:
    """Return the candidate that the rule names, bf16 where it `gains`; the plainest one stands first."""
    formats = {compute.arithmetic for compute in possible}
    on_gpu = job.device.startswith("cuda")
    arithmetic = "bf16" if gains or "fp32" not in formats else "fp32"
    if arithmetic not in formats:  # the one that was asked for, or the only one here
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
