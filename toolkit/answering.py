"""Pictures → batches that an engine takes → answers → probabilities: the one way that all of cnnkit goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Artifact
from toolkit.backends import Engine
from toolkit.datasets import Dataset, Split, dataset_of, dataset_words
from toolkit.errors import CnnkitError, CorruptError, ShapeError
from toolkit.images import MAX_BYTES, MAX_PIXELS, Floats, Inputs, PictureSource, Pixels, open_picture, softmax
from toolkit.passports import Passport
from toolkit.preprocessing import Preprocessing, fit_batch, fit_pixels, ground_differs, normalise

BATCH = 32

Invert = Literal["auto", "yes", "no"]


@dataclass(frozen=True)
class PictureInputs:
    """What pictures (N, C, h, w) uint8 are to a network, made slice by slice.

    A thousand pictures of 224×224 are 50 MB; as floats, all at once, they would be 200. A network whose
    graph holds the preprocessing gets the pixels at its size as they are.
    """

    images: Pixels
    preprocessing: Preprocessing
    dtype: str = "float32"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        pixels = fit_batch(self.images[part], self.preprocessing)
        if self.dtype == "uint8":
            return pixels
        return normalise(pixels, self.preprocessing).astype(self.dtype, copy=False)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as the network sees it: `pixels` (C, H, W) uint8, whether inverted, how long decoded."""

    pixels: Pixels
    inverted: bool
    decode_ms: float


def preprocessing_of(artifact: Artifact) -> Preprocessing:
    """Return how pictures become an artifact's input. Raises CnnkitError where its passport does not say."""
    found = artifact.passport.preprocessing
    if found is None:
        raise CnnkitError(
            f"{artifact.path} does not say how pictures become its input (no preprocessing in its "
            "passport); export it from a checkpoint of cnnkit"
        )
    return found


def inputs_of(pixels: Pixels, artifact: Artifact) -> PictureInputs:
    """Return (N, C, h, w) uint8 pictures as an artifact's input. Raises CnnkitError without preprocessing."""
    preprocessing_of(artifact)
    return inputs_for(pixels, artifact.passport)


def inputs_for(pixels: Pixels, passport: Passport) -> PictureInputs:
    """Return (N, C, h, w) uint8 pictures as the input of a network whose preprocessing is known."""
    assert passport.preprocessing is not None
    return PictureInputs(pixels, passport.preprocessing, passport.input.dtype)


def read_picture(
    source: PictureSource,
    preprocessing: Preprocessing,
    invert: Invert = "auto",
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> Picture:
    """Read a picture for the network; `name` is what errors call it. Raises ImageError in one line.

    `auto` inverts a picture whose ground is not the one that the network learned on.
    """
    name = name or (str(source) if isinstance(source, Path) else "the picture")
    start = time.perf_counter()
    image = open_picture(source, name=name, max_pixels=max_pixels, max_bytes=max_bytes)
    decode_ms = (time.perf_counter() - start) * 1e3
    turned = invert == "yes" or (invert == "auto" and ground_differs(image, preprocessing))
    pixels = fit_pixels(image, preprocessing, invert=turned)
    return Picture(pixels=pixels, inverted=turned, decode_ms=decode_ms)


def load_for(
    passport: Passport, name: str | None, data_dir: Path | None, *, fallback: str | None = None
) -> Dataset:
    """Load the data set of that name, else a passport's own, for its network. Raises CnnkitError."""
    word = name or (passport.dataset.name if passport.dataset else fallback)
    if word is None:
        raise CnnkitError(
            f"the passport of {passport.model} names no data set; add `--dataset NAME` "
            f"(known: {', '.join(dataset_words())})"
        )
    prep = passport.preprocessing
    size = (prep.channels, *prep.size) if prep else None
    return dataset_of(word).load(word, data_dir, True, size)


def check_classes(passport: Passport, data: Dataset) -> None:
    """Raise ShapeError unless a network's classes are a data set's, in the same order."""
    have, want = passport.classes, data.classes
    # a network from elsewhere has numbers for names: the count is all that can be compared
    unnamed = passport.dataset is None and have == tuple(str(index) for index in range(len(have)))
    if have == want or (unnamed and len(have) == len(want)):
        return
    raise ShapeError(
        f"{passport.model} answers with {_few(have)}, and {data.name} has {_few(want)}: "
        "name the data set that it was trained on, or train it on this one"
    )


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return f"{len(names)} classes ({shown}{', …' if len(names) > 3 else ''})"


def first(split: Split, count: int | None) -> Split:
    """Return the first pictures of a split; all for None."""
    return split if count is None else split.take(slice(count))


def answers(
    engine: Engine,
    inputs: Inputs,
    *,
    batch: int = BATCH,
    on_batch: Callable[[int], None] = lambda done: None,
) -> Floats:
    """Return an engine's first output for all inputs as (N, K) float32, run in batches that it takes.

    `on_batch` is told how many inputs each batch answered.
    """
    least, most = engine.batch_sizes
    step = max(least, min(batch, most or batch))
    parts = []
    for start in range(0, len(inputs), step):
        part = inputs[start : start + step]
        # the filling's answers are dropped
        parts.append(engine.logits(filled(part, least))[: len(part)])
        on_batch(len(part))
    return np.concatenate(parts).reshape(len(inputs), -1)


def filled(batch: NDArray[Any], least: int) -> NDArray[Any]:
    """Return a batch of at least `least` inputs: its last one is repeated as often as needed."""
    missing = least - len(batch)
    return batch if missing <= 0 else np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])


def smallest_batch(engine: Engine, inputs: Inputs) -> NDArray[Any]:
    """Return the first inputs, in the smallest batch that an engine takes: what its latency is told for."""
    least, _ = engine.batch_sizes
    return filled(inputs[:least], least)


def probabilities(artifact: Artifact, answered: Floats) -> NDArray[np.float64]:
    """Return (N, K) probabilities of answers, which are logits unless the artifact ends in softmax.

    Raises CorruptError for answers that are no numbers, which would count as the first class.
    """
    bad = int((~np.isfinite(answered).all(axis=1)).sum())
    if bad:
        raise CorruptError(
            f"{artifact.path} answers {bad} of {len(answered)} pictures with NaN or infinity; train it "
            "again with a lower rate, or export it in fp32"
        )
    return answered.astype(np.float64) if artifact.passport.softmax else softmax(answered)
