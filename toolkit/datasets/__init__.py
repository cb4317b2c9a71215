"""The contract of a data set file: `DATASET`, a DatasetSpec; and Dataset, what one loads."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.catalog import Shelf
from toolkit.errors import CnnkitError, NoneHeldOutError, NotFoundError, unknown_name
from toolkit.flattening import Levels
from toolkit.listings import PARTS, PLAIN, LeftOut, Listing, Part, Reading
from toolkit.listings.decoding import Decoding
from toolkit.listings.excluding import absent, kept_rows, read_exclusions, row_name, without
from toolkit.listings.looking import is_text, readable
from toolkit.listings.parts import Member, grouped, members
from toolkit.listings.rows import Images, chosen_of
from toolkit.preprocessing import Preprocessing

# what a decoder brings pictures to: a (C, H, W), or all that a network's preprocessing says of it
Fit = tuple[int, int, int] | Preprocessing


@dataclass(frozen=True, kw_only=True)
class Split:
    """Pictures and labels: `images` (N, C, H, W) uint8, `labels` (N,) int64 from 0 to classes − 1.

    Pictures that are too many for memory are read when they are asked for (`PictureRows`).
    `fitted` is the preprocessing whose size and channels they were brought to; None for pictures as they
    lie in their files, or padded to a size.
    `members` says of each picture of a listed source which entry it is; None for other data sets.
    """

    images: Images
    labels: NDArray[np.int64]
    fitted: Preprocessing | None = None
    members: tuple[Member, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64] | slice) -> Split:
        """Return the chosen pictures in the given order."""
        members = self.members
        if members is not None:
            members = tuple(members[at] for at in np.arange(len(self))[indices].tolist())
        return replace(
            self, images=chosen_of(self.images, indices), labels=self.labels[indices], members=members
        )


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set in memory, where it was found, and the hash of its content.

    `validation` is what its source names for choosing the epoch, None where training holds pictures out
    itself. `listing` is what a listed source held, `damaged` what of it could not be read and was skipped,
    `shapes` (N, 3) the channels, height and width of each picture in its file. `files` are what a data set
    that is the same for everybody was read from, where that does not ship with cnnkit.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    source: str
    fingerprint: str
    validation: Split | None = None
    listing: Listing | None = None
    damaged: tuple[LeftOut, ...] = ()
    shapes: NDArray[np.int32] | None = None
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """One data set, or one source of people's own pictures.

    A data set is the same for everybody: `read(name, data_dir, fetch, size)` returns it or raises
    NotFoundError. `data_dir` is searched first; `fetch` allows downloads; `size` is the (C, H, W) wanted by
    decoders of pictures of any size, or the whole preprocessing, whose pixels they then are
    (`Split.fitted`). It is ignored where pictures have one size already.

    A source has a `scheme`: it is typed `<scheme>:<place>`, as in `folder:PATH`. `example` is what errors
    propose, `layout` what has to lie at that place. `listing(name, reading)` finds the pictures without
    decoding one, or raises NotFoundError; which part each belongs to, and decoding, all sources share.
    `suits(path)` tells whether a path that was typed without a scheme is probably such a place.

    `sample` names a data set of some of the same pictures that ships, where this one must be fetched.
    `has_validation` tells of a data set that it has a validation part of its own, before it is read.
    """

    name: str
    shape: tuple[int, int, int] | None
    classes: tuple[str, ...] | None
    summary: str
    licence: str
    train_images: int | None
    read: Callable[[str, Path | None, bool, Fit | None], Dataset] | None = None
    scheme: str | None = None
    example: str | None = None
    layout: str | None = None
    listing: Callable[[str, Reading], Listing] | None = None
    suits: Callable[[Path], bool] | None = None
    sample: str | None = None
    has_validation: bool = False

    def load(
        self,
        name: str,
        data_dir: Path | None = None,
        fetch: bool = True,
        size: Fit | None = None,
        reading: Reading = PLAIN,
    ) -> Dataset:
        """Return the data set in memory. Raises NotFoundError, CorruptError for damaged data."""
        if self.read is not None:
            return self.read(name, data_dir, fetch, size)
        listing = self.listed(name, reading)
        return self.decoded(listing, members(listing), size, reading)

    def decoded(
        self,
        listing: Listing,
        held: Sequence[Member],
        size: Fit | None = None,
        reading: Reading = PLAIN,
        *,
        levels: Levels | None = None,
        on_decoded: Decoding = lambda done: None,
    ) -> Dataset:
        """Return members of a listing in memory; no other is read. Raises DamagedError."""
        from toolkit.datasets._listed import in_memory

        return in_memory(listing, held, size, reading, levels=levels, on_decoded=on_decoded)

    def listed(self, name: str, reading: Reading = PLAIN) -> Listing:
        """Return what a source holds, in the groups that were asked for. Raises NotFoundError."""
        assert self.listing is not None, f"{self.name} has neither read nor listing"
        if not is_text(name):
            raise CnnkitError(
                f"the path of {readable(name)} has bytes that are no UTF-8, which no passport can hold; "
                "rename it"
            )
        try:
            found = self.listing(name, reading)
        except OSError as error:
            raise CnnkitError(f"{name} cannot be read: {error.strerror or error}") from None
        if reading.exclude:
            found = without(found, reading.exclude)
        return grouped(found, reading.group) if reading.group else found


DATASETS = Shelf("toolkit.datasets", "DATASET", DatasetSpec, "dataset")


def dataset_words() -> list[str]:
    """Return what `--dataset` takes: the names of data sets, and an example of each scheme; sorted."""
    return sorted((spec.example or word) for word, spec in _specs().items())


def dataset_names() -> list[str]:
    """Return the names of the data sets that are the same for everybody: those without a scheme."""
    return [word for word, spec in _specs().items() if spec.scheme is None]


def own_sources() -> list[DatasetSpec]:
    """Return the sources of people's own pictures: those with a scheme, in the order of their words."""
    return [spec for spec in _specs().values() if spec.scheme is not None]


