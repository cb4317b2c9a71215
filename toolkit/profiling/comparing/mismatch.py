"""What two profiles do not share beside their rows: what only one of them measured, and the conditions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import CnnkitError
from toolkit.profiling.result import Profile, Run, threads_text


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """What a comparison of two profiles left out and what else differed, each in words.

    `lost` was measured before and not after, `added` the other way round. `differing` are conditions that
    the times depend on. `partial` names the sides (`before`, `after`) that were interrupted.
    """

    lost: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """One sentence for each kind of difference that there is."""
        kinds = (
            ("only before, so not compared", self.lost),
            ("only after, so not compared", self.added),
            ("not alike", self.differing),
            ("partial, as the run was interrupted", self.partial),
        )
        return tuple(f"{kind}: {'; '.join(parts)}" for kind, parts in kinds if parts)


def mismatch_of(before: Profile, after: Profile) -> Mismatch:
    """Return what two profiles do not share."""
    return Mismatch(
        lost=tuple(_missing(before, after)),
        added=tuple(_missing(after, before)),
        differing=tuple(_differing(before, after)),
        partial=tuple(name for name, side in (("before", before), ("after", after)) if side.partial),
    )


def refuse_unlike(before: Profile, after: Profile) -> None:
    """Raise CnnkitError where the threads or a column's device differ: that alone decides the times."""
    later = {(run.batch, key): device for run, key, device in _devices(after)}
    for run, key, device in _devices(before):
        other = later.get((run.batch, key), device)
        if other != device:
            raise CnnkitError(
                f"the profiles are of other devices, {device} before and {other} after ({key}), and cannot "
                f"be compared; profile again with `--device {device}`"
            )
    if before.threads != after.threads:
        again = f"--threads {before.threads or after.threads}"
        both = "" if before.threads else "both "
        raise CnnkitError(
            f"the profiles are of other numbers of threads, {threads_text(before.threads)} before and "
            f"{threads_text(after.threads)} after, and cannot be compared; profile {both}again with `{again}`"
        )


def _devices(profile: Profile) -> Iterable[tuple[Run, str, str]]:
    """Yield each column of each run with the device that it ran on; the first GPU is `cuda`, too."""
    for run in profile.runs:
        for key in timed_columns(run):
            device = run.backends[key].device or profile.device
            yield run, key, device.removesuffix(":0")


def refuse_incomplete(found: Mismatch) -> None:
    """Raise CnnkitError where a gate would pass what was measured before and is not there any more."""
    if found.partial:
        sides = " and ".join(f"the profile {side}" for side in found.partial)
        raise CnnkitError(f"{sides} was interrupted and cannot be judged; profile again")
    if found.lost:
        raise CnnkitError(
            f"not in the profile after: {'; '.join(found.lost)}; profile again with the same `--batch`, "
            "`--backend` and `--precision`"
        )


def timed_columns(run: Run) -> tuple[str, ...]:
    """Return the columns of a run that were timed, end to end or by row."""
    return tuple(key for key, column in run.backends.items() if column.measured or column.timed)


def _missing(first: Profile, second: Profile) -> Iterable[str]:
    others = {run.batch: timed_columns(run) for run in second.runs}
    for run in first.runs:
        if run.batch not in others:
            yield f"batch {run.batch}"
        else:
            own = [key for key in timed_columns(run) if key not in others[run.batch]]
            yield from (f"{key} at batch {run.batch}" for key in own)


def _differing(before: Profile, after: Profile) -> Iterable[str]:
    """Tell each condition that differs; what a side does not know is not compared."""
    first, second = _conditions(before), _conditions(after)
    for name in first:
        if name in second and first[name] != second[name]:
            yield f"{name} {first[name]} before, {second[name]} after"


def _conditions(profile: Profile) -> dict[str, str]:
    """Return model, machine (its GPUs where a column ran on one), each column's file, precision, allocator.

    An import without MODEL knows no network: its model is the name of what was imported.
    """
    machine = profile.machine
    columns = [(key, column) for run in profile.runs for key, column in run.backends.items()]
    found: dict[str, object] = {}
    if all(column.precision != "unknown" for _, column in columns):
        files = {f"file of {key}": Path(column.artifact).name for key, column in columns if column.artifact}
        found = {"model": profile.model, **files}
    found |= {"processor": machine.processor, "usable cores": machine.usable_cores}
    if any(column.device not in (None, "cpu") for _, column in columns):
        found["GPUs"] = ", ".join(machine.gpus or ()) or None
    found |= {f"precision of {key}": column.precision for key, column in columns}
    # profiles that do not tell it are of a release that had freed memory kept
    found |= {f"allocator of {key}": column.allocator or "keep" for key, column in columns if column.measured}
    return {name: str(value) for name, value in found.items() if value is not None}
