"""What a training may compute in on a device, and what was chosen of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from toolkit.artifacts import cache_root
from toolkit.errors import UnavailableError
from toolkit.schema import Magnitude
from toolkit.training import Job
from toolkit.training.compute.format import Compute, first_convolution

# of the compute capability of the first GPUs that compute in bf16, Ampere's
BF16_MAJOR = 8


@dataclass(frozen=True, kw_only=True)
class ComputeChoice:
    """A choice and how it was come by; `gain` is its speed over plain fp32, None where unmeasured.

    `kept` is whether a measured choice stands where the next run looks for it; `note` is a reason in words.
    """

    compute: Compute
    why: Literal["asked for", "by rule", "measured now", "measured before", "as begun"]
    gain: Magnitude | None = None
    note: str | None = None
    kept: bool = True

    @property
    def sentence(self) -> str:
        """Say the choice to people."""
        gain = f", {self.gain:.2f} times plain fp32" if self.gain else ""
        note = f": {self.note}" if self.note else ""
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
            f"{self.compute.layout} ({self.why}{note}{gain}){unkept}"
        )


def candidates(job: Job, module: nn.Module) -> list[Compute]:
    """Return what may be chosen from, the plainest first. Raises UnavailableError."""
    possible = formats(job.device)
    is_open = job.arithmetic in ("auto", "measured")
    if not is_open and job.arithmetic not in possible:
        raise UnavailableError(
            f"{job.arithmetic} training does not run on {job.device}; it has {', '.join(possible)}"
        )
    kinds = [kind for kind in possible if is_open or job.arithmetic == kind]
    layouts = (False, True) if job.layout == "auto" else (job.layout == "channels-last",)
    # oneDNN's bf16 gradient for few channels is slower than fp32's, and only the first layer has so few
    measured = job.arithmetic == "measured" and job.device == "cpu" and first_convolution(module) is not None
    firsts = (False, True) if measured else (False,)
    return [
        Compute(
            device=job.device,
            threads=torch.get_num_threads(),
            arithmetic=kind,
            channels_last=channels_last,
            plain_first=plain,
        )
        for kind, channels_last, plain in itertools.product(kinds, layouts, firsts)
        if kind == "bf16" or not plain
    ]


def formats(device: str) -> tuple[Literal["fp32", "bf16", "fp16"], ...]:
    """Return the number formats that training has on a device."""
    if device == "mps":
        return ("fp32",)
    if device.startswith("cuda"):
        # `is_bf16_supported` counts GPUs that only emulate it, which is slower than fp32
        has_bf16 = torch.cuda.get_device_properties(device).major >= BF16_MAJOR
        return ("fp32", "bf16", "fp16") if has_bf16 else ("fp32", "fp16")
    return ("fp32", "bf16")
