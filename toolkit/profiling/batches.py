"""At which batch sizes a network is profiled: those that were asked for, where its file takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from toolkit.artifacts import Artifact
from toolkit.errors import CnnkitError


def batches_of(
    artifacts: Iterable[Artifact], asked: tuple[int, ...] | None, tell: Callable[[str], None]
) -> tuple[int, ...]:
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
