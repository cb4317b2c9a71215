"""What is served: each model by each backend, and in words why one of them cannot be.

Engines are opened, kept and let go of here alone; the API's queues, the page and the reloader ask for them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from serve.classifier import Classifier
from serve.settings import OpeningSettings
from toolkit.artifacts import Artifact, open_artifact, read_passport
from toolkit.backends import BACKENDS, DEFAULT_BACKEND, Backend, backend_names
from toolkit.choices import (
    ChoiceFile,
    CurvePoint,
    choice_path,
    not_opened,
    origin_of,
    read_choice,
    weights_of,
)
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.opening import as_asked, describe, fits, is_path, newest_name, readings, standing
from toolkit.resolving import outdated, resolve_choice, said_choice, settings_of
from toolkit.telling import Tell, silent

# a file that could not be opened is tried anew this much later: it may be whole by then, a device free
RETRY_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why a version's file could not be opened, and until when that is not tried again."""

    sha256: str
    why: str
    until: float


@dataclass(kw_only=True)
class ServedModel:
    """One model by one backend, and its opened engines by version.

    A version is a precision of the model in the artifacts folder. `artifact` is the file of the default
    version, None where the model cannot be served by this backend, and `why_not` says why; `files` are
    the versions' newest files. A model that was named by its path is `pinned`: it stays that file,
    whatever else has its name. `main` tells the API's from those that the page has beside it; `choice` is
    the one that it is served by, `looked_at` the last that was looked at, `asked` and `usual` how the name is
    opened where none holds, and by which backend; without these no choice is looked at. `refused` tells
    which newer file of a version could not take over.
    """

    name: str
    backend: Backend
    opening: OpeningSettings
    artifact: Artifact | None = None
    why_not: str | None = None
    pinned: bool = False
    main: bool = True
    choice: ChoiceFile | None = None
    asked: OpeningSettings | None = None
    usual: Backend | None = None
    looked_at: ChoiceFile | None = None
    files: dict[str, Artifact] = field(default_factory=dict)
    opened: dict[str, Classifier] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    refused: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def label(self) -> str:
        """Return what people read: model and backend."""
        return f"{self.name} · {self.backend.title}"

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """The chosen file's latency over batch, as far as its budget allows; empty on other threads.

        Engines that share the cores with others' run on fewer than they were chosen with.
        """
        if self.choice is None or not self._as_measured(self.choice):
            return ()
        most = self.most_batch
        return tuple(point for point in self.choice.curve if most is None or point.batch <= most)

    @property
    def most_batch(self) -> int | None:
        """The most rows of a call that keeps to the budget of the choice; None where it has no such budget.

        On other threads than those it was measured on nothing tells what larger batches than its own take.
        """
        if self.choice is None or self.choice.most_batch is None:
            return None
        return self.choice.most_batch if self._as_measured(self.choice) else self.choice.chosen.batch

    def _as_measured(self, choice: ChoiceFile) -> bool:
        return self.opening.options().threads == choice.chosen.threads

    @property
    def said(self) -> str:
        """Say in words which file is served, as what it was chosen, or that newer weights are here."""
        file = describe(self.artifact) if self.artifact else self.label
        if self.choice:
            return f"{file}, as chosen: {said_choice(self.choice)}"
        if self.artifact is None or self.pinned:
            return file
        why = outdated(self.artifact, self.backend.name, self.opening.root)
        return f"{file}; {why}" if why else file

    @property
    def default(self) -> str:
        """Return the version that is meant where none is named."""
        return self.artifact.passport.precision if self.artifact else self.opening.precision

    @property
    def versions(self) -> list[str]:
        """Return every version's name, the default first."""
        return [self.default, *sorted(set(self.files) - {self.default})]

    def fault(self, version: str) -> Fault | None:
        """Return why the file that a version has now could not be opened; None when nothing is known."""
        fault, file = self.faults.get(version), self.files.get(version)
        return fault if fault and file and fault.sha256 == file.passport.sha256 else None

    def candidates(self) -> list[Artifact]:
        """Return what this model means now, in every precision, newest first; no file is hashed.

        Raises CnnkitError when the passport of a pinned one cannot be read.
        """
        selection = self.opening.selection(self.backend.name)
        if self.pinned and self.artifact is not None:
            path = self.artifact.path
            return [as_asked(Artifact(path=path, passport=read_passport(path)), selection)]
        return [
            Artifact(path=path, passport=reading)
            for path, passport in standing(self.opening.root, self.name)
            for reading in readings(passport, selection)
            if fits(reading, replace(selection, precision=reading.precision))
        ]

    def reopened(self, known: Artifact) -> Artifact:
        """Open a version's file as it lies there now. Raises CnnkitError."""
        selection = self.opening.selection(self.backend.name)
        return as_asked(open_artifact(known.path), replace(selection, precision=known.passport.precision))

    def look(self) -> None:
        """List the newest file of each precision that this backend can open. Raises CnnkitError."""
        self.files = {
            artifact.passport.precision: artifact
            for artifact in reversed(self.candidates())  # the newest comes last, and stays
            if artifact.passport.preprocessing is not None
        }

    def read(self) -> Artifact:
        """Return the default version's artifact as it lies there now. Raises CnnkitError."""
        if self.artifact is None:
            raise CnnkitError(self.why_not or f"{self.label} is not served")
        return self.reopened(self.artifact)

    def classifier(self, version: str | None = None) -> Classifier:
        """Return a version's engine, opened and warmed up now if it was not yet; may take seconds.

        Raises NotFoundError for a version that there is not, CnnkitError when it cannot be opened, and
        then for other versions than the default until RETRY_S later without a new try.
        """
        known = self.opened.get(version or self.default)
        if known is not None:  # without the lock, so that nobody waits for the opening of another version
            return known
        with self._lock:
            name = version or self.default
            if name not in self.opened:
                if name == self.default:
                    self.artifact = self.read()
                    made, name = self.open(self.artifact), self.default
                else:
                    made = self._open_other(name)
                self.opened[name] = made
            return self.opened[name]

    def _open_other(self, version: str) -> Classifier:
        file = self.files.get(version)
        if file is None:
            raise NotFoundError(f"no version {version!r} of {self.name}; known: {', '.join(self.versions)}")
        fault = self.fault(version)
        if fault is not None and time.monotonic() < fault.until:
            raise CnnkitError(fault.why)
        try:
            made = self.open(self.reopened(file))
        except CnnkitError as error:
            self.faults[version] = Fault(
                sha256=file.passport.sha256, why=str(error), until=time.monotonic() + RETRY_S
            )
            raise
        self.faults.pop(version, None)
        return made

    def open(self, artifact: Artifact) -> Classifier:
        """Return an artifact opened and warmed up, which nobody is answered by yet. Raises CnnkitError."""
        made = Classifier(artifact, self.backend.name, self.opening.options(), self.opening.limits)
        made.warm_up()
        return made

    def replace(self, version: str, classifier: Classifier) -> None:
        """Answer later callers with another engine; whoever came to the old one is answered by it."""
        if version == self.default:
            self.artifact = classifier.artifact
        self.opened[version] = classifier

    def follow(self) -> None:
        """Take up what the name means by now, where that is another file than before. Raises CnnkitError."""
        if self.artifact is None or self.pinned:
            return
        precision = self.opening.precision
        found = next((one for one in self.candidates() if one.passport.precision == precision), None)
        if found is not None and found.passport.sha256 != self.artifact.passport.sha256:
            artifact = self.reopened(found)
            with self._lock:
                self.artifact = artifact
                self.opened.clear()

    def close(self) -> None:
        """Free the engines that were opened."""
        while self.opened:
            self.opened.popitem()[1].close()


def files_under(folder: Path, backend: str, opening: OpeningSettings) -> tuple[str, ...]:
    """Return the newest file of each name anywhere under a folder that a backend opens at the precision.

    They are files rather than names: nothing that ships, and nothing elsewhere, takes their place. Raises
    NotFoundError where there is none, CorruptError for a passport that cannot be read.
    """
    placed = [path.with_suffix("") for path in sorted(folder.rglob("*.json"))]
    known = [Artifact(path=path, passport=read_passport(path)) for path in placed if path.exists()]
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
        chosen=settings_of(found.choice),
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
