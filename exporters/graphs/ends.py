"""What of a network can be proven: in which batch, and whether at all."""

from __future__ import annotations

from toolkit.errors import CnnkitError
from toolkit.graphs.asking import Nature
from toolkit.graphs.recognising import Form


def require_provable(
    nature: Nature, what: str, batches: tuple[int, ...], form: Form | None = None
) -> int | None:
    """Return the only batch that a network is exported for, None where it takes any.

    A graph that measures its ranges anew at each run (`form` dynamic) does so over a whole batch, and gets
    batches of 1.

    Raises CnnkitError, with the node's name, where answers change from call to call, or depend on the rest
    of a batch and no batch of 1 was asked for.
    """
    if nature.changes is not None:
        raise CnnkitError(
            f"{what} answers the same input differently from call to call, by its node {nature.changes!r}: "
            "no file of it can be proven; export it in inference mode, without dropout or noise"
        )
    if nature.mixes is None or form == "dynamic":
        return 1 if nature.mixes is not None and nature.batch is None else nature.batch
    mixed = (
        f"{what} answers an input differently with what else is in its batch, by its node {nature.mixes!r}"
    )
    again = "export it in inference mode (`model.eval()`)"
    if nature.batch not in (None, 1):
        raise CnnkitError(f"{mixed}, and takes batches of {nature.batch} only; {again}, or for a batch of 1")
    if batches != (1,):
        raise CnnkitError(f"{mixed}; {again}, or add `--batch 1` for a file that takes one input at a time")
    return 1
