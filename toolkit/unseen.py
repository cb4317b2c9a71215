"""Pictures that a network may be judged by: never one that it was trained on, unless that is asked for.

Of people's own pictures a list lies beside each checkpoint that says what every one was used for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from toolkit.datasets import Dataset, Split, dataset_of, refuse_options_of_own
from toolkit.errors import CnnkitError, NoneHeldOutError, NotFoundError, refuse_empty
from toolkit.figures import count_text
from toolkit.listings import Listing
from toolkit.listings.parts import Member, fingerprint, tested_of
from toolkit.listings.records import Record
from toolkit.passports import Passport, TrainingOptions
from toolkit.splits import evenly, folded_together, held_out
from toolkit.telling import Step, counter, unwatched
from toolkit.trained_on import Met, as_trained, is_own, met_data, noted

# of a training set of which training held nothing out; of one that was only named for choosing, where one
# half calibrates and the other one judges
SHARE, HALF = 0.1, 0.5


@dataclass(frozen=True, kw_only=True)
class UnseenPictures:
    """A data set whose `test` is what a network is judged by; `notes` say what is to be known of them.

    `what` is what the pictures are called: "test pictures", or "pictures" where all there are count.
    """

    dataset: Dataset
    what: str = "test pictures"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HeldPictures:
    """What a network learned from, for calibrating, and what it was not trained on, for choosing by.

    `origin` says whether that is so; `classes` are the data set's.
    """

    learned: Split
    held: Split
    origin: str
    classes: tuple[str, ...]


def unseen_pictures(
    passport: Passport,
    word: str,
    *,
    beside: Path | None = None,
    data_dir: Path | None = None,
    fetch: bool = True,
    include_trained: bool = False,
    columns: str | None = None,
    images: int | None = None,
    seed: int | None = None,
    on_step: Step = unwatched,
) -> UnseenPictures:
    """Load the pictures of a data set that a network may be judged by, and no others.

    `images` are so many of them: a seeded sample, or the first where `seed` is None. `beside` is the
    network's file; `columns` names those of a table, `on_step` is told how far reading has come. Raises
    NotFoundError where there are none, or where nobody knows which.
    """
    refuse_empty("--columns", columns)
    spec = dataset_of(word)
    if spec.listing is None:
        refuse_options_of_own(word, {"--include-trained": include_trained, "--columns": columns})
        data = spec.load(word, data_dir, fetch, passport.preprocessing)
        notes: tuple[str, ...] = ()
        if is_own(word, passport):
            data, notes = as_trained(data, passport)
        data = replace(data, test=_some(data.test, images, seed))
        return UnseenPictures(dataset=in_order_of(data, passport.classes), notes=notes)
    record = noted(passport, beside)
    met = met_data(word, passport, record, columns=columns, on_step=on_step)
    choice = _chosen(met, passport, record, include_trained=include_trained)
    picked = choice.members if images is None or seed is not None else choice.members[:images]
    if seed is not None:
        picked = [picked[at] for at in sampled(len(picked), images, seed)]
    decoded = counter(on_step, "decoding", len(picked))
    data = spec.decoded(met.listing, picked, passport.preprocessing, met.reading, on_decoded=decoded)
    if not len(data.test):
        raise NotFoundError(
            f"of {met.listing.word} none of the {choice.what} that were asked for can be read, as "
            f"{data.damaged[0].name} {data.damaged[0].why}; mend or remove them, or ask for more"
        )
    notes = choice.notes
    if data.damaged:
        notes = (*notes, f"{count_text(len(data.damaged))} damaged pictures were skipped, as in training")
    found = replace(in_order_of(data, passport.classes), fingerprint=choice.fingerprint)
    return UnseenPictures(dataset=found, what=choice.what, notes=notes)


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """Members of a listing that a network is judged by, all as its test part."""

    members: list[Member]
    fingerprint: str
    what: str
    notes: tuple[str, ...]


def _some(split: Split, images: int | None, seed: int | None) -> Split:
    if images is None:
        return split
    return split.take(slice(images)) if seed is None else sample(split, images, seed)


def _chosen(met: Met, passport: Passport, record: Record | None, *, include_trained: bool) -> _Choice:
    """Choose before anything is decoded. Members come by their hashes: any first part is a fair sample."""
    listing, everything = met.listing, met.members
    notes = _changes(listing, everything, passport, record) if met.own else []
    chosen, what = list(everything), "pictures"
    if not include_trained:
        if met.own and record is None:
            _insist_on_named_parts(listing, passport)
        named = passport.dataset is not None and passport.dataset.named
        chosen, what = _judged(everything, met.own, named=named)
        learned = record.learned if record else frozenset()
        seen = [one for one in chosen if one.sha256 in learned]
        if seen:
            notes.append(
                f"{count_text(len(seen))} of the {what} were trained on and are left out; --include-trained "
                "measures them, too"
            )
        chosen = [one for one in chosen if one.sha256 not in learned]
    if not chosen:
        raise NotFoundError(
            f"{listing.word} holds no {what.rstrip('s')} that {passport.model} was not trained on; "
            "--include-trained measures all that are there"
        )
    return _Choice(
        members=sorted((replace(one, part="test") for one in chosen), key=lambda one: one.sha256),
        fingerprint=fingerprint(listing.classes, everything),
        what=what,
        notes=tuple(notes),
    )


def _judged(everything: Sequence[Member], own: bool, *, named: bool) -> tuple[list[Member], str]:
    """Return the test part; of other data that names none, all of it.

    What was only named for a network that came as a file is judged as its import judged it.
    """
    if own and named:
        return tested_of(everything), "test pictures"
    if own or any(one.entry.part is not None for one in everything):
        return [one for one in everything if one.part == "test"], "test pictures"
    return list(everything), "pictures"


def _changes(
    listing: Listing, everything: Sequence[Member], passport: Passport, record: Record | None
) -> list[str]:
    known = passport.dataset
    assert known is not None  # or the listing were not its own
    if record is not None:
        words = record.changes(everything, listing.classes).words()
        return [f"note: {listing.word} changed since the training: {words}"] if words else []
    if known.trained_on is not None:
        return ["note: the list of pictures that it was trained on lies neither beside it nor in a run of it"]
    if known.named:
        same = known.fingerprint in (None, fingerprint(listing.classes, everything))
        return [] if same else [f"note: {listing.word} changed since it was named for the network"]
    if known.fingerprint is not None:
        return [
            "note: it was trained before pictures were noted one by one: whether the data changed since is "
            "not comparable"
        ]
    return []


def _insist_on_named_parts(listing: Listing, passport: Passport) -> None:
    """Raise NotFoundError where nobody can say which pictures a network was trained on."""
    known = passport.dataset
    assert known is not None  # or the listing were not its own
    if known.fingerprint is None or all(entry.part is not None for entry in listing.entries):
        return
    if known.trained_on is not None or known.named:
        return  # which are for the test has not changed since: that comes from their content
    raise NotFoundError(
        f"which pictures of {listing.word} {passport.model} was trained on is not known: it was trained "
        "before they were noted, and they are split otherwise now; train it again, or --include-trained "
        "measures all of them"
    )


def in_order_of(data: Dataset, classes: tuple[str, ...]) -> Dataset:
    """Return a data set labelled by a network's classes, where all of its own are among them, each once.

    A folder's classes are in the order of their names, and may be few of a network's.
    """
    places = {name: place for place, name in enumerate(classes)}
    alike = data.classes == classes or len(places) != len(classes)
    if alike or not set(data.classes) <= set(places):
        return data
    order = np.array([places[name] for name in data.classes], dtype=np.int64)
    train, test = (replace(part, labels=order[part.labels]) for part in (data.train, data.test))
    held = data.validation and replace(data.validation, labels=order[data.validation.labels])
    return replace(data, train=train, test=test, validation=held, classes=classes)


def held_pictures(
    passport: Passport, *, beside: Path | None, data_dir: Path | None, images: int, seed: int
) -> HeldPictures:
    """Return `images` pictures that a network learned from, and those that chose its epoch.

    Without a list of what it was trained on the training set is split as training would. Raises NotFoundError
    where its data is not here.
    """
    assert passport.dataset is not None
    word = passport.dataset.name
    spec, record = dataset_of(word), noted(passport, beside)
    if spec.listing is None:
        data, _ = as_trained(spec.load(word, data_dir, False, passport.preprocessing), passport)
        return _held_out(in_order_of(data, passport.classes), passport, images, seed, listed=False)
    met = met_data(word, passport, record)
    listing, everything, reading = met.listing, met.members, met.reading
    if record is None or not record.of("validation"):
        data = spec.decoded(listing, everything, passport.preprocessing, reading)
        return _held_out(in_order_of(data, passport.classes), passport, images, seed, listed=True)
    trained_on, chosen_by = record.of("train"), record.of("validation")
    learned, chose = ([m for m in everything if m.sha256 in own] for own in (trained_on, chosen_by))
    picked = [learned[at] for at in sampled(len(learned), images, seed)]
    data = spec.decoded(
        listing,
        [*(replace(m, part="train") for m in picked), *(replace(m, part="validation") for m in chose)],
        passport.preprocessing,
        reading,
    )
    data = in_order_of(data, passport.classes)
    if data.validation is None or not len(data.train):
        raise CnnkitError(
            f"{listing.word} holds none of the pictures that chose the epoch of {passport.model}"
        )
    return HeldPictures(learned=data.train, held=data.validation, origin=_origin(True), classes=data.classes)


def _held_out(data: Dataset, passport: Passport, images: int, seed: int, *, listed: bool) -> HeldPictures:
    """Split a training set as training did: by its own fold, of as many pictures.

    Where training held nothing out, or the data was only named, a share of all is held out now.
    """
    known = passport.dataset
    assert known is not None
    # of listed pictures only a list tells: they were split otherwise once
    alone = not listed and not known.named
    asked = (passport.options if alone else None) or TrainingOptions(dataset=known.name)
    fraction = passport.recipe.validation_fraction if passport.recipe and not known.halved else 0.0
    if asked.fold is not None:
        data = folded_together(data)
    pool = evenly(data.train, asked.images) if asked.images else data.train
    try:
        rest, held = held_out(
            pool, data.validation, fold=asked.fold, fraction=fraction, carries=asked.folds_carry
        )
        then = held is not None and alone
        if held is None:
            rest, held = held_out(pool, None, fold=None, fraction=HALF if known.halved else SHARE)
    except NoneHeldOutError as error:
        raise CnnkitError(
            f"nothing of {known.name} can judge {passport.model} at a lower precision: {error.why}; add "
            "pictures, or take --precision fp32, which needs none"
        ) from None
    assert held is not None
    origin = _origin(then)
    if known.named or (alone and data.fingerprint != known.fingerprint):
        origin = "of the training set, which it may have been trained on"
    return HeldPictures(learned=sample(rest, images, seed), held=held, origin=origin, classes=data.classes)


def _origin(noted: bool) -> str:
    return "held out by training" if noted else "of the training set, which it was trained on, too"


def sampled(count: int, images: int | None, seed: int) -> list[int]:
    """Return a seeded sample of places, in their order; all where `images` is None or more."""
    if images is None or images >= count:
        return list(range(count))
    return sorted(np.random.default_rng(seed).permutation(count)[:images].tolist())


def sample(split: Split, images: int | None, seed: int) -> Split:
    """Return a seeded sample of a split in its order; the whole split where `images` is None or more."""
    if images is None or images >= len(split):
        return split
    return split.take(np.array(sampled(len(split), images, seed), dtype=np.int64))
