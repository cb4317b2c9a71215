"""Hot reload: a newer artifact of a served name takes over under running traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from serve.api.metrics import Metrics
from serve.classifier import Classifier
from serve.models import Model, Registry, Version, newer
from toolkit import catalog
from toolkit.artifacts import find_artifacts
from toolkit.errors import CnnkitError
from toolkit.opening import describe

EVERY_S = 2.0


def candidate(model: Model, precision: str, version: Version) -> Path:
    """Return the file that a version would be opened from now."""
    served = version.classifier.artifact
    formats = catalog.backend(model.entry.backend).formats
    for path, passport in find_artifacts(model.entry.choice.root, model.name):
        trained = passport.trained is not False or served.passport.trained is False
        if passport.format in formats and passport.precision == precision and trained:
            # an artifact named by its path stays that file
            return path if passport.created > served.passport.created else served.path
    return served.path


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
            for model in self.registry.models.values():
                await asyncio.to_thread(model.look)
                for precision, version in list(model.opened.items()):
                    await self._look(model, precision, version)

    async def _look(self, model: Model, precision: str, version: Version) -> None:
        try:
            made = await asyncio.to_thread(self._open_newer, model, precision, version)
        except CnnkitError as error:
            if str(error) not in self._refused:
                self._refused.add(str(error))
                self.say(f"not reloaded: {error}")
            return
        if made is not None:
            version.replace(made)
            self.metrics.reloaded(model.name)
            self.say(f"reloaded {describe(made.artifact)}")

    def _open_newer(self, model: Model, precision: str, version: Version) -> Classifier | None:
        path = candidate(model, precision, version)
        artifact = newer(version, path)
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
