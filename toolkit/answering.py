"""Pictures → batches that an engine takes → answers → probabilities: the one way that all of cnnkit goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Artifact
from toolkit.backends import Engine
from toolkit.datasets import Split, dataset_words
from toolkit.errors import CnnkitError, CorruptError, ShapeError, refuse_empty
from toolkit.images import MAX_BYTES, MAX_PIXELS, Floats, Inputs, PictureSource, Pixels, open_picture
from toolkit.listings.rows import Images
from toolkit.passports import Passport, TensorSpec
from toolkit.preprocessing import Preprocessing, fit_batch, fit_pixels, ground_differs, normalise
from toolkit.probabilities import softmax

BATCH = 32

Invert = Literal["auto", "yes", "no"]


@dataclass(frozen=True, kw_only=True)
class PictureInputs:
    """What pictures (N, C, h, w) uint8 are to a network, made slice by slice.

    A thousand pictures of 224×224 are 50 MB; as floats, all at once, they would be 200. A network whose
    graph holds the preprocessing (its input is uint8) gets the pixels at its size as they are. `fitted`
    are pictures that `fit_pixels` brought to that size.
    """

    images: Images | Inputs
    preprocessing: Preprocessing
    takes: TensorSpec
    fitted: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        pixels = self.images[part] if self.fitted else fit_batch(self.images[part], self.preprocessing)
        if self.takes.dtype == "uint8":
            return arranged(pixels, self.takes)
        values = normalise(pixels, self.preprocessing).astype(self.takes.dtype, copy=False)
        return arranged(values, self.takes)


def arranged(values: NDArray[Any], takes: TensorSpec) -> NDArray[Any]:
    """Bring (N, C, H, W) values into the order and rank of a network's input.

    Those may be (N, H, W, C), (N, H, W) without channels, or (N, C × H × W), whose layout says in which
    order the values lie.
    """
    if takes.layout == "NHWC":
        values = np.moveaxis(values, 1, -1)
    if len(takes.shape) in (0, 4) or None in takes.shape[1:]:
        return values
    return values.reshape(len(values), *takes.shape[1:])


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
            "passport): `cnnkit import` the file that it was made of with `--dataset NAME`, or `--mean` and "
            "`--std`, and export that; or export a checkpoint of cnnkit"
        )
    return found


def inputs_of(pictures: Split, artifact: Artifact) -> PictureInputs:
    """Return pictures as an artifact's input. Raises CnnkitError where it has no preprocessing."""
    preprocessing_of(artifact)
    return inputs_for(pictures, artifact.passport)


def inputs_for(pictures: Split, passport: Passport) -> PictureInputs:
    """Return pictures as the input of a network whose preprocessing is known."""
    preprocessing = passport.preprocessing
    assert preprocessing is not None
    return PictureInputs(
        images=pictures.images,
        preprocessing=preprocessing,
        takes=passport.input,
        fitted=_is_fitted(pictures, preprocessing),
    )


def inputs_of_fitted(pixels: Inputs, passport: Passport) -> PictureInputs:
    """Return (N, C, H, W) uint8 pixels, which `fit_pixels` made for this very network, as its input."""
    assert passport.preprocessing is not None
    return PictureInputs(
        images=pixels, preprocessing=passport.preprocessing, takes=passport.input, fitted=True
    )


def fitted(pictures: Split, preprocessing: Preprocessing) -> Pixels:
    """Return pictures at the network's size, (N, C, H, W) uint8; those that are so already as they are."""
    if _is_fitted(pictures, preprocessing):
        return np.asarray(pictures.images)
    return fit_batch(np.asarray(pictures.images), preprocessing)


def _is_fitted(pictures: Split, preprocessing: Preprocessing) -> bool:
    known = pictures.fitted
    return known is not None and known.geometry == preprocessing.geometry


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
    image = open_picture(
        source, name=name, max_pixels=max_pixels, max_bytes=max_bytes, wide=preprocessing.wide
    )
    decode_ms = (time.perf_counter() - start) * 1e3
    pixels = fit_pixels(image, preprocessing)
    turned = invert == "yes" or (invert == "auto" and ground_differs(pixels, preprocessing))
    return Picture(pixels=255 - pixels if turned else pixels, inverted=turned, decode_ms=decode_ms)


