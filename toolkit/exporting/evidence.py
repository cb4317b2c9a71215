"""The pictures that an export is judged on, and what PyTorch answers to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.answering import answers, fitted, inputs_of_fitted
from toolkit.artifacts import Artifact
from toolkit.backends import EngineOptions, opener
from toolkit.datasets import Dataset, dataset_of
from toolkit.errors import NotFoundError, ShapeError
from toolkit.images import Floats, Inputs, Pixels
from toolkit.passports import DatasetRef, Passport
from toolkit.unseen import reading_of, unseen_pictures


@dataclass(kw_only=True)
class Evidence:
    """Pictures with, where they are real and the network is trained, their labels.

    `pixels` (N, C, H, W) uint8 at the network's size, or None for a network without preprocessing;
    `inputs` (N, C, H, W) of the network's dtype; `source` says in words what they are, `why_random`
    why they are not real. `answered` holds artifacts' (N, K) answers to them, by their files' hashes.
    """

    inputs: Inputs
    source: str
    pixels: Pixels | None = None
    labels: NDArray[np.int64] | None = None
    why_random: str | None = None
    answered: dict[str, Floats] = field(default_factory=dict)

    def inputs_for(self, passport: Passport) -> Inputs:
        """Return what an artifact takes: raw pixels where its graph holds the preprocessing."""
        if self.pixels is not None and passport.preprocessing is not None:
            return inputs_of_fitted(self.pixels, passport)
        return self.inputs


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
            return Evidence(
                inputs=inputs_of_fitted(pixels, passport),
                source=f"{len(chosen)} test images of {dataset.name}{other}",
                pixels=pixels,
                labels=chosen.labels,
            )
    return random_evidence(passport, images or 1000, seed, why or "it has no preprocessing")


def _difference(known: DatasetRef, found: Dataset) -> str:
    """Say in words how data differs from what a network was trained on; nothing where it is the same."""
    if known.fingerprint in (None, found.fingerprint):
        return ""
    if found.listing is not None and known.trained_on is None:
        return ", which are not comparable with what it was trained on: their files were not noted then"
    return ", which differs from what it was trained on"


def why_random(passport: Passport) -> str | None:
    """Say why a network cannot be judged on real pictures; None where it can."""
    if passport.trained is False:
        return "the network is untrained"
    if passport.dataset is None or passport.preprocessing is None:
        return "its passport names no data set"
    return None


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


def random_evidence(passport: Passport, images: int, seed: int, why: str) -> Evidence:
    """Return seeded random pictures (standard normal values for a network without preprocessing)."""
    generator = np.random.default_rng(seed)
    if (known := passport.preprocessing) is not None:
        pixels = generator.integers(0, 256, (images, known.channels, *known.size), dtype=np.uint8)
        return Evidence(
            inputs=inputs_of_fitted(pixels, passport),
            source=f"{images} seeded random images",
            pixels=pixels,
            why_random=why,
        )
    shape = (images, *one_input(passport))
    raw = passport.input.dtype == "uint8"
    values: NDArray[Any] = (
        generator.integers(0, 256, shape, dtype=np.uint8) if raw else generator.standard_normal(shape)
    )
    inputs = values.astype(passport.input.dtype)
    return Evidence(inputs=inputs, source=f"{images} seeded random inputs", why_random=why)


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


def answers_of(artifact: Artifact, evidence: Evidence, *, model_file: Path | None = None) -> Floats:
    """Return an artifact's answers to the evidence on the CPU, computed once in this process."""
    known = artifact.passport
    if known.sha256 not in evidence.answered:
        with opener(known.format).open(artifact, EngineOptions(model_file=model_file)) as engine:
            evidence.answered[known.sha256] = answers(engine, evidence.inputs_for(known))
    return evidence.answered[known.sha256]
