"""The contract of a backend file: `BACKEND`, a Backend; and Engine, an artifact ready to run."""

from __future__ import annotations

import contextlib
import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Artifact
from toolkit.catalog import Shelf
from toolkit.closing import Closable
from toolkit.errors import (
    CnnkitError,
    OutOfMemoryError,
    ShapeError,
    UnavailableError,
    is_out_of_memory,
    unknown_name,
)
from toolkit.figures import shape_text
from toolkit.opening import Selection
from toolkit.passports import Format, Precision
from toolkit.traces import PLAIN, Copies, ForeignFiles, ForeignTrace, NodeSpelling, Trace


@dataclass(frozen=True, kw_only=True)
class Availability:
    """What one backend can do on this machine; `why_not` and `how_to_get` are sentences."""

    available: bool
    version: str | None = None
    devices: tuple[str, ...] = ()
    why_not: str | None = None
    how_to_get: str | None = None


@dataclass(frozen=True, kw_only=True)
class Examination:
    """A closer look at a runtime: its parts, None for each that works, else why it does not; and problems.

    A problem is a sentence that says what clashes and what to type. `devices` are those that run here beside
    the ones of `Availability`, which had to be tried.
    """

    parts: Mapping[str, str | None] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BackendSetting:
    """One thing that a backend lets people choose when an artifact is opened, and what it may be.

    `tries` are the values beside the default with which some networks are faster; `costly` tells that
    opening with them takes long, as a compiler runs.
    """

    choices: tuple[str, ...]
    default: str
    help: str
    tries: tuple[str, ...] = ()
    costly: bool = False


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How an artifact is opened.

    `device` None is the backend's own, `threads` None the runtime's default on this machine. `yields`
    leaves the cores to others between two calls. `graph` is a serialized graph to run in the file's
    place; `feed` the values of inputs beside the first. `chosen` are the backend's own settings by name.
    """

    device: str | None = None
    threads: int | None = None
    model_file: Path | None = None
    yields: bool = False
    graph: bytes | None = None
    feed: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)


class Engine(Closable):
    """An artifact opened by a backend. Use as a context manager; `close` frees the device."""

    backend: ClassVar[str]

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        self.artifact = artifact
        self.options = options

    @abstractmethod
    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        """Run (N, C, H, W) input of the passport's dtype; return every output, logits first.

        Blocks until the answer is in host memory. Raises ShapeError when C, H or W differ.
        """

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the names of what `run` returns, as far as the runtime knows them; the logits' first."""
        return (self.artifact.passport.output.name,)

    @property
    def batch_sizes(self) -> tuple[int, int | None]:
        """Return the smallest and the largest batch that `run` takes; None where it has no end."""
        fixed = self.artifact.passport.input.shape[0]
        return (fixed, fixed) if fixed else (1, None)

    @property
    def device_name(self) -> str:
        """Return what the engine runs on, as far as it knows better than the option that opened it."""
        return self.options.device or "cpu"

    @property
    def arithmetic(self) -> Mapping[str, int]:
        """Count the layers that compute in each number format, as the runtime tells it; else empty."""
        return {}

    def logits(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Return the first output as (N, K) float32; K alone is the one row of a batch of one."""
        found = np.asarray(self.run(batch)[0], dtype=np.float32)
        return found[None] if found.ndim == 1 < found.size and len(batch) == 1 else found

    def bind(self, batch: NDArray[Any]) -> Callable[[], object]:
        """Return one call of this batch with nothing around it, for timing; blocks until it is done."""
        self.check(batch)
        return lambda: self.run(batch)

    def trace(self, batch: NDArray[Any], *, windows: int, runs: int) -> Trace:
        """Run `windows` × `runs` times under the runtime's profiler. Raises UnavailableError.

        Profiling slows an engine down, so end-to-end latency is taken from unprofiled runs.
        """
        raise UnavailableError(f"backend {self.backend!r} tells no time per layer; it lacks `trace`")

    def call_times(self, batch: NDArray[Any], *, runs: int) -> Copies | None:
        """Return what `runs` calls copied, as medians; None where nothing is copied or nobody tells."""
        return None

    def check(self, batch: NDArray[Any]) -> None:
        """Raise ShapeError unless the batch fits the passport's input and `batch_sizes`."""
        wanted = self.artifact.passport.input.shape
        fits = len(wanted) == batch.ndim and all(
            want is None or want == have for want, have in zip(wanted, batch.shape, strict=True)
        )
        if not fits or len(batch) == 0:
            takes, got = shape_text(wanted), shape_text(batch.shape)
            raise ShapeError(f"{self.artifact.passport.model} takes {takes}, got {got}")
        asked, (least, most) = len(batch), self.batch_sizes
        if asked < least or (most is not None and asked > most):
            sizes = f"{least} or more" if most is None else f"{least} to {most}"
            built = f"{self.artifact.path.name} was built for batches of {sizes}, got {asked}"
            raise ShapeError("; ".join(part for part in (built, self.wider(asked)) if part))

    def no_memory(self, batch: NDArray[Any]) -> OutOfMemoryError:
        """Return the error of a batch for which the device has no memory."""
        sizes = f"a batch of {len(batch)}"
        smaller = "; a smaller --batch needs less" if len(batch) > 1 else ""
        known = self.artifact.passport
        return OutOfMemoryError(
            f"{self.device_name} has no memory for {sizes} of {known.model} in {self.backend}{smaller}"
        )

    @contextlib.contextmanager
    def within_memory(self, batch: NDArray[Any]) -> Iterator[None]:
        """Run what needs memory for a batch inside the block. Raises OutOfMemoryError where it runs out."""
        try:
            yield
        except Exception as error:  # runtimes' own errors share no base class
            if not is_out_of_memory(error):
                raise
            raise self.no_memory(batch) from None

    def not_applied(self, batch: int) -> str | None:
        """Say which setting that was chosen does not apply to a batch of that size; None where all do."""
        return None

    def wider(self, asked: int) -> str:
        """Return what to type for one that takes batches of `asked`, too; empty where nobody knows."""
        return ""

    def close(self) -> None:  # most engines have nothing to free
        """Free what the engine holds; running it afterwards is an error."""


class Backend(ABC):
    """A runtime that opens artifacts of certain formats, and what all others need to know of it.

    `formats` names the exporter that makes each format that it opens, None for one that training makes.
    `device_words` are what `--device` takes for it, `:N` standing for a number. People see backends in
    `order`, those of one order by name. `platform` is its word in the Open Inference Protocol. `settings`
    are its own settings by name, `spelling` that of its executed nodes.
    `computes` are the precisions that it computes in files of another one, each with that one: bf16 of
    fp32. `foreign` says which files `read_foreign` knows, each with how to write it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    formats: ClassVar[Mapping[Format, str | None]]
    platform: ClassVar[str]
    device_words: ClassVar[tuple[str, ...]] = ("cpu",)
    default_device: ClassVar[str] = "cpu"
    order: ClassVar[int] = 100
    settings: ClassVar[Mapping[str, BackendSetting]] = {}
    computes: ClassVar[Mapping[Precision, Precision]] = {}
    foreign: ClassVar[tuple[str, ...]] = ()
    spelling: ClassVar[NodeSpelling] = PLAIN

    @abstractmethod
    def availability(self) -> Availability:
        """Look at this machine; never raises, never changes it."""

    @abstractmethod
    def open(self, artifact: Artifact, options: EngineOptions) -> Engine:
        """Open an artifact. Raises UnavailableError when the backend or device is not here."""

    def lacks(self, precision: Precision) -> str | None:
        """Return why it does not compute a precision on this machine, None where it does."""
        return None

    def installed(self) -> bool:
        """Tell, without importing the runtime where that takes long, whether it may run here."""
        return self.availability().available

    def release(self) -> str | None:
        """Return the runtime's release, imported only where that takes no time; None where it is not here."""
        return self.availability().version

    def import_runtime(self) -> None:  # noqa: B027  (not every runtime may be imported before a fork)
        """Import the runtime before anything is opened, and start no thread and no device."""

    @property
    def forks(self) -> bool:
        """Whether a process that has imported the runtime may fork others that open something."""
        return type(self).import_runtime is not Backend.import_runtime

    def examine(self) -> Examination:
        """Look closer than `availability` does, for `cnnkit doctor`; may take a second."""
        return Examination()

    def static(self, artifact: Artifact, graph: Path | None, *, batch: int) -> Trace | None:
        """Return what is known of an artifact's layers where it cannot run, without times; None if nothing.

        `graph` is the ONNX file that it is or was made from, None where that is not at hand.
        """
        return None

    def read_foreign(self, files: ForeignFiles) -> ForeignTrace | None:
        """Return what files tell of a run of this runtime elsewhere; None where they are none of its own.

        Raises CorruptError where they are, and damaged.
        """
        return None

    def opens(self, selection: Selection) -> Selection:
        """Return a selection of what this backend opens at its precision."""
        return replace(selection, formats=tuple(self.formats), computed=self.computes)

    @property
    def on_gpu(self) -> bool:
        """Whether it runs elsewhere than on the CPU where no device is named."""
        return self.default_device != "cpu"

    @property
    def tells_static(self) -> bool:
        """Whether something can be said of artifacts that cannot run here."""
        return type(self).static is not Backend.static

    def variants(self, artifact: Artifact, *, threads: int, batch: int) -> Iterator[Mapping[str, str]]:
        """Yield its own settings with which an artifact may be faster on so many threads, all defaults first.

        `cnnkit choose` measures each; values that are the default's are left out.
        """
        axes = [(name, (one.default, *one.tries)) for name, one in self.settings.items() if one.tries]
        for values in itertools.product(*(values for _, values in axes)):
            named = zip(axes, values, strict=True)
            yield {name: value for (name, choices), value in named if value != choices[0]}

    def device_for(self, options: EngineOptions) -> str:
        """Return the device that an artifact is opened on. Raises UnavailableError for a word of none."""
        device = options.device or self.default_device
        if not names_device(device, self.device_words):
            words = ", ".join(self.device_words)
            raise UnavailableError(f"no device {device!r} for {self.title}; possible: {words}")
        return device

    def setting(self, options: EngineOptions, name: str) -> str:
        """Return a setting of this backend as chosen, else its default. Raises NotFoundError."""
        known = self.settings[name]
        value = options.chosen.get(name, known.default)
        if value not in known.choices:
            raise unknown_name(f"{name} of {self.title}", value, known.choices)
        return value

    def require(self, *, instead: str | None = None) -> None:
        """Raise UnavailableError in words when this backend cannot run here."""
        state = self.availability()
        if not state.available:
            hint = instead or state.how_to_get or "`cnnkit doctor` says what is here"
            raise UnavailableError(f"backend {self.name!r} cannot run here: {state.why_not}; {hint}")


# opens what nobody named a backend for: exports answer without torch, and on every machine
DEFAULT_BACKEND = "ort"
# the word for every backend where several may be named
ALL = "all"

BACKENDS = Shelf("toolkit.backends", "BACKEND", Backend, "backend")


def backend_names() -> list[str]:
    """Return every backend's name in the order in which people see them."""
    return [found.name for found in sorted(BACKENDS.all(), key=lambda one: (one.order, one.name))]


def names_device(text: str, words: Iterable[str]) -> bool:
    """Tell whether a text names a device of words in which `:N` stands for a number: `cuda:1` of `cuda:N`."""
    if text.endswith(":N"):
        return False
    # the first of a kind that has no numbers may be told by one
    return re.sub(":[0-9]+$", ":N", text) in words or text.removesuffix(":0") in words


def device_words() -> list[str]:
    """Return every word that names a device to some backend, in the backends' order."""
    return list(dict.fromkeys(word for name in backend_names() for word in BACKENDS.load(name).device_words))


def openers(format: Format) -> list[Backend]:
    """Return the backends that open a format: the default one first, then in people's order."""
    able = [found for name in backend_names() if format in (found := BACKENDS.load(name)).formats]
    return sorted(able, key=lambda one: one.name != DEFAULT_BACKEND)


def opener(format: Format) -> Backend:
    """Return the first backend that opens a format. Raises CnnkitError where none does."""
    able = openers(format)
    if not able:
        raise CnnkitError(f"no backend here opens {format} files")
    return able[0]
