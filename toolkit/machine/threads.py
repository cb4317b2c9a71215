"""How many threads PyTorch computes with: one number for a process, whoever asks for another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache


@cache
def own_threads() -> int:
    """Return how many PyTorch has of itself here: as many as before the first number that was asked for."""
    import torch

    return torch.get_num_threads()


def compute_with(threads: int | None) -> int:
    """Let PyTorch compute with so many threads, or with its own; return how many they are."""
    import torch

    own = own_threads()  # before another number is set
    torch.set_num_threads(threads or own)
    return torch.get_num_threads()


@contextlib.contextmanager
def threads_given_back() -> Iterator[None]:
    """Let PyTorch compute with as many threads afterwards as before."""
    import torch

    own_threads()
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
