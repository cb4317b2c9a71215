"""The data that a network was trained on, as it is now: how training read it, and without what it left out.

It is known by its place, else by its content: half of a moved copy is in the list beside the checkpoint.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.datasets import Dataset, absolute_word, dataset_of, without_rows
from toolkit.errors import CnnkitError
from toolkit.listings import MOST_PIXELS, Listing, Reading
from toolkit.listings.excluding import read_exclusions
from toolkit.listings.parts import Member, members
from toolkit.listings.records import Record, find_record, one_line
from toolkit.passports import DatasetRef, Passport
from toolkit.presence import is_file
from toolkit.telling import Step, counter, unwatched


def reading_of(known: DatasetRef | None) -> Reading:
    """Return how a network's own data was read when it was trained."""
    if known is None:
        return Reading()
    return Reading(
        group=known.group,
        columns=known.columns,
        skip_damaged=known.skip_damaged,
        max_pixels=known.max_pixels or MOST_PIXELS,
    )


@dataclass(frozen=True, kw_only=True)
class Met:
    """What a source holds now, how it is read, and whether it is what a network was trained on.

    Of its own data what was excluded from the training is none of `members`.
    """

    reading: Reading
    listing: Listing
    members: tuple[Member, ...]
    own: bool


def met_data(
    word: str,
    passport: Passport,
    record: Record | None,
    *,
    columns: str | None = None,
    on_step: Step = unwatched,
) -> Met:
    """List a network's own data as training read it, wherever it lies now; other data as its word says."""
    as_trained, plain = (
        replace(reading, columns=columns) if columns else reading
        for reading in (reading_of(passport.dataset), Reading())
    )
    if is_own(word, passport):
        return _listed(word, as_trained, passport, record, on_step)
    if record is not None:
        with contextlib.suppress(CnnkitError):  # other data may have neither such columns nor such groups
            found = _listed(word, as_trained, passport, record, on_step)
            if found.own:
                return found
            if (as_trained.group, as_trained.columns) == (plain.group, plain.columns):
                return replace(found, reading=plain)
    return _listed(word, plain, passport, record, on_step)


def _listed(word: str, reading: Reading, passport: Passport, record: Record | None, on_step: Step) -> Met:
    listing = dataset_of(word).listed(word, reading)
    held = members(listing, counter(on_step, "reading files", len(listing.entries)))
    own = _was_trained_on(listing, held, passport, record)
    if own:
        excluded = _excluded(passport, record)
        held = tuple(one for one in held if one_line(one.entry.name) not in excluded)
    return Met(reading=reading, listing=listing, members=held, own=own)


def _excluded(passport: Passport, record: Record | None) -> frozenset[str]:
    """Return the names of what was left out of a training by --exclude, as far as that is known."""
    if record is not None and record.excluded:
        return record.excluded
    path = _exclude_list(passport)
    return frozenset(map(one_line, read_exclusions(path))) if path and is_file(path) else frozenset()


def _exclude_list(passport: Passport) -> Path | None:
    known = passport.dataset.exclude if passport.dataset else None
    return Path(known) if known else None


def as_trained(data: Dataset, passport: Passport) -> tuple[Dataset, tuple[str, ...]]:
    """Leave out what the training left out of data that is the same for everybody; say what is unsure."""
    path = _exclude_list(passport)
    if path is None:
        return data, ()
    if not is_file(path):
        return data, (f"note: {path}, which lists what was left out of the training, is not there",)
    left = without_rows(data, path)[0]
    assert passport.dataset is not None  # or there were no list
    if passport.dataset.fingerprint in (None, left.fingerprint):
        return left, ()
    edited = "was edited since the training, or the data was"
    return left, (f"note: {path}, which lists what was left out, {edited}",)


def is_own(word: str, passport: Passport) -> bool:
    """Tell whether a word names the very place of the data that a network was trained on."""
    return passport.dataset is not None and absolute_word(word) == absolute_word(passport.dataset.name)


def noted(passport: Passport, beside: Path | None) -> Record | None:
    """Return the list of what a network was trained on, near its file; None where there is none."""
    known = passport.dataset.trained_on if passport.dataset else None
    return find_record(beside, known) if known and beside else None


def _was_trained_on(
    listing: Listing, everything: Sequence[Member], passport: Passport, record: Record | None
) -> bool:
    """Tell whether a listing is a network's own data: by its name, else by what half of it contains."""
    if is_own(listing.word, passport):
        return True
    known = record.of("train", "validation", "test", "unused") if record else frozenset()
    return bool(everything) and 2 * sum(one.sha256 in known for one in everything) >= len(everything)
