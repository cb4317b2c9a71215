"""The test pictures that an imported network is measured on: of a listed source no other is decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.datasets import Split, dataset_of
from toolkit.errors import CorruptError, NotFoundError
from toolkit.importing import ImportRequest
from toolkit.importing.classes import refuse_strange
from toolkit.listings import Listing
from toolkit.listings.decoding import decode
from toolkit.listings.parts import fingerprint, members, tested_of
from toolkit.preprocessing import Preprocessing
from toolkit.telling import Tell
from toolkit.unseen import in_order_of, sample


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Test pictures labelled by a network's classes, and the data set that they are of."""

    split: Split
    name: str
    fingerprint: str


def samples_of(
    request: ImportRequest, preprocessing: Preprocessing, classes: tuple[str, ...], tell: Tell
) -> Samples:
    """Return as many test pictures as an import asks for. Raises NotFoundError, ShapeError, CorruptError."""
    assert request.dataset is not None
    spec = dataset_of(request.dataset)
    if spec.listing is not None:
        return _of_files(spec.listed(request.dataset), request, preprocessing, classes, tell)
    data = spec.load(request.dataset, request.data_dir, True, preprocessing)
    refuse_strange(data.classes, data.name, classes)
    split = sample(in_order_of(data, classes).test, request.images, request.seed)
    return Samples(split=split, name=data.name, fingerprint=data.fingerprint)


def _of_files(
    listing: Listing,
    request: ImportRequest,
    preprocessing: Preprocessing,
    classes: tuple[str, ...],
    tell: Tell,
) -> Samples:
    refuse_strange(listing.classes, listing.word, classes)
    held = members(listing)
    tested = tested_of(held)
    if not tested:
        raise NotFoundError(f"{listing.word} holds no test pictures to measure the network on")
    if tested[0].part != "test":
        tell(
            f"{listing.word} names no test pictures, and of so few none is drawn: all {len(tested)} are taken"
        )
    if request.images is not None and request.images < len(tested):
        picked = np.random.default_rng(request.seed).permutation(len(tested))[: request.images]
        tested = [tested[at] for at in np.sort(picked).tolist()]
    decoded = decode(tested, preprocessing)
    if decoded.damaged:
        first = decoded.damaged[0]
        raise CorruptError(
            f"{len(decoded.damaged)} of the pictures cannot be read, such as {first.name} ({first.why}): "
            "remove or mend them"
        )
    split = Split(
        images=decoded.pixels,
        labels=places_in(listing.classes, classes)[[one.entry.label for one in decoded.members]],
        fitted=preprocessing,
        members=decoded.members,
    )
    return Samples(split=split, name=listing.word, fingerprint=fingerprint(listing.classes, held))


def places_in(
    theirs: tuple[str, ...], classes: tuple[str, ...]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return where each of a data set's classes stands among a network's; numbers stand for any names."""
    places = {name: place for place, name in enumerate(classes)}
    if theirs == classes or not set(theirs) <= set(places):
        return np.arange(len(theirs), dtype=np.int64)
    return np.array([places[name] for name in theirs], dtype=np.int64)
