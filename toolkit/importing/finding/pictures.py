"""The labelled pictures that an import looks for its preprocessing on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.datasets import Dataset, Split, dataset_of
from toolkit.errors import NotFoundError
from toolkit.images import Pixels
from toolkit.importing.classes import refuse_strange
from toolkit.importing.finding.pool import Pool, halves, mean_and_deviation
from toolkit.importing.samples import places_in
from toolkit.listings import Listing
from toolkit.listings.decoding import decode, open_entry
from toolkit.listings.parts import Member, members
from toolkit.preprocessing import Preprocessing, fit_batch
from toolkit.unseen import in_order_of

# most pictures of a search, and how many make one worth while without those that training may have seen
MOST, ENOUGH = 2000, 400
# most of them where each is a file to decode
MOST_FILES = 1000
# training pictures whose mean and deviation are looked at, and of those that have to be resized for it
LOOKED_AT, RESIZED = 60_000, 2048
FILES_LOOKED_AT = 256


@dataclass(frozen=True, kw_only=True)
class Searchable:
    """Pictures for a search, and their own mean and deviation by channel; `name` is their data set's."""

    pool: Pool
    own: tuple[Sequence[float], Sequence[float]]
    name: str


def searchable(
    word: str, data_dir: Path | None, base: Preprocessing, classes: tuple[str, ...], seed: int
) -> Searchable:
    """Return test pictures, filled up with training ones where they are few, labelled by `classes`.

    `base` is a preprocessing of the network's size and channels. Raises NotFoundError where there are none,
    ShapeError where they are of other classes.
    """
    spec = dataset_of(word)
    if spec.listing is not None:
        return _of_files(spec.listed(word), base, classes, seed)
    data = spec.load(word, data_dir, True, None)
    refuse_strange(data.classes, data.name, classes)
    data = in_order_of(data, classes)
    picked = _picked(data, seed)
    order, searched = halves(picked.labels, seed)
    pool = Pool(
        labels=picked.labels[order],
        searched=searched,
        images=picked.images[order],
        all_tested=len(data.test) >= ENOUGH,
    )
    return Searchable(
        pool=pool, own=mean_and_deviation(_seen(np.asarray(data.train.images), base)), name=data.name
    )


def _seen(images: Pixels, base: Preprocessing) -> Pixels:
    """Return pictures in the network's channels."""
    if images.shape[1] == base.channels:
        return images[:LOOKED_AT]
    return fit_batch(images[:RESIZED], dataclasses.replace(base, resize="squash", crop_share=1.0))


def _picked(data: Dataset, seed: int) -> Split:
    random = np.random.default_rng(seed)
    test = data.test.take(np.sort(random.permutation(len(data.test))[:MOST]))
    if len(test) >= ENOUGH:
        return test
    more = data.train.take(np.sort(random.permutation(len(data.train))[: MOST // 2 - len(test)]))
    return Split(
        images=np.concatenate([test.images, more.images]), labels=np.concatenate([test.labels, more.labels])
    )


def _of_files(listing: Listing, base: Preprocessing, classes: tuple[str, ...], seed: int) -> Searchable:
    refuse_strange(listing.classes, listing.word, classes)
    held = members(listing)
    if not held:
        raise NotFoundError(f"{listing.word} holds no pictures")
    tested = [one for one in held if one.part == "test"]
    others = [one for one in held if one.part != "test"]
    random = np.random.default_rng(seed)
    picked = _some(tested, MOST_FILES, random)
    if len(picked) < ENOUGH:
        picked += _some(others, MOST_FILES - len(picked), random)
    labels = places_in(listing.classes, classes)[[one.entry.label for one in picked]]
    order, searched = halves(labels, seed)
    chosen = [picked[at] for at in order.tolist()]
    pool = Pool(
        labels=labels[order],
        searched=searched,
        read=lambda at: open_entry(chosen[at].entry),
        all_tested=len(tested) >= ENOUGH,
    )
    looked_at = _some(others or tested, FILES_LOOKED_AT, random)
    own = mean_and_deviation(np.asarray(decode(looked_at, dataclasses.replace(base, crop_share=1.0)).pixels))
    return Searchable(pool=pool, own=own, name=listing.word)


def _some(held: Sequence[Member], count: int, random: np.random.Generator) -> list[Member]:
    chosen: NDArray[np.int64] = np.sort(random.permutation(len(held))[:count])
    return [held[at] for at in chosen.tolist()]
