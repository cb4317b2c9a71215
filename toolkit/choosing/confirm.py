"""A choice measured again: is it still what it was, beside the baseline, in fresh processes?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from toolkit.artifacts import Artifact, artifacts_root, find_artifacts, open_artifact
from toolkit.backends import BACKENDS
from toolkit.choices import Budget, ChoiceFile, Contender, chosen_path, find_choice
from toolkit.choosing import Candidate, ChooseSettings
from toolkit.choosing.choose import find_source, folder_of, is_pack, outcome_of
from toolkit.choosing.contest import Contest
from toolkit.choosing.packs import SUFFIX, open_pack
from toolkit.choosing.pictures import ChoicePictures, pictures_for
from toolkit.choosing.result import Choice
from toolkit.choosing.selection import select
from toolkit.choosing.turns import only_one
from toolkit.errors import CnnkitError, GateError, NotFoundError, UndecidedError
from toolkit.opening import Selection, as_asked
from toolkit.processes import stopped_as_by_ctrl_c
from toolkit.resolving import release_of
from toolkit.telling import Tell, silent


def confirm_choice(
    model: str | Path | None = None,
    *,
    budget: Budget | None = None,
    changes: Mapping[str, Any] = MappingProxyType({}),
    dataset: str | None = None,
    settings: ChooseSettings | None = None,
    untrained: bool = False,
    root: Path | str | None = None,
    tell: Tell = silent,
) -> Choice:
    """Measure a name's choice again beside the baseline and judge its answers again; write nothing.

    `budget` None is the one that it was chosen under, and `changes` are fields of it that are others now.
    It is judged as it was chosen: on the pictures of the data set or the pack that was named then, or of
    `dataset`, or, where `model` is a pack, on that one's.

    Raises NotFoundError where there is no choice, GateError where it does not keep to the budget any more, or
    is not faster than the baseline by now.
    """
    start, given = time.monotonic(), settings or ChooseSettings()
    _refuse_narrowing(given)
    try:
        with (
            stopped_as_by_ctrl_c(),
            _opened(model, dataset, given, artifacts_root(root), untrained) as opened,
        ):
            asked = replace(budget or opened.file.budget, **changes)
            return _confirm(opened, asked, given, start, tell)
    except KeyboardInterrupt:
        raise CnnkitError("interrupted: nothing was confirmed, and the choice stays as it is") from None


def _refuse_narrowing(settings: ChooseSettings) -> None:
    """Raise CnnkitError for settings that a choice has already."""
    named = {"--backend": settings.backends, "--threads": settings.threads, "--batch": settings.batches}
    typed = [word for word, value in named.items() if value is not None]
    if typed:
        raise CnnkitError(f"confirming measures what was chosen: leave out {', '.join(typed)}")


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A network whose choice is confirmed, its choice, its folder, and how its pictures are come by."""

    source: Artifact
    file: ChoiceFile
    root: Path
    pictures: Callable[[ChooseSettings], AbstractContextManager[ChoicePictures]]


@contextlib.contextmanager
def _opened(
    model: str | Path | None, dataset: str | None, settings: ChooseSettings, root: Path, untrained: bool
) -> Iterator[_Opened]:
    """Open a network with its choice. Raises NotFoundError, or CnnkitError where that does not hold here."""
    if model is not None and is_pack(model, dataset, untrained=untrained):
        with open_pack(Path(model), root) as pack:
            file, own = _choice(pack.source, root), pack.pictures
            yield _Opened(
                source=pack.source, file=file, root=root, pictures=lambda _: contextlib.nullcontext(own)
            )
        return
    source = find_source(model, root, settings, untrained=untrained)
    root = folder_of(model, source, root)
    file = _choice(source, root)
    word = file.pictures_from if dataset is None else dataset
    yield _Opened(
        source=source, file=file, root=root, pictures=lambda given: _pictures(source, given, word, root)
    )


