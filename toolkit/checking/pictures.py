"""The pictures of any data set, one after another: of a listing undecoded, of a built-in set from memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from toolkit.datasets import Dataset, dataset_of, refuse_options_of_own, splits_of, without_rows
from toolkit.flattening import Wide
from toolkit.images import Pixels, picture_of
from toolkit.listings import LeftOut, Listing, Part, Reading
from toolkit.listings.decoding import open_entry
from toolkit.listings.excluding import row_name
from toolkit.listings.hashing import content_hash
from toolkit.listings.parts import Member, members
from toolkit.telling import Step, counter, unwatched


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures by number: what they are called and labelled, and `open`, which decodes one.

    `digests` are hashes of their content. `held` (N, C, H, W) are the pixels of those that lie in memory.
    `open` is told how one of more than 8 bits is read, and raises ImageError.
    """

    word: str
    root: Path | None
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[int, ...]
    parts: tuple[Part, ...]
    groups: tuple[str | None, ...]
    digests: tuple[str, ...]
    left_out: tuple[str, ...]
    open: Callable[[int, Wide], Image.Image]
    held: Pixels | None = None

    def __len__(self) -> int:
        return len(self.names)


def gallery(word: str, data_dir: Path | None, reading: Reading, on_step: Step = unwatched) -> Gallery:
    """Return the pictures of a data set by its name, or of a source. Raises CnnkitError."""
    spec = dataset_of(word)
    if spec.listing is None:
        refuse_options_of_own(word, {"--group": reading.group, "--columns": reading.columns})
        data = spec.load(word, data_dir)
        data, absent = without_rows(data, reading.exclude) if reading.exclude else (data, ())
        return _in_memory(data, absent)
    return _listed(spec.listed(word, reading), reading, on_step)


def _listed(listing: Listing, reading: Reading, on_step: Step) -> Gallery:
    hashed = counter(on_step, "reading files", len(listing.entries))
    held: tuple[Member, ...] = tuple(sorted(members(listing, hashed), key=lambda one: one.entry.name))
    return Gallery(
        word=listing.word,
        root=listing.root,
        classes=listing.classes,
        names=tuple(one.entry.name for one in held),
        labels=tuple(one.entry.label for one in held),
        parts=tuple(one.part for one in held),
        groups=tuple(one.entry.group for one in held),
        digests=tuple(one.sha256 for one in held),
        left_out=tuple(f"{one.name}: {one.why}" for one in listing.left_out),
        open=lambda at, wide: open_entry(held[at].entry, reading, wide=wide),
    )


def _in_memory(data: Dataset, left_out: tuple[LeftOut, ...]) -> Gallery:
    splits = splits_of(data).items()
    pixels = np.concatenate([split.images for _, split in splits])
    return Gallery(
        word=data.name,
        root=None,
        classes=data.classes,
        names=tuple(row_name(part, at) for part, split in splits for at in range(len(split))),
        labels=tuple(int(label) for _, split in splits for label in split.labels),
        parts=tuple(part for part, split in splits for _ in range(len(split))),
        groups=(None,) * len(pixels),
        digests=tuple(content_hash(one.tobytes()) for one in pixels),
        left_out=tuple(f"{one.name}: {one.why}" for one in left_out),
        open=lambda at, wide: picture_of(pixels[at]),
        held=pixels,
    )