def dataset_of(word: str) -> DatasetSpec:
    """Return the data set of a name, or the source of pictures of a scheme (`folder:PATH`).

    Raises NotFoundError with the nearest match.
    """
    scheme, colon, place = word.partition(":")
    specs = _specs()
    for spec in specs.values():
        if colon and spec.scheme == scheme:
            if not place.strip():
                raise NotFoundError(f"{word!r} names no {scheme}; your own pictures are `{spec.example}`")
            return spec
    found = specs.get(word)
    if found is None or found.scheme is not None:
        path = _expanded(word)
        meant = []
        with contextlib.suppress(OSError):  # raised for names that are too long
            meant = [s.scheme for s in specs.values() if s.suits and path.exists() and s.suits(path)]
        if meant:
            raise NotFoundError(f"no dataset {word!r}; pictures of your own there are `{meant[0]}:{word}`")
        raise unknown_name("dataset", word, dataset_words())
    return found


def refuse_options_of_own(word: str, typed: Mapping[str, object]) -> None:
    """Raise CnnkitError for a typed option, by its name, that data which is the same for everybody lacks."""
    given = next((option for option, value in typed.items() if value), None)
    if given:
        raise CnnkitError(
            f"{given} goes with pictures of your own (`folder:PATH`); "
            f"{word} is the same for everybody: leave out {given}"
        )


def absolute_word(word: str) -> str:
    """Return a source's word with its place as an absolute path; a data set's name as it is."""
    scheme, colon, _ = word.partition(":")
    return f"{scheme}:{typed_place(word).resolve()}" if colon else word


def typed_place(word: str) -> Path:
    """Return the place that a source's word names behind its scheme, with `~` as the home that it means."""
    return _expanded(word.partition(":")[2])


def _expanded(typed: str) -> Path:
    """Return a path with its `~` expanded; as typed where there is no such user, for it may be a name."""
    try:
        return Path(typed).expanduser()
    except RuntimeError:
        return Path(typed)


def _specs() -> dict[str, DatasetSpec]:
    return {word: DATASETS.load(word) for word in DATASETS.names()}


