"""What torch computes: the multiply-adds of every operation that it runs, whichever kernel it chooses.

torch's own formulas know the kernels of GPUs. Those below are of what a CPU runs in their place (fused
attention, recurrent layers), so that a network counts the same on every device, and on none (`meta`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
Formula = Callable[..., int]
CONVOLUTIONS = (aten.convolution, aten._convolution)
# libraries of operators that only look at values, sort or copy them
HARMLESS = (
    "torchvision::nms",
    "torchvision::roi_",
    "torchvision::ps_roi_",
    "prim::",
    "prims::",
    "profiler::",
)
# parts of the names of torch's operators that multiply, too; how much is not worked out here
UNCOUNTED = (
    "_fft_",
    "linalg_",
    "_linalg_",
    "_cdist",
    "cholesky",
    "lu_",
    "_sparse",
    "sparse_",
    "svd",
    "_trilinear",
    "ormqr",
)


SUMS = ("linalg_vector_norm", "linalg_cross")


@dataclass(frozen=True, kw_only=True)
class WorkDone:
    """Multiply-adds, None with the reason where an operation's are not known; `wrote`: more than views.

    `depthwise` tells that a convolution was among it each of whose filters reads one channel of several.
    """

    macs: int | None
    uncounted: str | None
    wrote: bool
    depthwise: bool


class WorkCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiply-adds, half of each operation's FLOPs by torch's formulas; sees what only views."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._macs, self._wrote, self._depthwise = 0, False, False
        self._unknown: str | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # True, torch's default, imports its compiler (1.4 s) at the first call, to keep it out of this
        return False

    def take(self) -> WorkDone:
        """Return what was done since the last call."""
        known = self._unknown is None
        taken = WorkDone(
            macs=self._macs if known else None,
            uncounted=self._unknown,
            wrote=self._wrote,
            depthwise=self._depthwise,
        )
        self._macs, self._wrote, self._depthwise, self._unknown = 0, False, False, None
        return taken

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):  # a branch or a loop that torch keeps as one call
            self._wrote, self._unknown = True, str(func)
            return func(*args, **kwargs)
        packet = func._overloadpacket
        if packet not in flop_registry and packet not in OWN:
            with self:
                inner = func.decompose(*args, **kwargs)
            if inner is not NotImplemented:
                return inner
        result = func(*args, **kwargs)
        self._wrote = self._wrote or not func.is_view
        if packet in OWN:
            self._macs += OWN[packet](*args, **kwargs)
        elif packet in flop_registry:
            self._macs += flop_registry[packet](*args, **kwargs, out_val=result) // 2
            self._depthwise = self._depthwise or (packet in CONVOLUTIONS and _one_channel(*args[:2]))
        elif _multiplies(func):
            self._unknown = str(packet).partition(".")[2] or str(packet)
        return result


def _one_channel(given: Any, weight: Any) -> bool:
    """(N, C, H, W) and (D, C / groups, H, W): each filter reads one channel of several."""
    return bool(weight.shape[1] == 1 and given.shape[1] > 1)


def _multiplies(func: Any) -> bool:
    """Tell whether an operator without a formula may multiply: known ones of torch's, and anyone else's."""
    name = str(func.name())
    space, _, plain = name.partition("::")
    if space == "aten":
        return plain.startswith(UNCOUNTED) and not plain.startswith(SUMS)
    return not name.startswith(HARMLESS)


def _attention(query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
    """(B, H, L, D), (B, h, S, D) and (B, h, S, E): each of L queries meets S keys, then weighs S values."""
    *heads, length, depth = query.shape
    return int(prod(heads) * length * key.shape[-2] * (depth + value.shape[-1]))


def _recurrent(given: Any, weights: Sequence[Any]) -> int:
    """(L, N, I) or (N, L, I): every step of every sequence meets each matrix once."""
    steps = given.numel() // max(1, given.shape[-1])
    return int(steps * sum(one.numel() for one in weights if one.dim() == 2))


def _layer(given: Any, first: Any, second: Any, *rest: Any, **named: Any) -> int:
    return _recurrent(given, (first, second))


def _layers(given: Any, weights: Sequence[Any], *rest: Any, **named: Any) -> int:
    return _recurrent(given, weights)


def _heads(*given: Any, **named: Any) -> int:
    """Self-attention in one kernel: (N, L, D) onto three times D, attention, and D onto D."""
    query, key, joined = given[0], given[1], given[5]
    batch, length, depth = query.shape
    own = joined.numel() + depth * depth
    return int(batch * length * own + 2 * batch * length * key.shape[1] * depth)


def _encoder(*given: Any, **named: Any) -> int:
    """A whole encoder layer in one kernel: self-attention and the two dense layers behind it."""
    batch, length, depth = given[0].shape
    own = sum(one.numel() for one in given[1:] if isinstance(one, torch.Tensor) and one.dim() == 2)
    return int(batch * length * own + 2 * batch * length * length * depth)


def _product(first: Any, second: Any, *rest: Any, **named: Any) -> int:
    """(…, M, K) and (K, …) or (K): every element of the first meets a row of the second."""
    return int(first.numel() * prod(second.shape[1:]))


def _added_product(bias: Any, first: Any, second: Any, *rest: Any, **named: Any) -> int:
    return _product(first, second)


def _added_batches(bias: Any, first: Any, second: Any, *rest: Any, **named: Any) -> int:
    """(B, M, K) and (B, K, N)."""
    return int(first.numel() * second.shape[-1])


def _own() -> Mapping[Any, Formula]:
    formulas: dict[str, Formula] = {
        "_scaled_dot_product_flash_attention_for_cpu": _attention,
        "_scaled_dot_product_fused_attention_overrideable": _attention,
        "_scaled_dot_product_attention_math_for_mps": _attention,
        "mkldnn_rnn_layer": _layer,
        "_cudnn_rnn": _layers,
        "miopen_rnn": _layers,
        "_native_multi_head_attention": _heads,
        "_transformer_encoder_layer_fwd": _encoder,
        "_addmm_activation": _added_product,
        "_int_mm": _product,
        "mv": _product,
        "dot": _product,
        "vdot": _product,
        "addmv": _added_product,
        "addbmm": _added_batches,
    }
    return {getattr(aten, name): formula for name, formula in formulas.items() if hasattr(aten, name)}


OWN = _own()
