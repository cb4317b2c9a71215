"""Hot reload: a newer artifact of a served name takes over under running traffic."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from serve.api.metrics import ServerMetrics
from serve.classifier import Classifier
from serve.registry import Registry
from serve.served import ServedModel
from toolkit.artifacts import Artifact, read_passport
from toolkit.errors import CnnkitError
from toolkit.opening import describe

EVERY_S = 2.0


def newer(model: ServedModel, version: str) -> Artifact | None:
    """Return what an opened version would be opened from now, where that is another file than is served.

    Raises CnnkitError for a newer artifact that is damaged, or not whole yet, and when the passport of the
    served one cannot be read any more.
    """
    served = model.opened[version].artifact
    for found in model.candidates():
        later = (found.passport.created or "") > (served.passport.created or "")
        if found.passport.precision == version and (later or found.path == served.path):
            # the passports are compared first, because hashing a large file every other second is not free
            same = found.passport.sha256 == served.passport.sha256
            return None if same else model.reopened(found)
    read_passport(served.path)
    return None


def open_newer(model: ServedModel, version: str) -> Classifier | None:
    """Return what is to take over from an opened version, warmed up; None where nothing newer is there.

    Raises CnnkitError for an artifact that must not, or cannot.
    """
    artifact = newer(model, version)
    if artifact is None:
        return None
    old, new = model.opened[version].artifact.passport, artifact.passport
    if (new.input, new.output.shape) != (old.input, old.output.shape):
        raise CnnkitError(
            f"{artifact.path} takes or gives other shapes than what is served; restart to serve it"
        )
    return model.open(artifact)


@dataclass(frozen=True, kw_only=True)
class Newer:
    """What is to take over from an opened version, warmed up."""

    model: ServedModel
    version: str
    classifier: Classifier


class Reloader:
    """Looks for newer artifacts now and then; a bad one is said once and the old one goes on."""

    def __init__(self, registry: Registry, metrics: ServerMetrics, say: Callable[[str], None]) -> None:
        self.registry = registry
        self.metrics = metrics
        self.say = say
        self._refused: set[str] = set()

    async def run(self, every_s: float = EVERY_S) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            await self.look()

    async def look(self) -> None:
        """Look at every model once; what goes wrong is said, and ends neither this look nor the next."""
        for newer in await self.find():
            self.take_up(newer)

    async def find(self) -> list[Newer]:
        """Return what is to take over, opened, and have the page's other models follow."""
        found: list[Newer] = []
        for model in list(self.registry.models.values()):
            with self._saying(model.name):
                await asyncio.to_thread(model.look)
            for version in list(model.opened):
                with self._saying(f"{model.name} {version}"):
                    made = await asyncio.to_thread(open_newer, model, version)
                    found += [Newer(model=model, version=version, classifier=made)] if made else []
        for model in self.registry.others:  # else the page would show old and new weights side by side
            with self._saying(model.label):
                await asyncio.to_thread(model.follow)
        return found

    def take_up(self, newer: Newer, *, counts: bool = True) -> None:
        """Answer with what was found; it is counted once, however many processes do so."""
        newer.model.replace(newer.version, newer.classifier)
        if counts:
            self.metrics.reloaded(newer.model.name)
            self.say(f"reloaded {describe(newer.classifier.artifact)}")

    @contextlib.contextmanager
    def _saying(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # files vanish, and an engine that opens may still fail in its first run
            why = str(error) if isinstance(error, CnnkitError) else f"{what}: {type(error).__name__}: {error}"
            if why not in self._refused:
                self._refused.add(why)
                self.say(f"not reloaded: {why}")
