"""At which batch sizes a network is profiled, as far as its file takes them, and on what input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Artifact
from toolkit.errors import CnnkitError
from toolkit.telling import Tell


def batches_of(artifacts: Iterable[Artifact], asked: tuple[int, ...] | None, tell: Tell) -> tuple[int, ...]:
    """Return the batch sizes to profile: those asked for; else the one that a file fixes (said), else 1.

    Raises CnnkitError where a file's batch is fixed at another one, or two files' at different ones.
    """
    fixed = {a.path: size for a in artifacts if (size := fixed_batch(a)) is not None}
    if len(set(fixed.values())) > 1:
        said = ", ".join(f"{path.name} is fixed at batch {size}" for path, size in fixed.items())
        raise CnnkitError(f"{said}: profile each of them alone")
    if not fixed:
        return asked or (1,)
    path, size = next(iter(fixed.items()))
    if asked is None and size != 1:
        tell(f"{path.name}: its batch is fixed at {size}, so that is the one profiled")
    if asked is not None and asked != (size,):
        raise refused(f"{path.name} was asked for at batch {', '.join(map(str, asked))}", size)
    return (size,)


def fixed_batch(artifact: Artifact) -> int | None:
    """Return the only batch that a file takes; None where its batch is free or unknown."""
    shape = artifact.passport.input.shape
    return shape[0] if shape else None


def refused(what: str, size: int) -> CnnkitError:
    """Return the error for a batch other than the one that a file fixes."""
    return CnnkitError(
        f"{what}, but its batch is fixed at {size}: `--batch {size}`, or export it with the batch left open"
    )


def feed(shape: tuple[int | None, ...], dtype: str, *, batch: int, seed: int) -> NDArray[Any]:
    """Return seeded input of `batch` where the first extent is open, else of the shape's own.

    Standard normal; for integer types whole numbers, which may index something: 0 or 1, and 0 to 126
    for those of one byte, which are pixels. Raises CnnkitError for another extent that is unknown.
    """
    if not shape:
        raise CnnkitError(
            "the input declares no shape; give it one in the file (onnx.tools.update_model_dims)"
        )
    if any(extent is None for extent in shape[1:]):
        raise CnnkitError(
            f"the input's shape {shape} leaves more than the batch open; fix it in the file first "
            "(onnxruntime.tools.make_dynamic_shape_fixed)"
        )
    full = tuple(
        batch if place == 0 and extent is None else int(extent or 1) for place, extent in enumerate(shape)
    )
    random = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return random.standard_normal(full, dtype=np.float32).astype(kind)
    if kind.kind in "iu":
        return random.integers(0, 2 if kind.itemsize > 1 else 127, full).astype(kind)
    return np.ones(full, dtype=kind)
