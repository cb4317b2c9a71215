"""Dropout's masks of a whole batch, of which a rank takes its pictures' part.

So a mask is the same, picture by picture, however many ranks share the batch out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.training.compute.seats import BatchPart

_ATEN = torch.ops.aten
# what dropout, stochastic depth and noise layers end in
_IN_PLACE = {
    _ATEN.bernoulli_.float,
    _ATEN.uniform_.default,
    _ATEN.normal_.default,
    _ATEN.exponential_.default,
}
_LIKE = {_ATEN.rand_like.default, _ATEN.randn_like.default, _ATEN.bernoulli.default, _ATEN.bernoulli.p}
_SIZED = {_ATEN.rand.default, _ATEN.randn.default}


class GlobalDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While this is entered, what is drawn for each picture of a rank's part is drawn for the whole batch.

    A draw whose first extent is not the part's is one for all pictures and the same on every rank, as all
    are seeded alike.
    """

    def __init__(self, share: BatchPart) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._share = share

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare the import of torch's compiler, 1.5 s and 150 MB, in which nothing here is run."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        rows = self._share.rows
        if func in _IN_PLACE and self._is_part(args[0].shape):
            whole = self._whole(args[0])
            func(whole, *args[1:], **kwargs)
            return args[0].copy_(whole[rows])
        if func in _LIKE and self._is_part(args[0].shape):
            whole = self._whole(args[0])
            whole[rows] = args[0]  # what bernoulli draws by; the other kinds do not look at it
            return func(whole, *args[1:], **kwargs)[rows]
        if func in _SIZED and self._is_part(args[0]):
            return func([self._share.total, *args[0][1:]], *args[1:], **kwargs)[rows]
        if func is _ATEN.native_dropout.default and self._is_part(args[0].shape) and args[2] is not False:
            return self._dropped(args[0], args[1])
        return func(*args, **kwargs)

    def _is_part(self, shape: Any) -> bool:
        return len(shape) > 0 and shape[0] == self._share.size

    def _whole(self, part: Tensor) -> Tensor:
        """Return a tensor for the whole batch that lies in memory as the part does, filled with zeros."""
        shape = (self._share.total, *part.shape[1:])
        if part.numel() and part.stride(0) * part.shape[0] == part.numel():
            whole = torch.empty_strided(shape, part.stride(), dtype=part.dtype, device=part.device)
        else:
            whole = part.new_empty(shape)
        return whole.zero_()

    def _dropped(self, part: Tensor, p: float) -> tuple[Tensor, Tensor]:
        """Return what CUDA's dropout, one kernel, gives of a part, and its mask."""
        _, whole = _ATEN.native_dropout.default(self._whole(part), p, True)
        mask = whole[self._share.rows].clone()  # lies as the part does
        scale = 0.0 if p == 1 else 1 / (1 - p)
        return part * mask * scale, mask
