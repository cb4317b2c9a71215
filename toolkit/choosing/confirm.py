"""A choice measured again: is it still what it was, beside the baseline, in fresh processes?"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from toolkit.artifacts import artifacts_root, find_artifacts, open_artifact
from toolkit.backends import BACKENDS
from toolkit.choices import Budget, ChoiceFile, Contender, find_choice
from toolkit.choosing import Candidate, ChooseSettings
from toolkit.choosing.choose import find_source, outcome_of
from toolkit.choosing.contest import Contest
from toolkit.choosing.judging import pictures_for
from toolkit.choosing.result import Choice
from toolkit.choosing.selection import select
from toolkit.choosing.stopping import kill_as_ctrl_c
from toolkit.choosing.turns import only_one
from toolkit.errors import CnnkitError, GateError, NotFoundError
from toolkit.opening import Selection, as_asked
from toolkit.resolving import release_of
from toolkit.telling import Tell, silent


def confirm_choice(
    model: str | Path | None = None,
    *,
    budget: Budget | None = None,
    dataset: str | None = None,
    settings: ChooseSettings | None = None,
    untrained: bool = False,
    root: Path | str | None = None,
    tell: Tell = silent,
) -> Choice:
    """Measure a name's choice again beside the baseline and judge its answers again; write nothing.

    `budget` None is the one that it was chosen under.

    Raises NotFoundError where there is no choice, GateError where it does not keep to the budget any more, or
    is not faster than the baseline by now.
    """
    start, given = time.monotonic(), settings or ChooseSettings()
    folder = artifacts_root(root)
    source = find_source(model, folder, given, untrained=untrained)
    found = find_choice(folder, source.name, release_of)
    if found is None:
        raise NotFoundError(f"no choice of {source.name} is here: `cnnkit choose {source.name}` makes one")
    if found.file is None:
        raise CnnkitError(f"{found.path} does not hold here: {found.why_not}; `cnnkit choose {source.name}`")
    asked = budget or found.file.budget
    # where pictures a second count, the baseline has a best batch of its own
    batches = {found.file.chosen.batch, *([found.file.baseline.batch] if asked.throughput else [])}
    given = replace(given, batches=tuple(sorted(batches)))
    tell(f"confirming {found.file.chosen.label}, chosen {found.file.created}")
    with (
        kill_as_ctrl_c(),
        only_one(source.name, given.wait_s, tell) as waited_s,
        pictures_for(source, given, dataset) as pictures,
    ):
        chosen, baseline = (
            _again(one, found.file, folder) for one in (found.file.chosen, found.file.baseline)
        )
        candidates = {one.key: one for one in (baseline, chosen)}
        contest = Contest(list(candidates.values()), pictures, asked, replace(given, expand=False), tell)
        with contest.arena:
            contest.run()
        selected = select(contest)
        outcome = outcome_of(source, contest, [], selected, start + waited_s)
    if selected.entrant.candidate.key != chosen.key:
        raise GateError(
            f"the choice is not confirmed: {selected.why}; `cnnkit choose {source.name}` chooses again"
        )
    return replace(outcome, choice_file=None)


def _again(one: Contender, file: ChoiceFile, root: Path) -> Candidate:
    """Return a contender of a choice as a candidate, its file opened as it lies there now."""
    name = Path(one.artifact).name
    path = next((path for path, _ in find_artifacts(root, file.model) if path.name == name), None)
    if path is None:
        raise NotFoundError(f"{name} is not here any more: `cnnkit choose {file.model}` chooses again")
    backend = BACKENDS.load(one.backend)
    artifact = as_asked(open_artifact(path), backend.opens(Selection(root=root, precision=one.precision)))
    return Candidate(backend=one.backend, artifact=artifact, settings=dict(one.settings), threads=one.threads)
