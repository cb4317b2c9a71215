"""Pictures for a network that is already open: read, inverted where needed, fitted, answered in batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit import catalog
from toolkit.artifacts import Artifact, Passport
from toolkit.backends import Engine
from toolkit.datasets import Dataset, Split
from toolkit.errors import CnnkitError, CorruptError, ShapeError
from toolkit.images import (
    FORMATS,
    Pixels,
    Preprocessing,
    fit_batch,
    fit_pixels,
    ground_differs,
    normalise,
    read_image,
    softmax,
)

Invert = Literal["auto", "yes", "no"]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A file as the network sees it: `pixels` (C, H, W) uint8, and whether it was inverted."""

    pixels: Pixels
    inverted: bool


def preprocessing_of(artifact: Artifact) -> Preprocessing:
    """Return how pictures become an artifact's input. Raises CnnkitError where its passport does not say."""
    found = artifact.passport.preprocessing
    if found is None:
        raise CnnkitError(
            f"{artifact.path} does not say how pictures become its input (no preprocessing in its "
            "passport); export it from a checkpoint of cnnkit"
        )
    return found


def read_picture(path: Path, preprocessing: Preprocessing, invert: Invert = "auto") -> Picture:
    """Read a file for the network. Raises ImageError in one line.

    `auto` inverts a picture whose ground is not the one that the network learned on.
    """
    image = read_image(path)
    turned = invert == "yes" or (invert == "auto" and ground_differs(image, preprocessing))
    return Picture(pixels=fit_pixels(image, preprocessing, invert=turned), inverted=turned)


def count_frames(path: Path) -> int:
    """Return how many pictures a file that could be read holds: an animation's frames, a TIFF's pages."""
    with warnings.catch_warnings():
        # read_image has refused what is too large
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=FORMATS) as image:
            return int(getattr(image, "n_frames", 1))


def load_for(
    passport: Passport, name: str | None, data_dir: Path | None, *, fallback: str | None = None
) -> Dataset:
    """Load the data set of that name, else a passport's own, for its network. Raises CnnkitError."""
    word = name or (passport.dataset.name if passport.dataset else fallback)
    if word is None:
        raise CnnkitError(
            f"the passport of {passport.model} names no data set; add `--dataset NAME` "
            f"(known: {', '.join(catalog.names('dataset'))}) or `--dataset folder:PATH`"
        )
    prep = passport.preprocessing
    size = (prep.channels, *prep.size) if prep else None
    return catalog.dataset(word).load(word, data_dir, True, size)


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
    pixels: Pixels,
    *,
    batch: int = 64,
    on_batch: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float32]:
    """Return (N, K) logits of (N, C, h, w) uint8 pictures, fitted and normalised in batches.

    `on_batch` is told how many pictures each batch answered.
    """
    parts = []
    for inputs, count in _batches(engine, pixels, batch):
        parts.append(engine.logits(inputs)[:count])
        on_batch(count)
    return np.concatenate(parts)


def as_probabilities(artifact: Artifact, answers: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (N, K) probabilities of answers, which are logits unless the artifact ends in softmax.

    Raises CorruptError for answers that are no numbers, which would count as the first class.
    """
    bad = int((~np.isfinite(answers).all(axis=1)).sum())
    if bad:
        raise CorruptError(
            f"{artifact.path} answers {bad} of {len(answers)} pictures with NaN or infinity; train it "
            "again with a lower rate, or export it in fp32"
        )
    return answers.astype(np.float64) if artifact.passport.extra.get("softmax") else softmax(answers)


def _batches(engine: Engine, pixels: Pixels, batch: int) -> Iterator[tuple[NDArray[Any], int]]:
    preprocessing, passport = preprocessing_of(engine.artifact), engine.artifact.passport
    fixed = passport.input.shape[0]
    step = fixed or batch
    for start in range(0, len(pixels), step):
        part = fit_batch(pixels[start : start + step], preprocessing)
        count = len(part)
        if fixed and count < fixed:  # a graph with a fixed batch: filled up, the filling's answers dropped
            part = np.concatenate([part, np.repeat(part[-1:], fixed - count, axis=0)])
        # raw pixels where the graph holds the preprocessing
        raw = passport.input.dtype == "uint8"
        yield part if raw else normalise(part, preprocessing).astype(passport.input.dtype, copy=False), count
