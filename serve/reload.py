"""Hot reload: a newer artifact of a served name takes over under running traffic."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from serve.api.metrics import Metrics
from serve.classifier import Classifier
from serve.versions import Model, Registry, Version, newer
from toolkit.artifacts import read_passport
from toolkit.errors import CnnkitError
from toolkit.opening import describe

EVERY_S = 2.0


def candidate(model: Model, precision: str, version: Version) -> Path | None:
    """Return the file that a version would be opened from now; None where what is served is no more here.

    Raises CnnkitError when the passport of the served file cannot be read any more.
    """
    served = version.classifier.artifact
    for found in model.entry.candidates():
        newer_or_same = found.path == served.path or found.passport.created > served.passport.created
        if found.passport.precision == precision and newer_or_same:
            return found.path
    read_passport(served.path)
    return None


class Reloader:
    """Looks for newer artifacts now and then; a bad one is said once and the old one goes on."""

    def __init__(self, registry: Registry, metrics: Metrics, say: Callable[[str], None]) -> None:
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
        for model in self.registry.models.values():
            with self._saying(model.name):
                await asyncio.to_thread(model.look)
            for precision, version in list(model.opened.items()):
                with self._saying(f"{model.name} {precision}"):
                    await self._take_up(model, precision, version)
        for entry in self.registry.others:  # else the page would show old and new weights side by side
            with self._saying(entry.label):
                await asyncio.to_thread(entry.follow)

    @contextlib.contextmanager
    def _saying(self, what: str) -> Iterator[None]:
        try:
            yield
            return
        except CnnkitError as error:
            why = str(error)
        except Exception as error:  # files vanish, and what opens may still fail when it is run first
            why = f"{what}: {type(error).__name__}: {error}"
        if why not in self._refused:
            self._refused.add(why)
            self.say(f"not reloaded: {why}")

    async def _take_up(self, model: Model, precision: str, version: Version) -> None:
        made = await asyncio.to_thread(self._open_newer, model, precision, version)
        if made is not None:
            version.replace(made)
            self.metrics.reloaded(model.name)
            self.say(f"reloaded {describe(made.artifact)}")

    def _open_newer(self, model: Model, precision: str, version: Version) -> Classifier | None:
        path = candidate(model, precision, version)
        artifact = newer(version, path) if path else None
        if artifact is None:
            return None
        old, new = version.classifier.artifact.passport, artifact.passport
        if (new.input, new.output.shape) != (old.input, old.output.shape):
            raise CnnkitError(f"{path} takes or gives other shapes than what is served; restart to serve it")
        if precision == model.default:
            return model.entry.replace(artifact)
        made = Classifier(artifact, model.entry.backend, model.entry.choice.options())
        made.warm_up()
        return made
