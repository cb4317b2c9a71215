"""Every random number of a run comes from (seed, purpose, epoch, step or picture), never from hidden state.

So a run that is resumed in the middle of an epoch draws exactly what it would have drawn.
"""

from __future__ import annotations

import torch
from torch import Generator

_MASK = (1 << 64) - 1

ORDER, AUGMENT, DROPOUT, WEIGHTS, MIX = range(5)


def mix(seed: int, *path: int) -> int:
    """Return a 63-bit number for a place in a run: splitmix64 over seed and path.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014).
    """
    state = seed & _MASK
    for part in (*path, 0):
        state = (state + 0x9E3779B97F4A7C15 * (part + 1)) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def generator(seed: int, *path: int) -> Generator:
    """Return a CPU generator for a place in a run."""
    return torch.Generator().manual_seed(mix(seed, *path))


def reseed(device: str, seed: int, *path: int) -> None:
    """Set the generators that dropout draws from, on the CPU and the training device."""
    number = mix(seed, *path)
    # not torch.manual_seed: it also queues a call, with a stack trace, for every device not in use
    torch.default_generator.manual_seed(number)
    if device.startswith("cuda"):
        with torch.cuda.device(device):  # it seeds the device that is current
            torch.cuda.manual_seed(number)
    elif device == "mps":
        torch.mps.manual_seed(number)
