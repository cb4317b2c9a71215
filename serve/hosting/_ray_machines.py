"""A cluster's machines before anything begins there: whether they see the files, and have room."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from serve.served import ServedModel
from serve.settings import ServeSettings
from toolkit.artifacts import hash_file
from toolkit.backends import DEFAULT_BACKEND
from toolkit.clusters.ray import RayMachine
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.telling import Tell

# cores are asked for in hundredths
FEWEST_CPUS = 0.01


def cpus_each(machines: Sequence[RayMachine], settings: ServeSettings, tell: Tell) -> float:
    """Return how many cores a replica books: its engine's threads, less where there are too few.

    Booked is what replicas are placed by, and not what they take. What cannot begin together is told.
    """
    least, most = settings.replicas or (1, 1)
    cpus = float(settings.opening.threads or 1)

    def places(each: float) -> int:
        return sum(int(machine.cpus / each) for machine in machines)

    if places(cpus) >= least:
        if places(cpus) < most:
            tell(
                f"warning: {many(places(cpus), 'replica')} of {most} have cores at once; others begin where "
                "machines are added"
            )
        return cpus
    cores = sum(machine.cpus for machine in machines)
    tell(
        f"warning: {many(least, 'replica')} of {many(int(cpus), 'thread')} on "
        f"{many(int(cores), 'core')} wait for one another"
    )
    while places(cpus) < least and cpus > FEWEST_CPUS:
        cpus = max(FEWEST_CPUS, round(cpus / 2, 2))
    if places(cpus) < least:
        raise CnnkitError(f"no machine of the cluster has cores for replicas: {int(cores)} in all")
    return cpus


def gpus_each(
    machines: Sequence[RayMachine], settings: ServeSettings, served: Sequence[ServedModel], tell: Tell
) -> int:
    """Return how many GPUs a replica books: one where any of its engines computes on one, named or not.

    What cannot begin together is told. Raises CnnkitError for a GPU of one machine, and where the replicas
    that there are at least are more than the GPUs.
    """
    devices = [settings.opening.device or one.backend.default_device for one in served]
    device = next((one for one in devices if one.startswith("cuda")), None)
    if device is None:
        return 0
    if ":" in device:
        raise CnnkitError(f"--device {device} names a GPU of one machine; --device cuda takes any")
    least, most = settings.replicas or (1, 1)
    found = int(sum(machine.gpus for machine in machines))
    if found < least:
        instead = "--device cpu" if settings.opening.device else f"--backend {DEFAULT_BACKEND}"
        raise CnnkitError(
            f"{many(least, 'replica')} on cuda compute on a GPU each, and the cluster has {found}: give "
            f"fewer --replicas, or {instead}"
        )
    if found < most:
        tell(
            f"warning: {many(found, 'replica')} of {most} have a GPU at once; others begin where machines "
            "are added"
        )
    return 1


def proxy_place(machines: Sequence[RayMachine], host: str, port: int) -> str:
    """Return where the proxy listens, which is on the head's machine; that is named where it is another."""
    shown = f"[{host}]" if ":" in host else host
    head = next((one.name.partition("/")[0] for one in machines if one.heads), None)
    there = f" of {head}" if head not in (None, socket.gethostname()) else ""
    return f"http://{shown}:{port}{there}"


def insist_on_files(
    machines: Sequence[RayMachine], served: Sequence[ServedModel], model_file: Path | None = None
) -> None:
    """Raise NotFoundError where a machine does not see an artifact or the `model_file`, or sees others."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    wanted = wanted_files(served, model_file)
    # a function within a function is sent as it is
    look = ray.remote(num_cpus=0, max_retries=0)(_looking())
    asked = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(one.id, soft=False)).remote(wanted)
        for one in machines
    ]
    for machine, reference in zip(machines, asked, strict=True):
        missing = ray.get(reference)
        if missing:
            lay = (
                "that file where every machine has it by the same path, and name it by --model-file"
                if model_file is not None and missing[0] == str(model_file.absolute())
                else "the artifacts where every machine has them by the same path, and name that folder by "
                "--artifacts"
            )
            raise NotFoundError(
                f"{machine.name} of the cluster does not see {missing[0]}, or sees another file there: "
                f"lay {lay}"
            )


def wanted_files(served: Sequence[ServedModel], model_file: Path | None) -> dict[str, str]:
    """Return the files that every machine must have, by their paths from the root, with their SHA-256."""
    found = {
        str(one.artifact.path.absolute()): one.artifact.passport.sha256 for one in served if one.artifact
    }
    code = {str(model_file.absolute()): hash_file(model_file)} if model_file else {}
    return found | code


def _looking() -> Callable[[dict[str, str]], list[str]]:
    def look(wanted: dict[str, str]) -> list[str]:
        from pathlib import Path

        from toolkit.artifacts import hash_file

        return [
            path
            for path, sha256 in wanted.items()
            if not Path(path).exists() or hash_file(Path(path)) != sha256
        ]

    return look


def many(count: int, what: str) -> str:
    """Return a number with the noun that it counts."""
    return f"{count} {what}{'s' if count > 1 else ''}"