def fingerprint(*splits: Split) -> str:
    """Return the SHA-256 of pictures and labels, so that two runs can tell whether data is equal."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(repr((split.images.shape, split.labels.shape)).encode())
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(np.ascontiguousarray(split.labels).data)
    return digest.hexdigest()


def without_rows(data: Dataset, path: Path | str) -> tuple[Dataset, tuple[LeftOut, ...]]:
    """Leave out what a list names of a data set that is the same for everybody (`train 17`).

    Return what it names that is not there, too. Raises NotFoundError, or CnnkitError where it names nothing
    that is there.
    """
    names = read_exclusions(path)
    rows = {part: kept_rows(names, part, len(split)) for part, split in splits_of(data).items()}
    gone = sum(len(split) - len(rows[part]) for part, split in splits_of(data).items())
    if names and not gone:
        raise CnnkitError(
            f"--exclude {path} names {len(names):,} pictures, of which {data.name} holds none; names there "
            "are as `train 0`"
        )
    kept = {part: split.take(rows[part]) for part, split in splits_of(data).items()}
    left = replace(
        data,
        train=kept["train"],
        validation=kept.get("validation"),
        test=kept["test"],
        fingerprint=fingerprint(*kept.values()),
    )
    there = {row_name(part, at) for part, split in splits_of(data).items() for at in range(len(split))}
    return left, absent(names, there)


def splits_of(data: Dataset) -> dict[Part, Split]:
    """Return the splits that a data set has, by part."""
    found = {"train": data.train, "validation": data.validation, "test": data.test}
    return {part: split for part in PARTS if (split := found[part]) is not None}


def split_off(data: Split, fraction: float) -> tuple[Split, Split | None]:
    """Hold out that fraction of every class for choosing the best epoch; None for none.

    The choice depends on the labels alone, so that runs with different seeds compare on equal images; that
    of a listed source on its pictures' content or groups, see toolkit/listings/parts.py.
    """
    if fraction <= 0:
        return data, None
    if data.members is not None:
        return _split_off_by_hash(data, data.members, fraction)
    random = np.random.default_rng(0)
    held = np.zeros(len(data), dtype=bool)
    for label in np.unique(data.labels):
        where = np.flatnonzero(data.labels == label)
        # a class with a single picture keeps it for training
        count = min(len(where) - 1, max(1, round(fraction * len(where))))
        held[random.permutation(where)[:count]] = True
    if not held.any():
        raise _none_to_hold_out(data)
    return data.take(np.flatnonzero(~held)), data.take(np.flatnonzero(held))


def _split_off_by_hash(data: Split, held: tuple[Member, ...], fraction: float) -> tuple[Split, Split | None]:
    """Hold out about that fraction, by content or group, each whole: what is added moves no other."""
    shares = np.array([member.validation_share for member in held])
    out = shares < fraction
    for label in np.unique(data.labels):
        mine = data.labels == label
        if out[mine].all():
            # a class whose pictures would all be held out keeps them, with their whole groups, for training
            out &= ~np.isin(shares, shares[mine])
    if not out.any():
        out = _first_to_hold_out(data, shares)
    return data.take(np.flatnonzero(~out)), data.take(np.flatnonzero(out))


def _first_to_hold_out(data: Split, shares: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which pictures the group of the smallest share holds that leaves some of every class."""
    counts = np.bincount(data.labels)
    for share in np.unique(shares):
        out: NDArray[np.bool_] = shares == share
        inside = np.bincount(data.labels[out], minlength=len(counts))
        if not ((inside > 0) & (inside == counts)).any():
            return out
    raise _none_to_hold_out(data)


def _none_to_hold_out(data: Split) -> NoneHeldOutError:
    why = "every class has one training image"
    if np.bincount(data.labels).max() > 1:
        why = "every group, or picture and its copies, has all training images of some class"
    return NoneHeldOutError(
        f"no images can be held out: {why}",
        f"--validation-fraction 0 --select last trains on all {len(data)}",
    )
