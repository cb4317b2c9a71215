"""Pictures for decisions: calibration from the training part, accuracy from what training held out.

The test set takes no part in any choice; it is read once, for the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.answering import inputs_for
from toolkit.datasets import Split
from toolkit.errors import NotFoundError
from toolkit.exporting.evidence import check_labels, random_evidence, why_random
from toolkit.exporting.noise import Scale
from toolkit.images import Inputs
from toolkit.passports import Passport
from toolkit.unseen import HeldPictures, held_pictures


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Inputs to calibrate on, and labelled pictures to judge on; None where `why_unjudged` says why.

    `classes` are the names that the labels count, by the data set.
    """

    calibration: Inputs
    calibration_source: str
    validation: Split | None
    validation_source: str | None
    passport: Passport
    why_unjudged: str | None = None
    on_noise: bool = False
    classes: tuple[str, ...] = ()

    def inputs(self, start: int, stop: int) -> Inputs:
        """Return the network's input for validation pictures `start` to `stop`."""
        assert self.validation is not None
        return inputs_for(self.validation.take(slice(start, stop)), self.passport)


def hold_out(
    passport: Passport,
    *,
    images: int,
    seed: int,
    data_dir: Path | None,
    scale: Scale = "normal",
    beside: Path | None = None,
) -> HeldOut:
    """Return calibration and validation pictures of a network's own data, else seeded random inputs.

    Those are of one scale for a network without preprocessing: ranges of several would fit none. `beside` is
    the network's file, near which a list of what it was trained on may lie. Raises ShapeError where the data
    has other classes by now than the network answers with: its labels would judge nothing.
    """
    why = why_random(passport)
    if why is None:
        try:
            held = held_pictures(passport, beside=beside, data_dir=data_dir, images=images, seed=seed)
            return _from(held, passport, seed)
        except NotFoundError as error:
            why = str(error)
    drawn = random_evidence(passport, images, seed, why, scales=(scale,))
    return HeldOut(
        calibration=drawn.inputs_for(passport),
        calibration_source=drawn.source,
        validation=None,
        validation_source=None,
        passport=passport,
        why_unjudged=why,
        on_noise=True,
    )


def _from(found: HeldPictures, passport: Passport, seed: int) -> HeldOut:
    assert passport.dataset is not None
    check_labels(passport, found.classes)
    # in a seeded order, so that any first part of it is a fair sample
    order = np.random.default_rng(seed).permutation(len(found.held))
    return HeldOut(
        calibration=inputs_for(found.learned, passport),
        calibration_source=f"{len(found.learned)} training images of {passport.dataset.name}",
        validation=found.held.take(order),
        validation_source=f"images of {passport.dataset.name} {found.origin}",
        passport=passport,
        classes=found.classes,
    )
