"""The contract of a backend file: `BACKEND`, a Backend; and Engine, an artifact ready to run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Artifact, Format
from toolkit.errors import ShapeError, UnavailableError


@dataclass(frozen=True, kw_only=True)
class Availability:
    """What one backend can do on this machine; `why_not` and `how_to_get` are sentences."""

    available: bool
    version: str | None = None
    devices: tuple[str, ...] = ()
    why_not: str | None = None
    how_to_get: str | None = None


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How an artifact is opened. `threads` None is the runtime's default on this machine."""

    device: str = "cpu"
    threads: int | None = None
    model_file: Path | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ExecutedNode:
    """One step that a runtime takes: a module's call, a kernel, a layer of an engine.

    `inputs` and `outputs` are tensor names. `modules` is filled where the runtime itself knows the
    modules (PyTorch); `origins` names the nodes of the source graph where the runtime says them
    (TensorRT's metadata). `moves_data` marks steps that only reorder, cast or copy. `read_bytes` and
    `written_bytes` are the activations that it reads and writes, in place or not. What the runtime does
    not tell is None.
    """

    name: str
    type: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    modules: tuple[str, ...] | None = None
    origins: tuple[str, ...] = ()
    moves_data: bool = False
    output_shape: tuple[int, ...] | None = None
    output_dtype: str | None = None
    output_bytes: int | None = None
    weights_bytes: int | None = None
    parameters: int | None = None
    macs: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What one profiled run saw: the nodes in the order of execution and the time of each.

    `node_ms` is (windows, nodes): the trimmed mean of a node's milliseconds in each window of runs;
    None where nothing was timed. `total_ms` is each window's end-to-end mean under the profiler, whose
    cost is in it. `memory` maps a name (`peak_activation_bytes` …) to bytes, or to None with a reason
    in `unknown`.
    """

    nodes: tuple[ExecutedNode, ...]
    node_ms: NDArray[np.float64] | None = None
    total_ms: tuple[float, ...] = ()
    runs: int = 0
    memory: Mapping[str, int | None] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)


class Copies(Protocol):
    """What one call copies between the host's memory and the device's, in milliseconds."""

    @property
    def upload_ms(self) -> float:
        """From the host to the device."""

    @property
    def download_ms(self) -> float:
        """From the device to the host."""


def trimmed_mean(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the last axis without its lowest and highest tenth.

    A median of whole microseconds is coarse, and a plain mean holds every pre-emption of a shared
    machine; this has neither fault.
    """
    ordered = np.sort(samples, axis=-1)
    drop = ordered.shape[-1] // 10
    kept = ordered[..., drop : ordered.shape[-1] - drop]
    means: NDArray[np.float64] = kept.mean(axis=-1)
    return means


class Engine(ABC):
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
        return self.options.device

    def logits(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Return the first output as (N, K) float32."""
        return np.asarray(self.run(batch)[0], dtype=np.float32)

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
        """Raise ShapeError unless the batch fits the passport's input."""
        wanted = self.artifact.passport.input.shape
        fits = len(wanted) == batch.ndim and all(
            want is None or want == have for want, have in zip(wanted, batch.shape, strict=True)
        )
        if not fits or len(batch) == 0:
            shape = "×".join("N" if n is None else str(n) for n in wanted)
            raise ShapeError(
                f"{self.artifact.passport.model} takes {shape}, got {'×'.join(map(str, batch.shape))}"
            )

    def close(self) -> None:  # noqa: B027  (most engines have nothing to free)
        """Free what the engine holds; running it afterwards is an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Backend(ABC):
    """A runtime that opens artifacts of certain formats."""

    name: ClassVar[str]
    formats: ClassVar[tuple[Format, ...]]
    summary: ClassVar[str]

    @abstractmethod
    def availability(self) -> Availability:
        """Look at this machine; never raises, never changes it."""

    @abstractmethod
    def open(self, artifact: Artifact, options: EngineOptions) -> Engine:
        """Open an artifact. Raises UnavailableError when the backend or device is not here."""

    def require(self, *, instead: str | None = None) -> None:
        """Raise UnavailableError in words when this backend cannot run here."""
        state = self.availability()
        if not state.available:
            hint = instead or state.how_to_get or "`cnnkit doctor` says what is here"
            raise UnavailableError(f"backend {self.name!r} cannot run here: {state.why_not}; {hint}")
