"""A network as parts that can be held against another's, whatever it was read from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class WeightTensor:
    """One tensor of weights; `values` is None where only its shape is known."""

    shape: tuple[int, ...]
    dtype: str
    values: NDArray[Any] | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkPart:
    """What one node, or one call of a layer, is: its modules, what it puts out, how it is set, what it holds.

    `ops` are its operators, `reads` and `writes` its tensors, and `converts` holds the scales and zero points
    by which its weights, its inputs and the graph's outputs are converted, of a graph only. `takes` and
    `makes` are the values of each of its nodes by their places, before what only converts them, "" for a
    constant and for what is left out. `called` is False for weights that no call of a layer holds. None is
    unknown.
    """

    modules: tuple[str, ...]
    type: str | None
    ops: tuple[str, ...] = ()
    output_shape: tuple[int, ...] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, WeightTensor] = field(default_factory=dict)
    converts: Mapping[str, WeightTensor] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    takes: tuple[tuple[str, ...], ...] = ()
    makes: tuple[tuple[str, ...], ...] = ()
    called: bool = True


@dataclass(frozen=True, kw_only=True)
class ReadNetwork:
    """A network taken apart; `ends` are its inputs and outputs in words, `conversions` nodes by kind.

    `dialect` names how settings are spelt: those of two dialects cannot be compared. `given` are the values
    that no part makes, and `answers` those that the network puts out, by name.
    """

    name: str
    dialect: str
    parts: tuple[NetworkPart, ...]
    ends: Mapping[str, str] = field(default_factory=dict)
    conversions: Mapping[str, int] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def difference_of(first: WeightTensor, second: WeightTensor) -> float | None:
    """Return the largest difference of two tensors' values; None where they are unknown or no floats.

    NaN is like NaN, and an infinite value like itself; beside another value they differ by no number: None.
    """
    if first.values is None or second.values is None or first.shape != second.shape:
        return None
    if first.values.dtype == second.values.dtype and _same(first.values, second.values):
        return 0.0
    if any(np.dtype(one.values.dtype).kind != "f" for one in (first, second) if one.values is not None):
        return None
    before, after = first.values.astype(np.float64), second.values.astype(np.float64)
    unlike = (before != after) & ~(np.isnan(before) & np.isnan(after))
    apart = np.abs(before[unlike] - after[unlike])
    largest = float(apart.max(initial=0.0))
    return largest if math.isfinite(largest) else None


def _same(first: NDArray[Any], second: NDArray[Any]) -> bool:
    # of the types that numpy does not know, the bytes alone tell that NaN is NaN
    return np.array_equal(first, second) or (
        first.dtype.kind not in "OU" and first.tobytes() == second.tobytes()
    )
