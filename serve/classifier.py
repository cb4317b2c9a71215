"""A picture in, labels out: an opened artifact with its passport's preprocessing. No Gradio, no HTTP.

With ONNX Runtime this needs neither torch nor a data set: the passport carries classes and scaling.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve.settings import DEFAULT_LIMITS, Limits
from toolkit.answering import preprocessing_of, probabilities
from toolkit.artifacts import Artifact
from toolkit.backends import BACKENDS, Engine, EngineOptions
from toolkit.errors import CnnkitError, ImageError
from toolkit.images import (
    Floats,
    Pixels,
    Preprocessing,
    fit_pixels,
    ground_differs,
    normalise,
    read_image,
    top_classes,
)
from toolkit.passports import TensorSpec

# Whether a picture is inverted before the network sees it; `auto`: when its ground is not what training saw.
Invert = Literal["auto", "always", "never"]


@dataclass(frozen=True, kw_only=True)
class PreparedPicture:
    """A picture ready for the network: `pixels` (C, H, W) uint8 as it sees them, `tensor` (C, H, W)."""

    pixels: Pixels
    tensor: Floats
    inverted: bool
    decode_ms: float
    preprocess_ms: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the network says of one picture, likeliest first, and where the time went."""

    top: tuple[tuple[str, float], ...]
    prepared: PreparedPicture
    infer_ms: float
    backend: str
    sha256: str


def prepare(
    source: bytes | Image.Image,
    preprocessing: Preprocessing,
    *,
    invert: Invert = "auto",
    limits: Limits = DEFAULT_LIMITS,
    name: str | None = None,
) -> PreparedPicture:
    """Decode a picture under limits and bring it to the network's input. Raises ImageError."""
    start = time.perf_counter()
    if isinstance(source, bytes):
        source = read_image(source, name=name, max_pixels=limits.max_pixels, max_bytes=limits.max_bytes)
    decoded = time.perf_counter()
    inverted = invert == "always" or (invert == "auto" and ground_differs(source, preprocessing))
    pixels = fit_pixels(source, preprocessing, invert=inverted)
    tensor = normalise(pixels, preprocessing)
    return PreparedPicture(
        pixels=pixels,
        tensor=tensor,
        inverted=inverted,
        decode_ms=(decoded - start) * 1e3,
        preprocess_ms=(time.perf_counter() - decoded) * 1e3,
    )


class Classifier:
    """An artifact opened by a backend. Calls may come from several threads; the engine takes one at a time.

    `close` frees the engine; so does whoever lets go of the classifier last, which after a reload is the
    last of those who came to it.
    """

    def __init__(self, artifact: Artifact, backend: str, options: EngineOptions | None = None) -> None:
        """Open the artifact. Raises CnnkitError when the backend, device or preprocessing is missing."""
        self.artifact = artifact
        self.backend = backend
        self.preprocessing = preprocessing_of(artifact)
        self.classes = artifact.passport.classes
        self.input_dtype = np.dtype(artifact.passport.input.dtype)
        self.engine = BACKENDS.load(backend).open(artifact, options or EngineOptions())
        # the queue and the page call at once, and an engine may have one set of buffers (TensorRT's have)
        self._lock = threading.Lock()
        self._free = weakref.finalize(self, _close, self.engine, self._lock)

    @property
    def name(self) -> str:
        """Return the artifact's name, under which it is served."""
        return self.artifact.name

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        """Run (N, C, H, W) of the passport's dtype; return every output.

        Raises ShapeError, or CnnkitError after `close`.
        """
        with self._alone() as engine:
            return engine.run(batch)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[Engine]:
        with self._lock:
            if not self._free.alive:
                raise CnnkitError(f"{self.name} was closed: it is served no more")
            yield self.engine

    @functools.cached_property
    def outputs(self) -> dict[int, TensorSpec]:
        """Return what can be asked for by its place in `run`'s list: outputs with a row for each picture."""
        passport = self.artifact.passport
        found = {0: passport.output}
        names = self.engine.output_names
        if len(names) > 1:
            fixed = passport.input.shape[0]
            counts = (fixed,) if fixed else (1, 2)
            tried = [(count, self._run_zeros(count)) for count in counts]
            for at, name in enumerate(names[1:], 1):
                first = tried[0][1][at]
                told = first.dtype.kind in "fiub"
                if told and all(answers[at].shape[:1] == (count,) for count, answers in tried):
                    shape = (fixed, *first.shape[1:])
                    found[at] = TensorSpec(name=name, shape=shape, dtype=str(first.dtype))
        return found

    def rows(self, prepared: PreparedPicture) -> NDArray[Any]:
        """Return a prepared picture as (1, C, H, W) of the input's dtype; uint8 graphs scale inside."""
        if self.input_dtype == np.uint8:
            return prepared.pixels[None]
        return prepared.tensor[None].astype(self.input_dtype, copy=False)

    def probabilities(self, answers: NDArray[Any]) -> NDArray[np.float64]:
        """Return (N, K) probabilities of what the engine answered. Raises ImageError for NaN or infinity.

        Answers are logits, unless the artifact was exported with its softmax inside.
        """
        answers = np.asarray(answers, dtype=np.float32)
        if not np.isfinite(answers).all():
            raise ImageError(f"{self.name} has no finite answer to this picture")
        return probabilities(self.artifact, answers)

    def classify(
        self,
        source: bytes | Image.Image,
        *,
        top: int = 3,
        invert: Invert = "auto",
        limits: Limits = DEFAULT_LIMITS,
    ) -> Answer:
        """Classify one picture, decoded or not. Raises ImageError."""
        prepared = prepare(source, self.preprocessing, invert=invert, limits=limits)
        rows = self.rows(prepared)
        with self._alone() as engine:
            start = time.perf_counter()  # the wait for other callers is none of the engine's time
            answers = engine.run(rows)
            infer_ms = (time.perf_counter() - start) * 1e3
        row = self.probabilities(answers[0])[0]
        return Answer(
            top=tuple(top_classes(row, self.classes, top)),
            prepared=prepared,
            infer_ms=infer_ms,
            backend=self.backend,
            sha256=self.artifact.passport.sha256,
        )

    def warm_up(self) -> None:
        """Run zeros once, so that the first caller does not pay for it."""
        self._run_zeros(1)
        self.outputs  # noqa: B018  (the outputs are looked at now, because that may run the engine)

    def _run_zeros(self, batch: int) -> list[NDArray[Any]]:
        count, *rest = self.artifact.passport.input.shape
        shape = (count or batch, *(n or 1 for n in rest))
        return self.run(np.zeros(shape, dtype=self.input_dtype))

    def close(self) -> None:
        """Free what the engine holds once it has answered whom it is answering; twice is harmless."""
        self._free()


def _close(engine: Engine, lock: threading.Lock) -> None:
    with lock:
        engine.close()
