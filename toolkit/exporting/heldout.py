"""Pictures for decisions: calibration from the training part, accuracy from what training held out.

The test set takes no part in any choice; it is read once, for the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.answering import inputs_for
from toolkit.datasets import Split, split_off
from toolkit.errors import NotFoundError
from toolkit.exporting.evidence import choose, load_dataset, random_evidence, why_random
from toolkit.images import Inputs
from toolkit.passports import Passport

# of a training set of which training held nothing out
SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Inputs to calibrate on, and labelled pictures to judge on; None where `why_unjudged` says why."""

    calibration: Inputs
    calibration_source: str
    validation: Split | None
    validation_source: str | None
    passport: Passport
    why_unjudged: str | None = None

    def inputs(self, start: int, stop: int) -> Inputs:
        """Return the network's input for validation pictures `start` to `stop`."""
        assert self.validation is not None
        return inputs_for(self.validation.take(slice(start, stop)), self.passport)


def hold_out(passport: Passport, *, images: int, seed: int, data_dir: Path | None) -> HeldOut:
    """Return calibration and validation pictures of a network's own data, else seeded random inputs."""
    why = why_random(passport)
    if why is None:
        try:
            return _from(load_dataset(passport, data_dir).train, passport, images, seed)
        except NotFoundError as error:
            why = str(error)
    drawn = random_evidence(passport, images, seed, why)
    return HeldOut(
        calibration=drawn.inputs_for(passport),
        calibration_source=drawn.source,
        validation=None,
        validation_source=None,
        passport=passport,
        why_unjudged=why,
    )


def _from(train: Split, passport: Passport, images: int, seed: int) -> HeldOut:
    assert passport.dataset is not None
    fraction = passport.recipe.validation_fraction if passport.recipe else 0.0
    rest, held = split_off(train, fraction or SHARE)
    assert held is not None
    chosen = choose(rest, images, seed)
    # in a seeded order, so that any first part of it is a fair sample
    order = np.random.default_rng(seed).permutation(len(held))
    origin = "held out by training" if fraction else "of the training set, which it was trained on, too"
    return HeldOut(
        calibration=inputs_for(chosen, passport),
        calibration_source=f"{len(chosen)} training images of {passport.dataset.name}",
        validation=held.take(order),
        validation_source=f"images of {passport.dataset.name} {origin}",
        passport=passport,
    )
