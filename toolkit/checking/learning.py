"""What a small network says of every picture, trained on the others: probabilities for judging labels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolkit.images import Pixels

if TYPE_CHECKING:
    from torch import Tensor, nn

FOLDS = 3
# a small set is learnt from in smaller batches: 80 pictures at 128 would be one step an epoch
_BATCH, _LEAST_BATCH, _STEPS = 128, 16, 12
_ASKED = 256  # pictures at a time: more are no quicker and take more memory
# so many pictures are learnt from in each fold, whatever there are: a small set in many epochs
_LEARNT = 160_000
_MOST_EPOCHS, _LEAST_EPOCHS = 40, 4
_RATE, _DECAY, _SMOOTHING = 0.02, 5e-4, 0.1


def epochs_for(images: int) -> int:
    """Return how often a network goes through so many pictures."""
    return int(np.clip(round(_LEARNT / max(images, 1)), _LEAST_EPOCHS, _MOST_EPOCHS))


def held_out_probabilities(
    pixels: Pixels,
    labels: NDArray[np.int64],
    folds: NDArray[np.int64],
    *,
    classes: int,
    seed: int,
    on_done: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float64]:
    """Return (N, K) probabilities of (N, C, S, S) uint8 pictures, each by a network of the other folds."""
    import torch

    made = np.zeros((len(labels), classes))
    channels = pixels.shape[1]
    mean = pixels[:: max(1, len(pixels) // 4096)].mean(axis=(0, 2, 3)).reshape(1, channels, 1, 1)
    spread = pixels[:: max(1, len(pixels) // 4096)].std(axis=(0, 2, 3)).reshape(1, channels, 1, 1) + 1
    shift, scale = (torch.from_numpy(one.astype(np.float32)) for one in (mean, spread))
    everything, truth = torch.from_numpy(pixels), torch.from_numpy(labels)
    with torch.random.fork_rng(devices=[]):
        for fold in np.unique(folds):
            torch.manual_seed(seed + int(fold))
            learnt, asked = (torch.from_numpy(np.flatnonzero(folds != fold)), np.flatnonzero(folds == fold))
            network = _network(channels, classes).to(memory_format=torch.channels_last)

            def batch(rows: Tensor) -> Tensor:
                part = (everything[rows].float() - shift) / scale
                return part.contiguous(memory_format=torch.channels_last)

            _learn(network, batch, truth, learnt, on_done)
            made[asked] = _ask(network, batch, torch.from_numpy(asked))
    return made


def _network(channels: int, classes: int) -> nn.Module:
    """Return a network for 32 × 32 pictures: three convolutions with batch norm, and a dense layer."""
    from torch import nn

    layers: list[nn.Module] = []
    widths = (channels, 24, 48, 96)
    for index, (wide, wider) in enumerate(pairwise(widths)):
        size, stride = (5, 2) if index == 0 else (3, 1)
        layers += [nn.Conv2d(wide, wider, size, stride=stride, padding=size // 2, bias=False)]
        layers += [nn.BatchNorm2d(wider), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(96 * 2 * 2, classes))


def _learn(
    network: nn.Module,
    batch: Callable[[Tensor], Tensor],
    truth: Tensor,
    learnt: Tensor,
    on_done: Callable[[int], None],
) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    size = int(np.clip(len(learnt) // _STEPS, _LEAST_BATCH, _BATCH))
    epochs = epochs_for(len(learnt))
    steps = epochs * -(-len(learnt) // size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    network.train()
    for _ in range(epochs):
        for rows in torch.split(learnt[torch.randperm(len(learnt))], size):
            if len(rows) > 1:  # batch norm has no use for one
                loss = cross_entropy(network(batch(rows)), truth[rows], label_smoothing=_SMOOTHING)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            plan.step()
            on_done(len(rows))


def _ask(network: nn.Module, batch: Callable[[Tensor], Tensor], asked: Tensor) -> NDArray[np.float64]:
    import torch

    network.eval()
    with torch.inference_mode():
        parts = [network(batch(rows)).double().softmax(dim=1) for rows in torch.split(asked, _ASKED)]
    return np.asarray(torch.cat(parts).numpy()) if parts else np.zeros((0, 0))
