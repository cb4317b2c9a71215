"""The models behind the API: each with its versions, each version with its own queue.

A version is a precision of the model in the artifacts folder (`fp32`, `fp16`, `int8`); the one that
`cnnkit serve` was started with is the default and is opened before the server is ready, the others
when they are first asked for. Names from requests are looked up here and never reach the file system.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serve.api.tensors import Parser
from serve.batching import Batcher, Policy
from serve.classifier import Classifier
from serve.served import Entry
from serve.tally import Tally
from toolkit.artifacts import Artifact, open_artifact, read_passport
from toolkit.errors import CnnkitError

BatchHook = Callable[[str, int, float], None]
# what could not be opened is tried anew this much later: its file may be whole by then, a device free
RETRY_S = 30.0


@dataclass(kw_only=True)
class Version:
    """One opened artifact behind a queue; `replace` swaps the artifact under running traffic."""

    classifier: Classifier
    batcher: Batcher
    tally: Tally
    parser: Parser = field(init=False)

    def __post_init__(self) -> None:
        self._describe()

    def _describe(self) -> None:
        outputs = [spec.name for spec in self.classifier.outputs.values()]
        self.parser = Parser(self.classifier.artifact.passport.input, outputs)

    def replace(self, classifier: Classifier) -> None:
        """Answer later requests with another engine; whoever came to the old one is answered by it."""
        self.classifier = classifier
        self._describe()


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why a version's file could not be opened, and until when that is not tried again."""

    sha256: str
    why: str
    until: float


@dataclass(kw_only=True)
class Model:
    """A model that is served: its default version, and where its other versions lie."""

    entry: Entry
    policy: Policy
    on_batch: BatchHook
    default: str = ""
    files: dict[str, Artifact] = field(default_factory=dict)
    opened: dict[str, Version] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        """Return the name under which clients ask for it."""
        return self.entry.model

    @property
    def versions(self) -> list[str]:
        """Return every version's name, the default first."""
        return [self.default, *sorted(set(self.files) - {self.default})]

    def fault(self, name: str) -> Fault | None:
        """Return why the file that a version has now could not be opened; None when nothing is known."""
        fault, file = self.faults.get(name), self.files.get(name)
        return fault if fault and file and fault.sha256 == file.passport.sha256 else None

    def start(self) -> None:
        """Open and warm up the default version, and look which others there are. Raises CnnkitError."""
        classifier = self.entry.classifier()
        self.default = classifier.artifact.passport.precision
        self.opened[self.default] = self._version(classifier)
        self.look()

    def look(self) -> None:
        """List the newest file of each precision that this backend can open. Raises CnnkitError."""
        found: dict[str, Artifact] = {}
        for artifact in self.entry.candidates():
            if artifact.passport.preprocessing is not None:
                found.setdefault(artifact.passport.precision, artifact)
        self.files = found

    def _version(self, classifier: Classifier) -> Version:
        fixed = classifier.artifact.passport.input.shape[0]
        # a graph with a fixed batch takes exactly that many rows, so callers cannot share one
        policy = self.policy if fixed is None else dataclasses.replace(self.policy, max_batch=1)
        tally = Tally()

        def ran(rows: int, seconds: float) -> None:
            tally.ran(rows, seconds)
            self.on_batch(self.name, rows, seconds)

        return Version(classifier=classifier, batcher=Batcher(policy, on_batch=ran), tally=tally)

    async def version(self, name: str | None) -> Version | None:
        """Return a version, opened now if it was not yet; None for a name that there is not.

        Raises CnnkitError when it cannot be opened, and until RETRY_S later without a new try.
        """
        known = self.opened.get(name or self.default)
        if known is not None:
            return known
        async with self._opening:
            file = self.files.get(name or "")  # read once: a look may replace the list meanwhile
            if name is None or file is None or name in self.opened:
                return self.opened.get(name or self.default)
            fault = self.fault(name)
            if fault is not None and time.monotonic() < fault.until:
                raise CnnkitError(fault.why)
            try:
                classifier = await asyncio.to_thread(self._open, file.path)
            except CnnkitError as error:
                until = time.monotonic() + RETRY_S
                self.faults[name] = Fault(sha256=file.passport.sha256, why=str(error), until=until)
                raise
            self.faults.pop(name, None)
            self.opened[name] = self._version(classifier)
            return self.opened[name]

    def _open(self, path: Path) -> Classifier:
        classifier = Classifier(open_artifact(path), self.entry.backend, self.entry.choice.options())
        classifier.warm_up()
        return classifier

    async def close(self) -> None:
        """Answer everyone who waits, then end the queues and free the engines."""
        for version in list(self.opened.values()):
            await version.batcher.close()
            version.classifier.close()


class Registry:
    """Every served model by name, fixed at start."""

    def __init__(self, entries: Sequence[Entry], backend: str, policy: Policy, on_batch: BatchHook) -> None:
        """Serve the entries of `backend`; the others are the page's, which opens them when they are asked."""
        served = [entry for entry in entries if entry.backend == backend]
        self.others = [entry for entry in entries if entry.backend != backend]
        self.models = {e.model: Model(entry=e, policy=policy, on_batch=on_batch) for e in served}
        self.ready = False

    def start(self) -> None:
        """Open and warm up every default version. Raises CnnkitError."""
        for model in self.models.values():
            model.start()
        self.ready = True

    def default(self) -> Model:
        """Return the model that is meant where a request names none: the first."""
        return next(iter(self.models.values()))

    async def close(self) -> None:
        """Be not ready, answer everyone who waits, and free the engines."""
        self.ready = False
        for model in self.models.values():
            await model.close()
        for entry in self.others:
            entry.close()


def newer(version: Version, path: Path) -> Artifact | None:
    """Return the artifact at `path` when it is another than the one that is served.

    The passport is looked at first, because hashing a large file every other second is not free.
    Raises CnnkitError for a newer one that is damaged, or not whole yet.
    """
    if read_passport(path).sha256 == version.classifier.artifact.passport.sha256:
        return None
    return open_artifact(path)