def data_word(passport: Passport, name: str | None) -> str:
    """Return the data set of that name, else a passport's own. Raises CnnkitError where it names none."""
    refuse_empty("--dataset", name)
    word = name or (passport.dataset.name if passport.dataset else None)
    if word is None:
        raise CnnkitError(
            f"the passport of {passport.model} names no data set; add `--dataset NAME` "
            f"(known: {', '.join(dataset_words())})"
        )
    return word


def check_classes(passport: Passport, name: str, want: tuple[str, ...]) -> None:
    """Raise ShapeError unless a network's classes are those of the data set of a name, in the same order."""
    have, known = passport.classes, passport.dataset
    # a network from elsewhere has numbers for names: the count is all that can be compared
    same = known is None or ((known.named or passport.imported_sha256 is not None) and known.name == name)
    if have == want or (same and numbered(have) and len(have) == len(want)):
        return
    raise ShapeError(
        f"{passport.model} answers with {_few(have)}, and {name} has {_few(want)}: "
        "name the data set that it was trained on, or train it on this one"
    )


def numbered(classes: Sequence[str]) -> bool:
    """Tell whether classes have their numbers for names, as a network from elsewhere has them."""
    return tuple(classes) == tuple(str(index) for index in range(len(classes)))


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
    on_batch: Callable[[int], object] = lambda done: None,
    enough: Callable[[int], bool] = lambda answered: False,
) -> Floats:
    """Return an engine's first output for all inputs as (N, K) float32, run in batches that it takes.

    `on_batch` is told how many inputs each batch answered; `enough`, told how many are answered, ends it.
    """
    least, most = engine.batch_sizes
    step = max(least, min(batch, most or batch))
    parts, done = [], 0
    for start in range(0, len(inputs), step):
        part = inputs[start : start + step]
        # the filling's answers are dropped
        parts.append(engine.logits(filled(part, least))[: len(part)])
        on_batch(len(part))
        done += len(part)
        if enough(done):
            break
    return np.concatenate(parts).reshape(done, -1)


def filled(batch: NDArray[Any], least: int) -> NDArray[Any]:
    """Return a batch of at least `least` inputs: its last one is repeated as often as needed."""
    missing = least - len(batch)
    return batch if missing <= 0 else np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])


def smallest_batch(engine: Engine, inputs: Inputs) -> NDArray[Any]:
    """Return the first inputs, in the smallest batch that an engine takes: what its latency is told for."""
    least, _ = engine.batch_sizes
    return filled(inputs[:least], least)


def decisions(answered: NDArray[Any], *, probable: bool) -> NDArray[np.int64]:
    """Return the class that each of (N, K) answers decides for; one column decides by its threshold.

    That is 0.5 where answers are probabilities (`probable`), 0 where they are logits.
    """
    if answered.shape[1] > 1:
        return np.asarray(answered.argmax(axis=1))
    return np.asarray(answered[:, 0] > (0.5 if probable else 0.0)).astype(np.int64)


def probabilities(artifact: Artifact, answered: Floats) -> NDArray[np.float64]:
    """Return (N, K) probabilities of answers, which are logits unless the artifact gives probabilities.

    A single column is the second of two classes: its probability, or what a sigmoid makes one of.
    Raises CorruptError for answers that are no numbers, which would count as the first class.
    """
    bad = int((~np.isfinite(answered).all(axis=1)).sum())
    if bad:
        raise CorruptError(
            f"{artifact.path} answers {bad} of {len(answered)} pictures with NaN or infinity; train it "
            "again with a lower rate, or export it in fp32"
        )
    return as_probabilities(answered, probable=artifact.passport.softmax)


def as_probabilities(scores: NDArray[np.float32], *, probable: bool) -> NDArray[np.float64]:
    """Return (N, K) scores as probabilities, a column as (N, 2); those that are so (`probable`) stay."""
    values = scores.astype(np.float64)
    if values.shape[1] == 1:
        likely = values if probable else 1 / (1 + np.exp(-np.clip(values, -700, 700)))
        return np.concatenate([1 - likely, likely], axis=1)
    return values if probable else softmax(scores)
