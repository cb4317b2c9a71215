"""What is served: each model by each backend, and in words why one of them cannot be."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec

from serve.classifier import Choice, Classifier, find, selection_for
from toolkit import catalog
from toolkit.artifacts import Artifact, find_artifacts, open_artifact, read_passport
from toolkit.errors import CnnkitError
from toolkit.opening import fits, is_path, newest_name

# In the order in which people see them; others of the catalog follow.
FIRST = ("ort", "pytorch", "trt")


@dataclass(kw_only=True)
class Entry:
    """One model by one backend; `artifact` is None where it cannot be served, and `why_not` says why.

    One that was named by its path is `pinned`: it stays that file, whatever else has its name.
    """

    model: str
    backend: str
    choice: Choice
    artifact: Artifact | None = None
    why_not: str | None = None
    pinned: bool = False
    _classifier: Classifier | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def label(self) -> str:
        """Return what people read: model and backend."""
        return f"{self.model} · {TITLES.get(self.backend, self.backend)}"

    def candidates(self) -> list[Artifact]:
        """Return what this model means now, in every precision, newest first; no file is hashed.

        Raises CnnkitError when the passport of a pinned one cannot be read.
        """
        if self.pinned and self.artifact is not None:
            path = self.artifact.path
            return [Artifact(path=path, passport=read_passport(path))]
        selection = selection_for(self.backend, self.choice)
        return [
            Artifact(path=path, passport=passport)
            for path, passport in find_artifacts(self.choice.root, self.model)
            if fits(passport, replace(selection, precision=passport.precision))
        ]

    def classifier(self) -> Classifier:
        """Return the opened artifact, opened now if it was not yet. Raises CnnkitError."""
        with self._lock:
            if self._classifier is None:
                made = Classifier(self._read(), self.backend, self.choice.options())
                made.warm_up()
                self._classifier = made
            return self._classifier

    def read(self) -> Artifact:
        """Return the artifact as it lies there now, its hash checked. Raises CnnkitError."""
        with self._lock:
            return self._read()

    def _read(self) -> Artifact:
        if self.artifact is None:
            raise CnnkitError(self.why_not or f"{self.label} is not served")
        found = open_artifact(self.artifact.path)
        if found.passport.sha256 != self.artifact.passport.sha256:
            self._classifier = None  # it answers with weights that are not there any more
        self.artifact = found
        return found

    def follow(self) -> None:
        """Take up what the name means by now, where that is another file than before. Raises CnnkitError."""
        if self.artifact is None or self.pinned:
            return
        for found in self.candidates():
            if found.passport.precision == self.choice.precision:
                if found.passport.sha256 != self.artifact.passport.sha256:
                    artifact = open_artifact(found.path)
                    with self._lock:
                        self.artifact, self._classifier = artifact, None
                return

    def replace(self, artifact: Artifact) -> Classifier:
        """Serve another artifact from now on and return it opened; holders of the old one keep it."""
        made = Classifier(artifact, self.backend, self.choice.options())
        made.warm_up()
        with self._lock:
            self.artifact, self._classifier, self.why_not = artifact, made, None
        return made

    def close(self) -> None:
        """Free the engine, where one was opened."""
        with self._lock:
            opened, self._classifier = self._classifier, None
        if opened is not None:
            opened.close()


TITLES = {"ort": "ONNX Runtime", "pytorch": "PyTorch", "trt": "TensorRT"}


def backend_names() -> list[str]:
    """Return every backend, the familiar ones first."""
    known = catalog.names("backend")
    return [name for name in FIRST if name in known] + [name for name in known if name not in FIRST]


def line_up(models: Sequence[str], backend: str, choice: Choice, *, others: bool) -> list[Entry]:
    """Resolve every model for `backend`, which must work, and with `others` for the rest, which may not.

    Raises CnnkitError when a model cannot be served by `backend`.
    """
    names = list(models) or [newest_name(selection_for(backend, choice))]
    entries: list[Entry] = []
    for model in names:
        catalog.backend(backend).require(instead="`cnnkit serve --backend ort` runs here")
        artifact = find(model, backend, choice)
        if any(entry.model == artifact.name for entry in entries):
            raise CnnkitError(f"{artifact.name} is named twice; each model is served once")
        entry = Entry(model=artifact.name, backend=backend, choice=choice, artifact=artifact)
        entry.pinned = is_path(model)
        entries.append(entry)
        if others:
            rest = [name for name in backend_names() if name != backend]
            entries += [_optional(artifact.name, name, choice) for name in rest]
    return entries


def _optional(model: str, backend: str, choice: Choice) -> Entry:
    entry = Entry(model=model, backend=backend, choice=choice)
    # importing torch takes over a second, so that it is installed is enough until someone asks for it
    if backend != "pytorch" or find_spec("torch") is None:
        state = catalog.backend(backend).availability()
        if not state.available:
            entry.why_not = f"cannot run here: {state.why_not}"
            return entry
    try:
        entry.artifact = find(model, backend, choice)
    except CnnkitError as error:
        entry.why_not = str(error)
    return entry
