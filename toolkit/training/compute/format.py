"""What a training computes with: device, threads, number format and memory layout."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from toolkit.errors import UnavailableError
from toolkit.schema import Positive

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Compute:
    """The choice a run keeps: two runs with one seed are equal only when this is equal, too.

    `plain_first` keeps the first convolution in fp32 where the other layers compute in bf16.
    """

    device: str
    threads: Positive
    arithmetic: Literal["fp32", "bf16", "fp16"]
    channels_last: bool
    plain_first: bool = False

    @property
    def layout(self) -> Literal["channels-last", "contiguous"]:
        """Return the layout's word."""
        return "channels-last" if self.channels_last else "contiguous"

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to the device and layout."""
        import torch

        if self.plain_first:
            _keep_plain(first_convolution(module), self.device)
        module = module.to(self.device)
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)
        return module

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the forward pass runs."""
        import torch

        if self.arithmetic == "fp32":
            return contextlib.nullcontext()
        kind = torch.bfloat16 if self.arithmetic == "bf16" else torch.float16
        return torch.autocast(self.device.partition(":")[0], dtype=kind)

    def scaler(self) -> torch.amp.GradScaler | None:
        """Return what keeps fp16's gradients from vanishing; the wider formats need none."""
        import torch

        return torch.amp.GradScaler(self.device.partition(":")[0]) if self.arithmetic == "fp16" else None


def first_convolution(module: nn.Module) -> nn.Module | None:
    """Return the layer that sees the pictures, when it is a convolution."""
    from torch import nn

    weighted = (layer for layer in module.modules() if getattr(layer, "weight", None) is not None)
    first = next(weighted, None)
    return first if isinstance(first, nn.Conv2d) else None


def _keep_plain(layer: nn.Module | None, device: str) -> None:
    """Let a layer compute in fp32 inside of autocast."""
    import torch

    if layer is None:
        return
    forward = layer.forward

    def plain(x: torch.Tensor) -> Any:
        with torch.autocast(device.partition(":")[0], enabled=False):
            return forward(x.float())

    layer.forward = plain


def find_device(name: str) -> torch.device:
    """Return the device of that name. Raises UnavailableError when it is not on this machine."""
    import torch

    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not index.isdecimal()):
        raise UnavailableError(f"no device {name!r}; known: cpu, cuda, cuda:N, mps")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise UnavailableError(
                "device 'cuda' needs an NVIDIA GPU and none is visible; `--device cpu` runs here"
            )
        if index and int(index) >= count:
            raise UnavailableError(f"no device {name!r}; this machine has cuda:0 to cuda:{count - 1}")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UnavailableError("device 'mps' needs a Mac's GPU; `--device cpu` runs here")
    return torch.device(name)
