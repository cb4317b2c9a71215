"""A whole choosing in one call: files are found or made, judged and timed, the best is written down."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from toolkit.artifacts import (
    CHECKPOINT,
    Artifact,
    artifacts_root,
    now,
    open_artifact,
)
from toolkit.backends import BACKENDS, backend_names
from toolkit.choices import (
    Budget,
    ChoiceFile,
    CurvePoint,
    choice_path,
    not_opened,
    origin_of,
    this_machine,
    write_choice,
)
from toolkit.choosing import Candidate, ChooseSettings, Rejection
from toolkit.choosing.arena import forks
from toolkit.choosing.candidates import CandidateFiles, backends_asked, find_files
from toolkit.choosing.contest import Contest
from toolkit.choosing.deciding import TOO_NOISY
from toolkit.choosing.explaining import why_slower
from toolkit.choosing.forking import ForkServers
from toolkit.choosing.packs import SUFFIX, open_pack
from toolkit.choosing.pictures import on_pictures, pictures_for
from toolkit.choosing.result import Choice, frontier
from toolkit.choosing.selection import Elected, select
from toolkit.choosing.standing import Standing
from toolkit.choosing.turns import only_one
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.graphs import GRAPH
from toolkit.machine.cpu import cpu
from toolkit.named_files import refuse_unwritable
from toolkit.opening import Selection, describe, is_path, open_model
from toolkit.processes import stopped_as_by_ctrl_c
from toolkit.profiling.measuring.batches import fixed_batch
from toolkit.seeding import refuse_seeding
from toolkit.telling import Tell, silent

ELSEWHERE = "name another folder with `--artifacts`"


def choose(
    model: str | Path | None = None,
    *,
    budget: Budget | None = None,
    dataset: str | None = None,
    settings: ChooseSettings | None = None,
    untrained: bool = False,
    root: Path | str | None = None,
    tell: Tell = silent,
) -> Choice:
    """Find the fastest way to run a network on this machine that keeps to a budget, and write it down.

    `model` is a name or a file; None is the network that was trained or exported last. Without a budget it
    is the least median latency that surely loses no more than 0.5 points of accuracy. Files that are missing
    are exported first; every candidate runs in a process of its own and is judged on validation pictures,
    those of `dataset` where the network names none. Latency is in milliseconds, memory in bytes.

    Ctrl-C returns what is complete, marked partial, and writes nothing. Raises GateError, with the nearest
    that can be met, for a budget that nothing keeps to; CnnkitError where the machine is too noisy to tell;
    NotFoundError for a network or backend that is not there.
    """
    start = time.monotonic()
    asked, given = budget or Budget(), settings or ChooseSettings()
    folder = artifacts_root(root)
    if model is not None and is_pack(model, dataset, untrained=untrained):
        return _choose_packed(Path(model), asked, given, folder, tell)
    source = find_source(model, folder, given, untrained=untrained)
    tell(f"opened {describe(source)}")
    folder = folder_of(model, source, folder)
    refuse_unwritable(choice_path(folder, source.name), instead=ELSEWHERE)
    given = fitting(source, asked, given)
    with (
        stopped_as_by_ctrl_c(),
        only_one(source.name, given.wait_s, tell) as waited_s,
        # runtimes are imported while the pictures are read
        ForkServers(backends_asked(given) if forks(asked) else ()) as servers,
        pictures_for(source, given, dataset) as pictures,
    ):
        if pictures.why_unjudged is not None:
            tell(f"no picture can judge the answers ({pictures.why_unjudged}): {_consequence(given)}")
        if source.passport.dataset is None:  # int8 is calibrated and judged on them, too, when it is made
            source = replace(source, passport=on_pictures(source.passport, dataset))
        files = find_files(source, folder, given, asked, tell, judged=pictures.labels is not None)
        lined_up = _lined_up(files)
        contest = Contest(lined_up, pictures, asked, given, tell, later=files.later, servers=servers)
        return compete(contest, source, files.rejected, root=folder, start=start + waited_s)


def _choose_packed(path: Path, budget: Budget, settings: ChooseSettings, root: Path, tell: Tell) -> Choice:
    """Choose among the files of a pack, by its pictures; they are laid out in the artifacts folder."""
    start = time.monotonic()
    with (
        stopped_as_by_ctrl_c(),
        only_one(path.stem, settings.wait_s, tell) as waited_s,
        open_pack(path, root) as pack,
    ):
        tell(f"opened {path}: {len(pack.manifest.files)} files of {pack.source.name}, {pack.pictures.source}")
        given, judged = fitting(pack.source, budget, settings), pack.pictures.labels is not None
        files = find_files(pack.source, root, given, budget, tell, judged=judged, lacking=pack.lacking)
        contest = Contest(_lined_up(files), pack.pictures, budget, given, tell)
        return compete(contest, pack.source, files.rejected, root=root, start=start + waited_s)


def is_pack(model: str | Path, dataset: str | None, *, untrained: bool) -> bool:
    """Tell whether MODEL is a pack. Raises CnnkitError for what would be ignored beside one."""
    packed = Path(model).suffix == SUFFIX
    if packed and (dataset is not None or untrained):
        raise CnnkitError(f"{model} holds a network and its pictures: leave out --dataset and --untrained")
    return packed


def folder_of(model: str | Path | None, source: Artifact, root: Path) -> Path:
    """Return the artifacts folder of a network: that of its file, where a path names one in such a folder."""
    placed = model is not None and is_path(str(model)) and source.path.parent.name == source.name
    return source.path.absolute().parent.parent if placed else root


def _consequence(settings: ChooseSettings) -> str:
    return (
        "every precision may be chosen"
        if settings.unjudged
        else "only what is numerically equal may be chosen"
    )


def find_source(
    model: str | Path | None, root: Path, settings: ChooseSettings, *, untrained: bool = False
) -> Artifact:
    """Return what candidates are made of: a name's checkpoint, else its whole graph; a path's file.

    Raises CnnkitError for a file that was made of such a one in a lower precision: nothing would tell what it
    lost.
    """
    text = None if model is None else str(model)
    if text is not None and is_path(text):
        if untrained:
            refuse_seeding([text], settings.seed)
        source = open_artifact(Path(text))
        known = source.passport
        if known.precision != "fp32" and known.quantised_by is None:
            raise CnnkitError(
                f"{source.path.name} is {known.precision} already, and what is chosen is held against fp32: "
                f"`cnnkit choose {source.name}`, or its checkpoint or fp32 graph"
            )
        return source
    selection = Selection(
        root=root,
        formats=(CHECKPOINT,),
        untrained=untrained,
        seed=settings.seed,
        model_file=settings.model_file,
    )
    try:
        return open_model(text, selection)
    except NotFoundError:
        with contextlib.suppress(NotFoundError):
            return open_model(text, replace(selection, formats=(GRAPH,)))
        raise


def fitting(source: Artifact, budget: Budget, settings: ChooseSettings) -> ChooseSettings:
    """Return the settings with the batches that a file takes. Raises CnnkitError for others."""
    fixed = fixed_batch(source)
    asked = settings.batches
    if fixed is not None and asked not in (None, (fixed,)):
        raise CnnkitError(
            f"{source.path.name} takes batches of {fixed} only: `--batch {fixed}`, or leave it out"
        )
    if asked is not None and len(asked) > 1 and not budget.throughput:
        raise CnnkitError(
            "several batches are compared by pictures a second: add `--throughput`, or name one `--batch`"
        )
    return replace(settings, batches=(fixed,)) if fixed is not None else settings


def versions() -> Mapping[str, str | None]:
    """Return the release of every backend that may run here, by its name."""
    loaded = {name: BACKENDS.load(name) for name in backend_names()}
    return {name: one.release() for name, one in loaded.items() if one.installed()}


def compete(
    contest: Contest, source: Artifact, rejected: list[Rejection], *, root: Path, start: float
) -> Choice:
    """Hold the contest of a network's files and write down what is chosen; it began at `start`."""
    selected: Elected | None = None
    curve: tuple[CurvePoint, ...] = ()
    # the weights that were opened: newer ones may be here by the end
    stage, weights = contest.standing.stage, origin_of(root, source)
    contest.standing.stages["files"] = time.monotonic() - start
    try:
        with contest.arena:
            contest.run()
            selected = select(contest)
            with stage("curve"):
                curve = contest.arena.curve(selected.entrant)
    except KeyboardInterrupt:
        selected = None
        contest.tell("interrupted: what follows is partial, and nothing was chosen")
    found = outcome_of(source, contest, rejected, selected, start)
    if selected is None:
        return found
    path = choice_path(root, source.name)
    record = replace(_record(source, contest, selected, found, weights), curve=curve)
    why_not = "its weights are untrained" if source.passport.trained is False else not_opened(record, root)
    notes = [] if why_not is None else [f"{path} was not written: no name would open it, as {why_not}"]
    if why_not is None:
        _keep(path, record, found.why)
    try:
        with stage("explaining"):
            notes += why_slower(contest, selected.entrant.candidate.backend)
    except KeyboardInterrupt:
        notes.append("interrupted: the choice stands, and why another file is slower is not told")
    return replace(
        found,
        choice_file=path if why_not is None else None,
        file=record,
        notes=(*found.notes, *notes),
        seconds=time.monotonic() - start,
        stages=_rounded(contest),
    )


