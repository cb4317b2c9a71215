"""A whole profile in one call: columns are found, timed, traced, aligned and judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

from toolkit.allocation import allocator, reuse_freed_memory
from toolkit.artifacts import artifacts_root
from toolkit.backends import BACKENDS
from toolkit.errors import CnnkitError
from toolkit.machine.cpu import cpu
from toolkit.opening import describe, take_weights
from toolkit.passports import Precision
from toolkit.presence import is_file
from toolkit.profiling import foreign
from toolkit.profiling.bench import run_columns
from toolkit.profiling.columns import ColumnsWanted, backends_of, find_columns
from toolkit.profiling.comparing.elsewhere import writer_of
from toolkit.profiling.judging.explaining import with_explanations
from toolkit.profiling.judging.findings import with_findings
from toolkit.profiling.judging.roofline import exceeded, with_roofline
from toolkit.profiling.measuring.peaks import peaks
from toolkit.profiling.result import Profile
from toolkit.profiling.settings import ProfileSettings
from toolkit.seeding import refuse_seeding
from toolkit.telling import Tell, silent


def profile(
    *models: str | Path,
    backends: Sequence[str] | None = None,
    batches: Sequence[int] | None = None,
    precisions: Sequence[Precision] | None = None,
    settings: ProfileSettings | None = None,
    untrained: bool = False,
    pretrained: Path | str | None = None,
    root: Path | str | None = None,
    tell: Tell = silent,
) -> Profile:
    """Measure time and memory of every module of networks, names or files, in each backend, on the same rows.

    Without a model: the one that was trained or exported last. `backends` None are all that are here; what a
    column needs and is not there is exported first. `pretrained` is a file of published weights of the
    package's network that the first model names. `batches` None are those of the settings, which say all
    else: seconds a column, device, threads, seed. `precisions` None are fp32 of names, and what files have:
    of those that are asked for, what a file has not is skipped. Times are milliseconds, memory is bytes.

    A backend that is named and cannot run here has a column without times, whose `why_not` says why.
    Raises NotFoundError with the nearest match, UnavailableError for a named backend of which nothing can be
    said, CnnkitError for a batch that a file does not take. Ctrl-C returns what is complete, marked partial.
    """
    asked = settings or ProfileSettings()
    if batches is not None:
        asked = dataclasses.replace(asked, batches=tuple(batches))
    names, named = backends_of(backends)
    first = take_weights(models[0] if models else None, pretrained, artifacts_root(root))
    every = tuple(map(str, (first, *models[1:]) if first is not None else models))
    if untrained and every:
        refuse_seeding(every, asked.seed)
    wanted = ColumnsWanted(
        models=every,
        backends=names,
        named=named,
        precisions=tuple(precisions or ()),
        insists=asked.insists,
        root=artifacts_root(root),
        untrained=untrained,
        seed=asked.seed,
        model_file=asked.model_file,
    )
    for model in wanted.models:
        _refuse_profiles(Path(model))
    chosen = find_columns(wanted, tell)
    _refuse_unheeded(asked, {target.backend for target in chosen.targets})
    _allocate_as(asked, tell)
    for artifact in {target.artifact.path: target.artifact for target in chosen.targets}.values():
        tell(f"opened {describe(artifact)}")
    return judged(run_columns(chosen, asked, tell))


def _refuse_profiles(path: Path) -> None:
    """Raise CnnkitError for what a runtime wrote of a run elsewhere, which is no network."""
    if path.suffix not in (".json", ".log", ".txt") or not is_file(path):
        return
    title = writer_of(path)
    if title is not None:
        raise CnnkitError(
            f"{path} is what {title} wrote of a run elsewhere, no network: "
            f"`cnnkit profile --import {path}` reads it"
        )


def _refuse_unheeded(asked: ProfileSettings, backends: Collection[str]) -> None:
    """Raise CnnkitError for a setting that no backend of a column has."""
    heeded = {name for backend in backends for name in BACKENDS.load(backend).settings}
    for name in asked.chosen:
        if name not in heeded:
            able = [one.name for one in BACKENDS.all() if name in one.settings]
            owner = f"a setting of {' and '.join(able)}" if able else "no setting of any backend"
            raise CnnkitError(
                f"--{name.replace('_', '-')} is {owner}, and {', '.join(sorted(backends))} runs here: "
                + (f"`--backend {able[0]}`, or leave it away" if able else "leave it away")
            )


def _allocate_as(asked: ProfileSettings, tell: Tell) -> None:
    """Have freed memory kept where that was asked for; say where this process keeps it already."""
    if asked.allocator == "keep" and not reuse_freed_memory():
        raise CnnkitError(
            "`--allocator keep` sets glibc's mallopt, which the C library here lacks; leave it out"
        )
    if asked.allocator == "system" and allocator() == "keep":
        tell("this process was told to keep freed memory and cannot be told otherwise: the columns say so")


def import_profile(
    layers: Path | None = None,
    times: Path | None = None,
    model: str | None = None,
    *,
    batch: int | None = None,
    root: Path | str | None = None,
) -> Profile:
    """Lay what another machine wrote onto the modules of a network, or onto its own node names.

    `layers` is a file of an engine's layers, or a whole profile of a runtime's; `times` that of the layers'
    times. `batch` None is the one that the files tell, else 1. Raises NotFoundError, CorruptError in words,
    CnnkitError for a batch other than the one that they were taken at, or another network's profile.
    """
    return judged(foreign.import_profile(layers, times, model, batch=batch, root=artifacts_root(root)))


def judged(found: Profile) -> Profile:
    """Return a profile with what stands out in it, its rows held against this machine's peaks.

    A GPU's peaks are not measured, nor another machine's.
    """
    columns = [column for run in found.runs for column in run.backends.values()]
    if any(column.measured and column.device == "cpu" for column in columns):
        rated = with_roofline(found, peaks(found.threads))
        again = exceeded(rated)
        found = with_roofline(found, peaks(found.threads, anew=True)) if again else rated
    return with_explanations(with_findings(found), lanes=cpu().lanes)
