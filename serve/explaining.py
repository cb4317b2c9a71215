"""Looking inside a PyTorch model: where its evidence lies (Grad-CAM) and what a layer puts out.

Grad-CAM: Selvaraju et al., https://arxiv.org/abs/1610.02391: the channels of a layer, each weighted by
the mean gradient of the winning logit, summed, and only what speaks for the class kept.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serve.settings import Limits
from toolkit.answering import Invert, preprocessing_of, read_picture
from toolkit.artifacts import Artifact
from toolkit.checkpoints import load_module
from toolkit.errors import CnnkitError, unknown_name
from toolkit.images import PictureSource, Pixels
from toolkit.modules import outputs
from toolkit.outputs import logits_of
from toolkit.preprocessing import normalise

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Insight:
    """One layer on one picture: `heat` (H, W) in 0 to 1, `maps` (C, h, w), and the class that won."""

    label: str
    layer: str
    layers: tuple[str, ...]
    pixels: Pixels
    heat: NDArray[np.float32]
    maps: NDArray[np.float32]


class Explainer:
    """A checkpoint's network of its own, so that hooks and gradients touch no serving engine.

    Callers from several threads take turns: hooks see whatever runs through the network.
    """

    def __init__(self, artifact: Artifact, limits: Limits, *, model_file: Path | None = None) -> None:
        """Load the network. Raises MissingExtraError without torch, CnnkitError without preprocessing."""
        self.artifact = artifact
        self.limits = limits
        self.preprocessing = preprocessing_of(artifact)
        self.module = load_module(artifact, model_file=model_file)
        self.turn = threading.Lock()

    def look(self, data: PictureSource, *, layer: str | None = None, invert: Invert = "auto") -> Insight:
        """Explain the network's answer to one picture; by default by its last layer that is a picture.

        Raises ImageError, NotFoundError for an unknown layer, CnnkitError where none is a picture.
        """
        import torch

        picture = read_picture(
            data,
            self.preprocessing,
            invert,
            max_pixels=self.limits.max_pixels,
            max_bytes=self.limits.max_bytes,
        )
        with self.turn, torch.enable_grad():
            rows = torch.from_numpy(normalise(picture.pixels, self.preprocessing)[None]).requires_grad_()
            answer, seen = outputs(self.module, rows)
            kept = {name: output for name, output in seen.items() if _is_picture(output)}
            logits = logits_of(answer)[0]
            if len(logits) == 1:  # of two classes, for the second
                logits = torch.cat([-logits, logits])
            name = _choose(layer, kept, self.artifact.passport.model)
            winner = int(logits.argmax())
            (gradient,) = torch.autograd.grad(logits[winner], kept[name])
            maps = kept[name].detach()[0]
            heat = torch.relu((gradient[0].mean(dim=(1, 2), keepdim=True) * maps).sum(dim=0)).numpy()
            strongest = np.float32(heat.max())
        return Insight(
            label=self.artifact.passport.classes[winner],
            layer=name,
            layers=tuple(kept),
            pixels=picture.pixels,
            heat=np.asarray(heat / (strongest or np.float32(1)), dtype=np.float32),
            maps=maps.numpy(),
        )


def _is_picture(output: Tensor) -> bool:
    """Tell whether an output is still a picture, and its gradient can be asked for."""
    return output.ndim == 4 and output.shape[-1] > 1 and output.requires_grad


def _choose(layer: str | None, kept: dict[str, Tensor], model: str) -> str:
    if not kept:
        raise CnnkitError(f"no layer of {model} puts out pictures")
    if layer is not None and layer not in kept:
        raise unknown_name(f"layer of {model}", layer, kept)
    return layer or list(kept)[-1]