def _record(
    source: Artifact, contest: Contest, selected: Elected, found: Choice, weights: str | None
) -> ChoiceFile:
    """Return what is written of a choice, but for its curve."""
    assert found.chosen is not None
    assert found.baseline is not None
    file = selected.entrant.candidate.artifact
    return ChoiceFile(
        model=source.name,
        file=file.path.name,
        sha256=file.passport.sha256,
        weights=weights,
        chosen=found.chosen,
        baseline=found.baseline,
        machine=found.machine,
        budget=found.budget,
        pictures=found.pictures,
        pictures_from=contest.pictures.named,
        unjudged=contest.settings.unjudged,
        created=now(),
    )


def _keep(path: Path, record: ChoiceFile, why: str) -> None:
    """Write a choice. Raises CnnkitError that tells what was found where the disk is full."""
    try:
        write_choice(path, record)
    except CnnkitError as error:
        raise CnnkitError(f"found {record.chosen.label}: {why}; but {error}") from None


def _lined_up(files: CandidateFiles) -> list[Candidate]:
    if not files.candidates:
        why = "; ".join(f"{one.contender.label}: {one.why}" for one in files.rejected)
        raise CnnkitError(f"nothing can be tried: {why or 'no backend here opens it'}")
    return files.candidates


def outcome_of(
    source: Artifact,
    contest: Contest,
    rejected: list[Rejection],
    selected: Elected | None,
    start: float,
) -> Choice:
    """Return what a contest that began at `start` came to, whole or interrupted."""
    standing = contest.standing
    alive = [one for one in standing.entrants if one.why_not is None and one.ruling is not None]
    named = {one.key: standing.contender(one) for one in alive}
    baseline = named.get(standing.baseline.key) if standing.baseline else None
    chosen = named[selected.entrant.key] if selected else None
    judged = [standing.contender(one) for one in standing.entrants if one.ruling is not None]
    return Choice(
        model=source.name,
        machine=this_machine(
            {name: text for name, text in versions().items() if text},
            on_gpu=chosen is not None and BACKENDS.load(chosen.backend).on_gpu,
        ),
        budget=contest.budget,
        baseline=baseline,
        chosen=chosen,
        frontier=frontier(judged),
        measured=tuple(sorted(named.values(), key=lambda one: one.picture_ms)),
        rejected=(*standing.rejections(), *rejected),
        seconds=time.monotonic() - start,
        why=selected.why if selected else "interrupted before anything was chosen",
        pictures=contest.pictures.source,
        disturbed=standing.disturbed,
        others_cores=standing.others_cores,
        stages=_rounded(contest),
        notes=_company(standing),
        partial=selected is None,
    )


def _rounded(contest: Contest) -> dict[str, float]:
    return {name: round(seconds, 2) for name, seconds in contest.standing.stages.items()}


def _company(standing: Standing) -> tuple[str, ...]:
    """Say that the machine did other work while the finalists were measured; nothing where it did not."""
    if standing.disturbed <= TOO_NOISY:
        return ()
    return (
        f"{standing.disturbed:.0%} of the confirming rounds were disturbed: other work kept "
        f"{standing.others_cores:.1f} of {cpu().cores} cores busy, and the figures hold beside such work",
    )
