"""The models behind the API, and the queue before each of their versions.

The version that `cnnkit serve` was started with is the default and is opened before the server is ready,
the others when they are first asked for. Names from requests are looked up here and never reach the file
system.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from serve.batching import Batcher
from serve.classifier import Classifier
from serve.served import ServedModel
from serve.settings import BatchingSettings
from serve.tally import ModelStatistics
from toolkit.errors import NotFoundError


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Who waits for a version's engine, and how often it was asked; neither ends with a reload.

    A request's rows run `most_rows` at a time. `made_for` is the engine whose limits these are.
    """

    batcher: Batcher
    tally: ModelStatistics
    most_rows: int
    made_for: weakref.ref[Classifier]


class Version(NamedTuple):
    """One opened version as a request finds it; a reload meanwhile changes nothing of it."""

    model: ServedModel
    classifier: Classifier
    queue: Queue


class Registry:
    """Every served model by name, and the queues by model and version; used on one event loop."""

    def __init__(
        self,
        served: Sequence[ServedModel],
        batching: BatchingSettings,
        on_batch: Callable[[str, str, int, float], None],
    ) -> None:
        """Serve the main models; the others are the page's, which opens them when they are asked.

        `on_batch` is told of each batch's model, version, rows and seconds.
        """
        self.models = {model.name: model for model in served if model.main}
        self.others = [model for model in served if not model.main]
        self.batching = batching
        self.queues: dict[tuple[str, str], Queue] = {}
        self.unloaded: set[str] = set()
        self.ready = False
        self._on_batch = on_batch
        self._openings: dict[tuple[str, str], asyncio.Future[Classifier]] = {}

    def start(self) -> None:
        """Open and warm up every default version, and look which others there are. Raises CnnkitError."""
        for model in self.models.values():
            model.classifier()
            model.look()
        self.ready = True

    def default(self) -> ServedModel | None:
        """Return the model that is meant where a request names none: the first; None where none is left."""
        return next(iter(self.models.values()), None)

    def take_up(self, model: ServedModel) -> None:
        """Serve an opened model, in the place of one of its name; its queues stay, and who waits in them."""
        self.models[model.name] = model
        self.unloaded.discard(model.name)

    async def give_up(self, name: str) -> None:
        """Serve a model no more, and answer whoever waits for it first. Raises NotFoundError.

        Who came before and whose rows are not queued yet is answered by it, too: engine and queue go with the
        last of them.
        """
        if name not in self.models:
            raise NotFoundError(f"no model {name[:80]!r}; served: {', '.join(self.models)}")
        del self.models[name]
        self.unloaded.add(name)
        for queue in [self.queues.pop(key) for key in list(self.queues) if key[0] == name]:
            await queue.batcher.emptied()

    def opened(self, model: ServedModel, version: str | None) -> Version | None:
        """Return a version, the default for None; None where it is not opened yet."""
        name = version or model.default
        classifier = model.opened.get(name)
        return self._version(model, name, classifier) if classifier else None

    async def open(self, model: ServedModel, version: str) -> Version:
        """Return a version, opened now in a thread. Raises CnnkitError when it cannot be.

        Callers of one version share an opening, which goes on when one of them gives up.
        """
        key = (model.name, version)
        opening = self._openings.get(key)
        if opening is None:
            opening = asyncio.ensure_future(asyncio.to_thread(model.classifier, version))
            self._openings[key] = opening
            opening.add_done_callback(lambda done: self._ended(key, done))
        return self._version(model, version, await asyncio.shield(opening))

    def _ended(self, key: tuple[str, str], opening: asyncio.Future[Classifier]) -> None:
        del self._openings[key]
        if not opening.cancelled():
            opening.exception()  # an error is seen, where nobody waits for the version any more

    def _version(self, model: ServedModel, name: str, classifier: Classifier) -> Version:
        queue = self.queues.get((model.name, name))
        if queue is None or queue.made_for() is not classifier:
            queue = self.queues[model.name, name] = self._queue(model, name, classifier, queue)
        return Version(model, classifier, queue)

    def _queue(
        self, served: ServedModel, version: str, classifier: Classifier, before: Queue | None
    ) -> Queue:
        model, own = served.name, version == served.default
        limits = (self.batching.max_batch, classifier.most_rows, served.most_batch if own else None)
        together = min(limit for limit in limits if limit is not None)
        curve = served.curve if own else ()
        settings = replace(self.batching, max_batch=together, curve=curve)
        made_for = weakref.ref(classifier)
        if before is not None and before.batcher.settings == settings:
            return replace(before, made_for=made_for)
        tally = before.tally if before else ModelStatistics.none_yet(model, version)

        def ran(rows: int, seconds: float) -> None:
            tally.ran(rows, seconds)
            self._on_batch(model, version, rows, seconds)

        # who waits for an engine of other limits is answered by the former batcher, which goes with the last
        batcher = Batcher(settings, on_batch=ran)
        return Queue(batcher=batcher, tally=tally, most_rows=together, made_for=made_for)

    async def close(self) -> None:
        """Be not ready, answer everyone who waits, and free the engines."""
        self.ready = False
        for queue in self.queues.values():
            await queue.batcher.close()
        for model in (*self.models.values(), *self.others):
            model.close()
