"""The pictures that an export is judged on, and what PyTorch answers to them."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.answering import BATCH, PictureInputs, answers, check_classes, fitted, inputs_of_fitted
from toolkit.artifacts import Artifact
from toolkit.backends import EngineOptions, opener
from toolkit.datasets import Dataset, dataset_of
from toolkit.errors import CorruptError, NotFoundError, ShapeError
from toolkit.exporting.further import Further, further_of
from toolkit.exporting.noise import SCALES, Noise, Scale
from toolkit.graphs import GRAPH
from toolkit.graphs.reading import read_graph, read_normalised
from toolkit.images import Floats, Inputs
from toolkit.passports import DatasetRef, Passport
from toolkit.telling import Pace, Tell, silent
from toolkit.trained_on import reading_of
from toolkit.unseen import unseen_pictures

# the extents of a picture that are still run by the whole batch
USUAL_AREA = 112 * 112


@dataclass(kw_only=True)
class Evidence:
    """Pictures with, where they are real and the network is trained, their labels.

    `pixels` (N, C, H, W) uint8 at the network's size, or None for a network without preprocessing;
    `inputs` (N, C, H, W) of the network's dtype; `source` says in words what they are, `why_random`
    why they are not real. `batch` is the one that all are run in, None where each file may choose.
    `answered` holds artifacts' (N, K) answers to them, by their files' hashes, `further` their other outputs,
    `as_read` the hashes of those that do not run as they lie.
    """

    inputs: Inputs
    source: str
    pixels: Inputs | None = None
    labels: NDArray[np.int64] | None = None
    why_random: str | None = None
    batch: int | None = None
    answered: dict[str, Floats] = field(default_factory=dict)
    further: dict[str, Further] = field(default_factory=dict)
    as_read: set[str] = field(default_factory=set)

    def inputs_for(self, passport: Passport) -> Inputs:
        """Return what an artifact takes: raw pixels where its graph holds the preprocessing."""
        if self.pixels is not None and passport.preprocessing is not None:
            return inputs_of_fitted(self.pixels, passport)
        return self.inputs

    def told(self, passport: Passport) -> str:
        """Say what the inputs are, and where a file does not run as it lies."""
        return f"{self.source}; as it was read" if passport.sha256 in self.as_read else self.source

    def first(self, count: int) -> Evidence:
        """Return the first inputs of seeded random evidence, with what was answered to so many at least."""
        whole = self.pixels if self.pixels is not None else self.inputs
        assert isinstance(whole, Noise)
        part = dataclasses.replace(whole, count=min(count, len(whole)))
        source = self.source.replace(str(len(whole)), str(len(part)), 1)
        answered = {key: found[:count] for key, found in self.answered.items() if len(found) >= count}
        changed = dataclasses.replace(self, source=source, answered=answered)
        if self.pixels is None or not isinstance(self.inputs, PictureInputs):
            return dataclasses.replace(changed, inputs=part)
        return dataclasses.replace(changed, inputs=dataclasses.replace(self.inputs, images=part), pixels=part)


def gather(
    passport: Passport,
    *,
    images: int | None,
    seed: int,
    data_dir: Path | None,
    beside: Path | None = None,
) -> Evidence:
    """Return `images` test pictures (None: all) for an artifact: real ones, else seeded random ones.

    `beside` is the artifact's file, near which a list of what it was trained on may lie. Random ones stand
    in, and `why_random` says so, where the network is untrained, came from elsewhere, or its data set is not
    on this machine, or holds no picture that it was not trained on.
    """
    why = why_random(passport)
    if why is None and passport.preprocessing is not None and passport.dataset is not None:
        try:
            found = unseen_pictures(
                passport,
                passport.dataset.name,
                beside=beside,
                data_dir=data_dir,
                fetch=False,
                images=images,
                seed=seed,
            )
        except NotFoundError as error:
            why = f"the data set {passport.dataset.name} is not at hand ({error})"
        else:
            dataset, chosen = found.dataset, found.dataset.test
            pixels = fitted(chosen, passport.preprocessing)
            other = _difference(passport.dataset, dataset)
            labels: NDArray[np.int64] | None = chosen.labels
            try:
                check_labels(passport, dataset.classes)
            except ShapeError as error:  # its answers are compared all the same, but with no label
                other, labels = f", without their labels: {error}", None
            return Evidence(
                inputs=inputs_of_fitted(pixels, passport),
                source=f"{len(chosen)} test images of {dataset.name}{other}",
                pixels=pixels,
                labels=labels,
            )
    return random_evidence(passport, images or 1000, seed, why or "it has no preprocessing")


def _difference(known: DatasetRef, found: Dataset) -> str:
    """Say in words how data differs from what a network was trained on; nothing where it is the same."""
    if known.fingerprint in (None, found.fingerprint):
        return ""
    if known.named:
        return ", which changed since it was named for the network"
    if found.listing is not None and known.trained_on is None:
        return ", which are not comparable with what it was trained on: their files were not noted then"
    return ", which differs from what it was trained on"


def check_labels(passport: Passport, classes: tuple[str, ...]) -> None:
    """Raise ShapeError where the classes of a network's data are not, or are no longer, those it tells."""
    assert passport.dataset is not None
    if len(passport.classes) > 1 or len(classes) > 2:  # a single score tells two classes
        check_classes(passport, passport.dataset.name, classes)


