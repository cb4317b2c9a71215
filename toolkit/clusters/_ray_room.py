"""Room on Ray's machines: what a piece of work asks for, how often a machine has that, and where none has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from toolkit.clusters import Demand
from toolkit.clusters._ray_connection import RayMachine, first_line
from toolkit.errors import CnnkitError
from toolkit.figures import gibibytes_text

RESUME = "the same command with --resume goes on"


def insist_on_room(need: Demand, machines: Sequence[RayMachine]) -> None:
    """Raise CnnkitError where no machine has what one piece of work asks for."""
    if any(places(need, machine) for machine in machines):
        return
    largest = max(machines, key=lambda machine: (machine.gpus, machine.cpus, machine.memory_bytes))
    has = Demand(cpus=int(largest.cpus), gpus=int(largest.gpus), memory_bytes=largest.memory_bytes)
    raise CnnkitError(
        f"no machine of the cluster has {amount(need)}, which a cell asks for; the largest, {largest.name}, "
        f"has {amount(has)}: give fewer --threads{' or --device cpu' if need.gpus else ''}, or add a machine"
    )


def insist_on_another(
    need: Demand, machines: Callable[[], Sequence[RayMachine]], unfit: Mapping[str, CnnkitError]
) -> None:
    """Raise CnnkitError where none but machines that are `unfit`, by their ids, has what work asks for.

    Work that waits for another one would wait without end.
    """
    if unfit and not any(places(need, machine) for machine in machines() if machine.id not in unfit):
        why = "; ".join(dict.fromkeys(map(str, unfit.values())))
        raise CnnkitError(f"{why}: no other machine of the cluster has {amount(need)}; then {RESUME}")


def places(need: Demand, machine: RayMachine) -> int:
    """Return how many pieces of work fit on a machine at once."""
    asked = [(machine.cpus, need.cpus), (machine.gpus, need.gpus), (machine.memory_bytes, need.memory_bytes)]
    return int(min(has // want for has, want in asked if want))


def amount(need: Demand) -> str:
    parts = [f"{need.cpus} CPU{'s' if need.cpus != 1 else ''}"]
    parts += [f"{need.gpus} GPU{'s' if need.gpus != 1 else ''}"] if need.gpus else []
    parts += [f"{gibibytes_text(need.memory_bytes)} of memory"] if need.memory_bytes else []
    return " and ".join(parts)


@contextlib.contextmanager
def room_in_words() -> Iterator[None]:
    """Turn a full object store, or a full disk behind it, into one line."""
    import ray

    try:
        yield
    except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError) as error:
        raise CnnkitError(
            f"Ray's object store is full ({first_line(error)}): start Ray with more --object-store-memory, "
            f"or make room on its disk; {RESUME}"
        ) from None
