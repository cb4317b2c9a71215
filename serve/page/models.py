"""What the page may ask: each served model, its engines by backend and precision, its test pictures."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from serve.api import RefusedError
from serve.classifier import Classifier
from serve.page.pictures import SamplePictures, sample_pictures
from serve.served import ServedModel
from toolkit.artifacts import Artifact
from toolkit.errors import CnnkitError

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class PageEngine:
    """One way to run a model. `id` is what a request names it by."""

    entry: ServedModel
    version: str
    artifact: Artifact

    @property
    def id(self) -> str:
        """Return backend and precision."""
        return f"{self.entry.backend.name}:{self.version}"

    @property
    def title(self) -> str:
        """Return what people read: backend and precision."""
        return f"{self.entry.backend.title} {self.version}"

    def classifier(self) -> Classifier:
        """Return the engine, opened now if it was not yet. Raises CnnkitError.

        A file that was written anew since is opened anew, so that no two answers are of other weights. Of the
        API's engines the reload does that, which looks whether it may take over.
        """
        known = None if self.entry.main else self.entry.opened.get(self.version)
        if known and known.artifact.passport.sha256 != self.artifact.passport.sha256:
            self.entry.replace(self.version, self.entry.open(self.entry.reopened(self.artifact)))
        return self.entry.classifier(self.version)


class Remembered(Generic[Made]):
    """Things that take time to make, by a key, the newest few; each is made once, however many ask."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._made: dict[str, Made] = {}
        self._lock = threading.Lock()

    def get(self, key: str, make: Callable[[], Made]) -> Made:
        """Return what was made under a key, made now if it was not."""
        with self._lock:
            if key not in self._made:
                made = make()
                while len(self._made) >= self.most:
                    del self._made[next(iter(self._made))]
                self._made[key] = made
            return self._made[key]


@dataclass(frozen=True, kw_only=True)
class PageModel:
    """One model: the entry that serves it first, then the other backends'."""

    name: str
    entries: Sequence[ServedModel]

    @property
    def serving(self) -> ServedModel:
        """Return the entry that the API answers by."""
        return self.entries[0]

    @property
    def artifact(self) -> Artifact:
        """Return the file that serves. Raises RefusedError (404) where none does any more."""
        artifact = self.serving.artifact
        if artifact is None:
            raise RefusedError(404, f"{self.name} is not served any more")
        return artifact

    def engines(self) -> list[PageEngine]:
        """Return every way to run it, the one that serves first."""
        found = []
        for entry in self.entries:
            if entry.why_not is None and entry.artifact is not None:
                found += [
                    PageEngine(entry=entry, version=version, artifact=file)
                    for version in entry.versions
                    if (file := _file_of(entry, version))
                ]
        return found

    def engine(self, id: str | None) -> PageEngine:
        """Return the engine of that name, the one that serves for None. Raises RefusedError (404)."""
        engines = self.engines()
        found = next((one for one in engines if id in (None, one.id)), None)
        if found is None:
            known = ", ".join(one.id for one in engines)
            raise RefusedError(404, f"{self.name} is not run by {id!r}; known: {known}")
        return found

    def look(self) -> None:
        """List the precisions that lie in the artifacts folder now, for the other backends, too."""
        for entry in self.entries:
            if entry.why_not is None and not entry.pinned:
                entry.look()


@dataclass(kw_only=True)
class PageModels:
    """Every model by name."""

    models: dict[str, PageModel]
    _pictures: Remembered[SamplePictures | str] = field(default_factory=lambda: Remembered(16))

    @classmethod
    def of(cls, entries: Sequence[ServedModel]) -> PageModels:
        """Group what is served by model."""
        rows: dict[str, list[ServedModel]] = {}
        for entry in entries:
            rows.setdefault(entry.name, []).append(entry)
        return cls(models={name: PageModel(name=name, entries=row) for name, row in rows.items()})

    def named(self, name: str | None) -> PageModel:
        """Return a model, the first for None. Raises RefusedError (404)."""
        found = self.models.get(name) if name is not None else next(iter(self.models.values()))
        if found is None:
            raise RefusedError(404, f"no model {name!r} is served; known: {', '.join(self.models)}")
        return found

    def pictures(self, model: PageModel) -> SamplePictures | str:
        """Return a model's test pictures, or why there are none; read once for each of its files."""
        artifact = model.artifact
        return self._pictures.get(f"{artifact.path}\0{artifact.passport.sha256}", lambda: _pictures(artifact))

    def served(self) -> str:
        """Return what changes with any file that is served."""
        told = [
            f"{engine.id} {engine.artifact.path} {engine.artifact.passport.sha256}"
            for model in self.models.values()
            for engine in model.engines()
        ]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _file_of(entry: ServedModel, version: str) -> Artifact | None:
    """Return the file that a version is run from: of the API's engines the one that is open, if it is."""
    opened = entry.opened.get(version) if entry.main else None
    if opened is not None:
        return opened.artifact
    return entry.artifact if version == entry.default else entry.files.get(version)


def _pictures(artifact: Artifact) -> SamplePictures | str:
    try:
        return sample_pictures(artifact)
    except (CnnkitError, OSError) as error:
        return f"no test pictures: {error}"