@contextlib.contextmanager
def _pictures(
    source: Artifact, settings: ChooseSettings, word: str | None, root: Path
) -> Iterator[ChoicePictures]:
    """Yield the pictures that a word names: a pack's, a data set's, or the network's own."""
    if word is None or Path(word).suffix != SUFFIX:
        with pictures_for(source, settings, word) as pictures:
            yield pictures
    elif not Path(word).is_file():
        raise NotFoundError(
            f"it was judged on the pictures in {word}, which is not here any more: `cnnkit choose FILE.pack "
            "--confirm` names that pack where it lies now, `--dataset` a data set"
        )
    else:
        with open_pack(Path(word), root) as pack:
            yield pack.pictures


def _choice(source: Artifact, root: Path) -> ChoiceFile:
    found = find_choice(root, source.name, release_of)
    if found is None:
        raise NotFoundError(f"no choice of {source.name} is here: `cnnkit choose {source.name}` makes one")
    if found.file is None:
        raise CnnkitError(f"{found.path} does not hold here: {found.why_not}; `cnnkit choose {source.name}`")
    return found.file


def _confirm(opened: _Opened, asked: Budget, settings: ChooseSettings, start: float, tell: Tell) -> Choice:
    """Measure and judge the choice and the baseline; it began at `start`.

    Raises GateError, NotFoundError where the pictures are gone that it was judged on, UndecidedError where
    there were too few of them, or too little time, to tell what it loses.
    """
    source, file = opened.source, opened.file
    # where pictures a second count, the baseline has a best batch of its own
    batches = {file.chosen.batch, *([file.baseline.batch] if asked.throughput else [])}
    given = replace(
        settings,
        batches=tuple(sorted(batches)),
        unjudged=settings.unjudged or file.unjudged,
        expand=False,
    )
    tell(f"confirming {file.chosen.label}, chosen {file.created}")
    with only_one(source.name, given.wait_s, tell) as waited_s, opened.pictures(given) as pictures:
        if pictures.labels is None and file.chosen.accuracy is not None:
            raise NotFoundError(
                f"it was judged on {file.pictures}, and {pictures.why_unjudged}: `--data-dir` and "
                "`--dataset` say where they lie"
            )
        chosen, baseline = (_again(one, file, opened.root) for one in (file.chosen, file.baseline))
        candidates = {one.key: one for one in (baseline, chosen)}
        beside = file.baseline.batch if asked.throughput else file.chosen.batch
        only_at = {baseline.key: beside, chosen.key: file.chosen.batch}
        contest = Contest(list(candidates.values()), pictures, asked, given, tell, only_at=only_at)
        with contest.arena:
            contest.run()
        selected = select(contest)
        outcome = outcome_of(source, contest, [], selected, start + waited_s)
    if selected.entrant.candidate.key != chosen.key:
        found = next(one for one in contest.standing.entrants if one.key == chosen.key)
        open_still = found.ruling is not None and found.ruling.undecided
        raise (UndecidedError if open_still else GateError)(
            f"the choice is not confirmed: {found.why_not or selected.why}; `cnnkit choose {source.name}` "
            "chooses again"
        )
    return outcome


def _again(one: Contender, file: ChoiceFile, root: Path) -> Candidate:
    """Return a contender of a choice as a candidate, its file opened as it lies there now."""
    name = Path(one.artifact).name
    here = [path for path, _ in find_artifacts(root, file.model) if path.name == name]
    path = chosen_path(file, root) if one == file.chosen else next(iter(here), None)
    if path is None:
        raise NotFoundError(f"{name} is not here any more: `cnnkit choose {file.model}` chooses again")
    backend = BACKENDS.load(one.backend)
    artifact = as_asked(open_artifact(path), backend.opens(Selection(root=root, precision=one.precision)))
    return Candidate(backend=one.backend, artifact=artifact, settings=dict(one.settings), threads=one.threads)
