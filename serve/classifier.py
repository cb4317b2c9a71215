"""A picture in, labels out: an opened artifact with its passport's preprocessing. No Gradio, no HTTP.

With ONNX Runtime this needs neither torch nor a data set: the passport carries classes and scaling.
"""

from __future__ import annotations

import functools
import threading
import time
import weakref
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.settings import Limits
from toolkit.answering import (
    Invert,
    Picture,
    filled,
    inputs_of_fitted,
    preprocessing_of,
    probabilities,
    read_picture,
)
from toolkit.artifacts import Artifact
from toolkit.backends import BACKENDS, Engine, EngineOptions
from toolkit.errors import CnnkitError, CorruptError, ImageError
from toolkit.images import PictureSource
from toolkit.passports import TensorSpec
from toolkit.probabilities import top_classes


@dataclass(frozen=True, kw_only=True)
class PreparedPicture(Picture):
    """A picture ready for a network: `rows` (1, C, H, W) of its input's dtype; uint8 graphs scale inside."""

    rows: NDArray[Any]
    preprocess_ms: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the network says of one picture, likeliest first, and where the time went."""

    top: tuple[tuple[str, float], ...]
    prepared: PreparedPicture
    infer_ms: float


class Classifier:
    """An artifact opened by a backend. Calls may come from several threads; the engine takes one at a time.

    Callers bring any number of rows up to `most_rows` (None: no bound). An engine that takes no fewer than so
    many is given the last row as often as one is missing, and its answers to that are dropped.

    `close` frees the engine; so does whoever lets go of the classifier last, which after a reload is the
    last of those who came to it.
    """

    def __init__(
        self,
        artifact: Artifact,
        backend: str,
        options: EngineOptions | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Open the artifact. Raises CnnkitError when the backend, device or preprocessing is missing."""
        self.artifact = artifact
        self.limits = limits or Limits()
        self.backend = backend
        self.preprocessing = preprocessing_of(artifact)
        self.classes = artifact.passport.classes
        self.engine = BACKENDS.load(backend).open(artifact, options or EngineOptions())
        self.input = any_batch(artifact.passport.input)
        self._least_rows, self.most_rows = self.engine.batch_sizes
        # the queue and the page call at once, and an engine may have one set of buffers (TensorRT's have)
        self._lock = threading.Lock()
        self._free = weakref.finalize(self, _close, self.engine, self._lock)

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        """Run (N, C, H, W) of the passport's dtype; return every output.

        Raises ShapeError, or CnnkitError after `close`.
        """
        with self._lock:
            return self._run(batch)

    def _run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        if not self._free.alive:
            raise CnnkitError(f"{self.artifact.name} was closed: it is served no more")
        least, asked = self._least_rows, len(batch)
        if asked >= least or not asked:
            return self.engine.run(batch)
        return [
            array[:asked] if array.shape[:1] == (least,) else array
            for array in self.engine.run(filled(batch, least))
        ]

    @functools.cached_property
    def outputs(self) -> dict[int, TensorSpec]:
        """Return what can be asked for by its place in `run`'s list: outputs with a row for each picture."""
        found = {0: any_batch(self.artifact.passport.output)}
        names = self.engine.output_names
        if len(names) > 1:
            counts = (1,) if self.most_rows == 1 else (1, 2)
            tried = [(count, self._run_zeros(count)) for count in counts]
            for at, name in enumerate(names[1:], 1):
                first = tried[0][1][at]
                if first.dtype.kind in "fiub" and all(
                    answers[at].shape[:1] == (count,) for count, answers in tried
                ):
                    found[at] = TensorSpec(name=name, shape=(None, *first.shape[1:]), dtype=str(first.dtype))
        return found

    def prepare(self, picture: PictureSource, *, invert: Invert = "auto") -> PreparedPicture:
        """Decode a picture under limits and bring it to the network's input. Raises ImageError."""
        start = time.perf_counter()
        read = read_picture(
            picture,
            self.preprocessing,
            invert,
            max_pixels=self.limits.max_pixels,
            max_bytes=self.limits.max_bytes,
        )
        rows = inputs_of_fitted(read.pixels[None], self.artifact.passport)[:1]
        spent_ms = (time.perf_counter() - start) * 1e3
        return PreparedPicture(**vars(read), rows=rows, preprocess_ms=spent_ms - read.decode_ms)

    def probabilities(self, answers: NDArray[Any]) -> NDArray[np.float64]:
        """Return (N, K) probabilities of what the engine answered. Raises ImageError for NaN or infinity.

        Answers are logits, unless the artifact was exported with its softmax inside.
        """
        try:
            return probabilities(self.artifact, np.asarray(answers, dtype=np.float32))
        except CorruptError:
            raise ImageError(f"{self.artifact.name} has no finite answer to this picture") from None

    def timed_run(self, batch: NDArray[Any]) -> tuple[list[NDArray[Any]], float]:
        """Run as `run` does; return the outputs, and the engine's own milliseconds."""
        with self._lock:
            start = time.perf_counter()  # the wait for other callers is none of the engine's time
            answers = self._run(batch)
            return answers, (time.perf_counter() - start) * 1e3

    def classify(self, picture: PictureSource, *, top: int = 3, invert: Invert = "auto") -> Answer:
        """Classify one picture. Raises ImageError."""
        prepared = self.prepare(picture, invert=invert)
        answers, infer_ms = self.timed_run(prepared.rows)
        row = self.probabilities(answers[0])[0]
        return Answer(top=tuple(top_classes(row, self.classes, top)), prepared=prepared, infer_ms=infer_ms)

    def warm_up(self) -> None:
        """Run zeros once, so that the first caller does not pay for it."""
        self._run_zeros(1)
        self.outputs  # noqa: B018  (the outputs are looked at now, because that may run the engine)

    def _run_zeros(self, batch: int) -> list[NDArray[Any]]:
        shape = (batch, *(n or 1 for n in self.input.shape[1:]))
        return self.run(np.zeros(shape, dtype=self.input.dtype))

    def close(self) -> None:
        """Free what the engine holds once it has answered whom it is answering; twice is harmless."""
        self._free()


def any_batch(spec: TensorSpec) -> TensorSpec:
    """Return what callers see of an input or output: a batch of any size, whatever the engine's own is."""
    return replace(spec, shape=(None, *spec.shape[1:]))


def _close(engine: Engine, lock: threading.Lock) -> None:
    with lock:
        engine.close()
