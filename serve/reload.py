"""Hot reload: a newer artifact of a served name, or a newer choice, takes over under running traffic."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from serve.api.metrics import ServerMetrics
from serve.classifier import Classifier, any_batch
from serve.lineup import rechosen
from serve.registry import Registry
from serve.served import ServedModel
from toolkit.artifacts import Artifact, read_passport, sidecar
from toolkit.errors import CnnkitError, OutOfMemoryError
from toolkit.opening import describe
from toolkit.telling import Tell

EVERY_S = 2.0
# what the system or a device is short of now it may have later
SHORT = (OSError, MemoryError, OutOfMemoryError)


def newer(model: ServedModel, version: str) -> Artifact | None:
    """Return what an opened version would be opened from now, where that is another file than is served.

    No file is hashed. Raises CnnkitError when the passport of the served one cannot be read any more.
    """
    served = model.opened[version].artifact
    for found in model.candidates():
        later = (found.passport.created or "") > (served.passport.created or "")
        if found.passport.precision == version and (later or found.path == served.path):
            # the passports are compared first, because hashing a large file every other second is not free
            same = found.passport.sha256 == served.passport.sha256
            return None if same else found
    read_passport(served.path)
    return None


def open_newer(model: ServedModel, version: str) -> Classifier | None:
    """Return what is to take over from an opened version, warmed up; None where nothing newer is there.

    Raises CnnkitError for an artifact that must not, or cannot; it is tried again once its file changes.
    """
    found = newer(model, version)
    if found is None:
        return None
    mark = _mark(found)
    if mark == model.refused.get(version):
        return None
    try:
        _check_alike(model.opened[version].artifact, found)
        return model.open(model.reopened(found))
    except SHORT:
        raise
    except Exception:
        model.refused[version] = mark
        raise


def _mark(artifact: Artifact) -> tuple[int, ...]:
    """Return what tells that an artifact is another one, without a look into its file."""
    stats = [path.stat() for path in (artifact.path, sidecar(artifact.path))]
    return tuple(figure for stat in stats for figure in (stat.st_mtime_ns, stat.st_size))


def _check_alike(served: Artifact, artifact: Artifact) -> None:
    old, new = served.passport, artifact.passport
    # how many rows the engine takes at once is no caller's concern
    if any_batch(new.input) != any_batch(old.input) or new.output.shape[1:] != old.output.shape[1:]:
        raise CnnkitError(
            f"{artifact.path} takes or gives other shapes than what is served; restart to serve it"
        )


def open_rechosen(model: ServedModel, tell: Tell) -> Newer | None:
    """Return a model as it was chosen since, or as usual where its choice does not hold any more, warmed up.

    None where nothing new was chosen, or where that does not hold (told).

    Raises CnnkitError where the choice cannot be read, or what was chosen must not or cannot take over.
    """
    made = rechosen(model, tell)
    if made is None or made.artifact is None:
        return None
    served = model.opened.get(model.default)
    try:
        if served is not None:
            _check_alike(served.artifact, made.artifact)
        classifier = made.classifier()
    except SHORT:
        raise
    except CnnkitError:
        model.looked_at = made.choice or model.looked_at  # it is not opened again and again
        raise
    made.look()
    return Newer(model=made, version=made.default, classifier=classifier, chosen=True)


@dataclass(frozen=True, kw_only=True)
class Newer:
    """What is to take over from an opened version, warmed up; one that was `chosen` from the whole model."""

    model: ServedModel
    version: str
    classifier: Classifier
    chosen: bool = False


class Reloader:
    """Looks for newer artifacts now and then; a bad one is said once and the old one goes on."""

    def __init__(self, registry: Registry, metrics: ServerMetrics, say: Callable[[str], None]) -> None:
        self.registry = registry
        self.metrics = metrics
        self.say = say
        self._said: set[str] = set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
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
            if chosen := await self._rechosen(model):
                found.append(chosen)
                continue
            # a choice is of one file: another one of that name and precision was not chosen
            for version in [one for one in model.opened if not (model.choice and one == model.default)]:
                with self._saying(f"{model.name} {version}"):
                    made = await asyncio.to_thread(open_newer, model, version)
                    found += [Newer(model=model, version=version, classifier=made)] if made else []
        for model in self.registry.others:  # else the page would show old and new weights side by side
            with self._saying(model.label):
                await asyncio.to_thread(model.follow)
        return found

    async def _rechosen(self, model: ServedModel) -> Newer | None:
        told: list[str] = []
        found = None
        with self._saying(model.name):
            found = await asyncio.to_thread(open_rechosen, model, told.append)
        for text in told:
            self._once(text)
        return found

    def take_up(self, newer: Newer, *, counts: bool = True) -> None:
        """Answer with what was found; it is counted once, however many processes do so."""
        name = newer.model.name
        if not newer.chosen:
            newer.model.replace(newer.version, newer.classifier)
        elif name in self.registry.models:  # it may have been unloaded since
            self.registry.take_up(newer.model)
        if counts:
            self.metrics.reloaded(name)
            what = newer.model.said if newer.chosen else describe(newer.classifier.artifact)
            self.say(f"reloaded {what}")

    @contextlib.contextmanager
    def _saying(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # files vanish, and an engine that opens may still fail in its first run
            why = str(error) if isinstance(error, CnnkitError) else f"{what}: {type(error).__name__}: {error}"
            self._once(f"not reloaded: {why}")

    def _once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.say(text)
