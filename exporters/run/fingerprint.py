"""Which data an export is calibrated and judged on, told apart by content before anything is exported."""

from __future__ import annotations

from pathlib import Path

from toolkit.datasets import dataset_of
from toolkit.errors import NotFoundError
from toolkit.exporting.evidence import load_dataset, why_random
from toolkit.passports import Passport


def data_fingerprint(passport: Passport, data_dir: Path | None) -> str | None:
    """Return a hash of the data that a passport names; None where random inputs stand in for it.

    Of people's own pictures, which may take minutes to decode, it is that of the files as they are listed.
    Raises CorruptError for damaged data.
    """
    if why_random(passport) is not None or passport.dataset is None:
        return None
    listing = dataset_of(passport.dataset.name).listing
    if listing is not None:
        return listing(passport.dataset.name)
    try:
        return load_dataset(passport, data_dir).fingerprint
    except NotFoundError:
        return None
