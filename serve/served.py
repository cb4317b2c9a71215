"""What is served: each model by each backend, and in words why one of them cannot be.

Engines are opened, kept and let go of here alone; the API's queues, the page and the reloader ask for them.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

from serve.classifier import Classifier
from serve.settings import OpeningSettings
from toolkit.artifacts import Artifact, open_artifact, read_passport
from toolkit.backends import Backend
from toolkit.choices import ChoiceFile, CurvePoint
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.opening import as_asked, describe, fits, readings, standing
from toolkit.resolving import outdated, said_choice, settings_of

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
        """The chosen file's latency over batch, as far as its budget allows; empty where it runs otherwise.

        Engines that share the cores with others' run on fewer than they were chosen with.
        """
        if self.choice is None or not self._as_measured(self.choice):
            return ()
        most = self.most_batch
        return tuple(point for point in self.choice.curve if most is None or point.batch <= most)

    @property
    def most_batch(self) -> int | None:
        """The most rows of a call that keeps to the budget of the choice; None where it has no such budget.

        On other threads or settings than it was measured on nothing tells what larger batches than its own
        take.
        """
        if self.choice is None or self.choice.most_batch is None:
            return None
        return self.choice.most_batch if self._as_measured(self.choice) else self.choice.chosen.batch

    def _as_measured(self, choice: ChoiceFile) -> bool:
        options = self.opening.options()
        return (options.threads, options.chosen) == (choice.chosen.threads, settings_of(choice))

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