def why_random(passport: Passport) -> str | None:
    """Say why a network cannot be judged on real pictures; None where it can."""
    if passport.trained is False:
        return "the network is untrained"
    if passport.dataset is None:
        return "its passport names no data set"
    return "its passport names no preprocessing" if passport.preprocessing is None else None


def data_fingerprint(passport: Passport, data_dir: Path | None) -> str | None:
    """Return a hash of the data that a passport names; None where random inputs stand in for it.

    Of people's own pictures, which may take minutes to decode, it is that of the files as they are listed.
    Raises CorruptError for damaged data.
    """
    if why_random(passport) is not None or passport.dataset is None:
        return None
    name = passport.dataset.name
    spec = dataset_of(name)
    try:
        if spec.listing is not None:
            return spec.listed(name, reading_of(passport.dataset)).state()
        return spec.load(name, data_dir, False, passport.preprocessing).fingerprint
    except NotFoundError:
        return None


def random_evidence(
    passport: Passport, images: int, seed: int, why: str, *, scales: Sequence[Scale] = SCALES
) -> Evidence:
    """Return seeded random pictures; values of several scales for a network without preprocessing.

    They are drawn when they are asked for, a few at a time.
    """
    if (known := passport.preprocessing) is not None:
        pixels = Noise(count=images, shape=(known.channels, *known.size), dtype="uint8", seed=seed)
        return Evidence(
            inputs=inputs_of_fitted(pixels, passport),
            source=f"{images} seeded random images",
            pixels=pixels,
            why_random=why,
        )
    noise = Noise(
        count=images, shape=one_input(passport), dtype=passport.input.dtype, seed=seed, scales=tuple(scales)
    )
    return Evidence(inputs=noise, source=f"{images} seeded random inputs", why_random=why)


def one_input(passport: Passport) -> tuple[int, ...]:
    """Return the shape of one input, (C, H, W). Raises ShapeError where more than the batch is open."""
    extents = tuple(extent for extent in passport.input.shape[1:] if extent)
    if len(extents) != len(passport.input.shape[1:]):
        shape = "×".join("?" if extent is None else str(extent) for extent in passport.input.shape)
        raise ShapeError(
            f"{passport.model} takes {shape}, and only the batch may be open: an export is proven and built "
            "at one size; fix the others in its ONNX file first"
        )
    return extents


def fitting_batch(passport: Passport) -> int:
    """Return how many inputs are run at once: fewer of large pictures, whose inner values take memory."""
    area = math.prod(sorted(extent or 1 for extent in passport.input.shape[1:])[-2:])
    return max(1, min(BATCH, BATCH * USUAL_AREA // max(1, area)))


def answers_of(
    artifact: Artifact,
    evidence: Evidence,
    *,
    model_file: Path | None = None,
    tell: Tell = silent,
    seconds: float | None = None,
    fewest: int = 1,
) -> Floats:
    """Return an artifact's answers to the evidence on the CPU, computed once in this process.

    After `seconds` it ends, with answers to the first inputs alone, `fewest` of them at least.

    A file from elsewhere that its runtime does not take as it lies, as one whose nodes share names, is run
    as it was put right when it was read; that is noted in `evidence.as_read` and told.
    """
    known = artifact.passport
    if known.sha256 in evidence.answered:
        return evidence.answered[known.sha256]
    options = EngineOptions(model_file=model_file)
    began = time.perf_counter()

    def enough(done: int) -> bool:
        return seconds is not None and done >= fewest and time.perf_counter() - began > seconds

    elsewhere = known.format == GRAPH and known.source_sha256 is None
    try:
        read = read_normalised(artifact.path) if elsewhere else None
        # products of 8-bit weights are rounded by the runtime, too, which no file of floats could answer like
        if read and read.decoded:
            raise CorruptError("its weights are kept in few bits")
        if read and read.dropped:
            raise CorruptError("it has inputs that nothing reads, or outputs that hold no numbers")
        found, further = _answered(artifact, evidence, options, tell, enough)
    except CorruptError as error:
        if not elsewhere:
            raise
        graph = dataclasses.replace(options, graph=read_graph(artifact.path).SerializeToString())
        found, further = _answered(artifact, evidence, graph, tell, enough)
        evidence.as_read.add(known.sha256)
        tell(f"{artifact.path.name} is run as it was put right when it was read: {error}")
    evidence.answered[known.sha256], evidence.further[known.sha256] = found, further
    return found


def _answered(
    artifact: Artifact, evidence: Evidence, options: EngineOptions, tell: Tell, enough: Callable[[int], bool]
) -> tuple[Floats, Further]:
    known = artifact.passport
    inputs = evidence.inputs_for(known)
    pace = Pace(f"running {artifact.path.name.lstrip('.')}", len(inputs), tell)
    with opener(known.format).open(artifact, options) as engine:
        batch = evidence.batch or fitting_batch(known)
        found = answers(engine, inputs, batch=batch, on_batch=pace.step, enough=enough)
        return found, further_of(engine, inputs)
