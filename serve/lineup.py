"""What names, paths and folders are served as: by the usual file, or as `cnnkit choose` chose."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from serve.served import ServedModel
from serve.settings import OpeningSettings
from toolkit.artifacts import Artifact, read_passport
from toolkit.backends import BACKENDS, DEFAULT_BACKEND, Backend, backend_names
from toolkit.choices import choice_path, not_opened, origin_of, read_choice, weights_of
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.opening import is_path, newest_name
from toolkit.presence import files_within, is_there
from toolkit.resolving import resolve_choice, settings_of
from toolkit.telling import Tell, silent


def files_under(folder: Path, backend: str, opening: OpeningSettings) -> tuple[str, ...]:
    """Return the newest file of each name anywhere under a folder that a backend opens at the precision.

    They are files rather than names: nothing that ships, and nothing elsewhere, takes their place. Raises
    NotFoundError where there is none, CorruptError for a passport that cannot be read.
    """
    placed = [path.with_suffix("") for path in files_within(folder) if path.suffix == ".json"]
    known = [Artifact(path=path, passport=read_passport(path)) for path in placed if is_there(path)]
    selection = opening.selection(backend)
    wanted = (selection.precision, selection.computed.get(selection.precision))
    fitting = [
        one for one in known if one.passport.format in selection.formats and one.passport.precision in wanted
    ]
    if not fitting:
        there = ", ".join(f"{one.path.name} ({one.passport.precision})" for one in known)
        lies = f"there are {there}: try --precision or --backend" if known else "no file there has a passport"
        raise NotFoundError(
            f"no artifact under {folder} that {backend} opens in {selection.precision}; {lies}"
        )
    newest = {one.name: one for one in sorted(fitting, key=lambda one: one.passport.created or "")}
    return tuple(str(one.path) for _, one in sorted(newest.items()))


def line_up(
    models: Sequence[str],
    backend: str,
    opening: OpeningSettings,
    *,
    others: bool,
    choices: bool = False,
    tell: Tell = silent,
) -> list[ServedModel]:
    """Resolve every model for `backend`, which must work, and with `others` for the rest, which may not.

    With `choices` a name is resolved to what `cnnkit choose` chose, where that holds here. Raises CnnkitError
    when a model cannot be served by `backend`.
    """
    opener = BACKENDS.load(backend)
    opener.require(instead=f"`cnnkit serve --backend {DEFAULT_BACKEND}` runs here")
    found: dict[str, list[ServedModel]] = {}
    for model in list(models) or [newest_name(opening.selection(backend))]:
        served = _chosen(model, opening, opener, tell) if choices else None
        if served is None:
            served = _usual(model, opening, opener, choices=choices)
            with contextlib.suppress(CorruptError):  # which was told, too
                served.looked_at = read_choice(choice_path(opening.root, served.name))
        name = served.name
        if name in found:
            raise CnnkitError(f"{name} is named twice; each model is served once")
        rest = [other for other in backend_names() if others and other != served.backend.name]
        found[name] = [served, *(_optional(name, BACKENDS.load(other), opening) for other in rest)]
    return [served for row in found.values() for served in row]


def rechosen(model: ServedModel, tell: Tell) -> ServedModel | None:
    """Return a model as `cnnkit choose` chose it since; None where nothing new was, or holds here (told).

    Where what it was chosen by does not hold any more, as of older weights, it is opened as usual (told).

    Raises CnnkitError where the choice cannot be read.
    """
    if model.asked is None or model.usual is None:
        return None
    found = read_choice(choice_path(model.asked.root, model.name))
    if found is not None and found not in (model.choice, model.looked_at):
        made = _chosen(model.name, model.asked, model.usual, tell)
        if made is not None:
            return made
        model.looked_at = found
    return _unchosen(model, model.asked, model.usual, tell)


def _unchosen(model: ServedModel, opening: OpeningSettings, usual: Backend, tell: Tell) -> ServedModel | None:
    """Return the usual file of a name whose choice does not hold any more (told); None where it does.

    A usual file of other weights than the newest, as one that was not exported again yet, is no better.
    """
    why = model.choice and not_opened(model.choice, opening.root)
    if not why:
        return None
    made = None
    with contextlib.suppress(NotFoundError):  # as where nothing but what ships is exported
        made = _usual(model.name, opening, usual, choices=True)
        made.looked_at = model.choice
    file = made.artifact if made else None
    newest = file and origin_of(opening.root, file) == weights_of(opening.root, model.name)
    name, until = model.name, f"or until `cnnkit export {model.name}`, what was chosen is served on"
    if file and newest:
        until = f"{file.path.name} is served"
    tell(
        f"what was chosen for {name} does not hold any more: {why}; `cnnkit choose {name}` chooses again, "
        f"and until then, {until}"
    )
    return made if newest else None


def _usual(model: str, opening: OpeningSettings, backend: Backend, *, choices: bool) -> ServedModel:
    """Return a model as its name, or its path, is opened where nothing was chosen. Raises CnnkitError."""
    artifact = opening.find(model, backend.name)
    chooses = choices and not is_path(model)
    return ServedModel(
        name=artifact.name,
        backend=backend,
        opening=opening,
        artifact=artifact,
        pinned=is_path(model),
        asked=opening if chooses else None,
        usual=backend if chooses else None,
    )


def _chosen(model: str, opening: OpeningSettings, usual: Backend, tell: Tell) -> ServedModel | None:
    """Return a name as `cnnkit choose` chose it; None where nothing was, or it does not hold here (told)."""
    found = resolve_choice(model, opening, tell)
    if found is None or found.choice is None:
        return None
    one = found.choice.chosen
    own = replace(
        opening,
        precision=one.precision,
        threads=opening.threads or one.threads,
        chosen=settings_of(found.choice, opening.chosen),
    )
    return ServedModel(
        name=found.artifact.name,
        backend=BACKENDS.load(found.backend),
        opening=own,
        artifact=found.artifact,
        choice=found.choice,
        asked=opening,
        usual=usual,
    )


def _optional(model: str, backend: Backend, opening: OpeningSettings) -> ServedModel:
    served = ServedModel(name=model, backend=backend, opening=opening, main=False)
    if not backend.installed():
        served.why_not = f"cannot run here: {backend.availability().why_not}"
        return served
    try:
        served.artifact = opening.find(model, backend.name)
    except CnnkitError as error:
        served.why_not = str(error)
    return served
