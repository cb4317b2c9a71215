"""Which part a picture belongs to: the one that its layout names, else by the hash of its content or group.

Nothing here depends on a picture's place in a list, so that adding a picture moves no other; a group that is
added may, where there are so few that none is in the test part by its hash.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from toolkit.errors import CnnkitError
from toolkit.listings import Entry, Listing, Part
from toolkit.listings.hashing import content_hash, hash_entries

TEST_SHARE = 0.2
_SPELLINGS: dict[str, Part] = {
    **dict.fromkeys(
        ("train", "training", "trainset", "traindata", "trainval", "trn", "tr", "learn"), "train"
    ),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev", "va"), "validation"),
    **dict.fromkeys(("eval", "evaluation", "evaluate"), "validation"),
    **dict.fromkeys(("test", "testing", "tests", "tst", "te", "ts", "holdout", "heldout"), "test"),
}


def part_of_word(word: str) -> Part | None:
    """Return the part that a word means in any usual spelling (`Training`, `val_set`, `TEST`), or None."""
    letters = re.sub(r"[^a-z]", "", word.casefold())
    for ending in ("set", "sets", "data", "split", "images", "imgs", "pictures", "folder", ""):
        found = _SPELLINGS.get(letters.removesuffix(ending))
        if found:
            return found
    return None


def parts_of_words(words: Sequence[str]) -> list[Part | None]:
    """Return the part that each word means: loosely where all name one, and not all of them the same.

    `seg_train` beside `seg_test` are parts, `steam_train` beside `model_train` are not.
    """
    strict = [part_of_word(word) for word in words]
    loose = [part_within(word) for word in words]
    return loose if None in strict and None not in loose and len(set(loose)) > 1 else strict


def part_within(word: str) -> Part | None:
    """Return the one part that a piece of a word names (`imagenet-val-000`); None for none or several."""
    pieces = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", word)
    named = {_SPELLINGS[piece.casefold()] for piece in pieces if piece.casefold() in _SPELLINGS}
    return part_of_word(word) or (named.pop() if len(named) == 1 else None)


@dataclass(frozen=True, kw_only=True)
class Member:
    """An entry, the hash of its content, and the part that it belongs to."""

    entry: Entry
    sha256: str
    part: Part

    @property
    def validation_share(self) -> float:
        """Where a picture for training stands from 0 to 1: below a fraction it helps choose the epoch."""
        return _share("validation", _key(self.entry, self.sha256))


def settled(entries: Sequence[Entry]) -> list[Entry]:
    """Settle the parts that a source names: a lone `val` is the test part, a lone `train` no part at all."""
    named = {entry.part for entry in entries} - {None}
    if named == {"train"}:
        return [replace(entry, part=None) for entry in entries]
    if "validation" in named and "test" not in named:
        return [replace(e, part="test") if e.part == "validation" else e for e in entries]
    return list(entries)


def members(listing: Listing, on_hashed: Callable[[int], None] = lambda done: None) -> tuple[Member, ...]:
    """Return a listing's entries with hash and part, by label, then by hash: in any source the same order."""
    hashes = hash_entries(listing.entries, on_hashed)
    return _placed(listing.entries, hashes)


def named_members(listing: Listing) -> tuple[Member, ...] | None:
    """Return a listing's members where names alone tell their parts, with no hashes; else None.

    That is where each picture has a group: no file is read.
    """
    if any(entry.group is None for entry in listing.entries):
        return None
    return _placed(listing.entries, [""] * len(listing.entries))


def _placed(entries: Sequence[Entry], hashes: Sequence[str]) -> tuple[Member, ...]:
    placed = [
        Member(entry=entry, sha256=digest, part=entry.part or _part(_key(entry, digest)))
        for entry, digest in zip(entries, hashes, strict=True)
    ]
    if all(one.part == "train" and one.entry.part is None for one in placed):
        placed = _first_group_tested(placed)
    return tuple(sorted(placed, key=lambda one: (one.entry.label, one.sha256, one.entry.name)))


def _first_group_tested(placed: list[Member]) -> list[Member]:
    """Put the first group by its hash into the test part that leaves some of every class, where one does.

    By their hashes none of a few groups may be in it.
    """
    sizes = Counter(one.entry.label for one in placed)
    of_group: dict[str, Counter[int]] = {}
    for one in placed:
        if one.entry.group is not None:
            of_group.setdefault(_key(one.entry, one.sha256), Counter())[one.entry.label] += 1
    fit = [key for key, own in of_group.items() if all(sizes[label] > own[label] for label in own)]
    first = min(fit, key=lambda key: _share("test", key), default=None)
    return [
        replace(one, part="test")
        if one.entry.group is not None and _key(one.entry, one.sha256) == first
        else one
        for one in placed
    ]


def tested_of(held: Sequence[Member]) -> list[Member]:
    """Return the test part; all pictures where it is empty, as of a few whose source names no parts."""
    tested = [one for one in held if one.part == "test"]
    return tested if tested or any(one.entry.part is not None for one in held) else list(held)


def fingerprint(classes: Sequence[str], held: Sequence[Member]) -> str:
    """Return the SHA-256 of classes, files and labels: equal for equal files, in whatever source they lie."""
    digest = hashlib.sha256(repr(tuple(classes)).encode("utf-8", "surrogateescape"))
    for told in sorted((one.sha256, one.entry.label) for one in held):
        digest.update(repr(told).encode())
    return digest.hexdigest()


def grouped(listing: Listing, pattern: str) -> Listing:
    """Put pictures into the groups that a regular expression finds in their names.

    A group is the expression's first capture, else its whole match; a picture whose name does not match is
    a group of its own. Raises CnnkitError for no expression, or where it matches no name.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise CnnkitError(f"--group {pattern!r} is no regular expression: {error}") from None
    entries = tuple(replace(entry, group=_group(expression, entry.name)) for entry in listing.entries)
    if not any(entry.group is not None for entry in entries):
        raise CnnkitError(
            f"--group {pattern!r} matches none of the {len(entries):,} names of {listing.word}, the first of "
            f"which is {entries[0].name if entries else 'missing'}"
        )
    return replace(listing, entries=entries)


def _group(expression: re.Pattern[str], name: str) -> str | None:
    found = expression.search(name)
    if found is None:
        return None
    first = found.group(1) if expression.groups else None
    return first if first is not None else found.group()


def _key(entry: Entry, digest: str) -> str:
    return (
        digest
        if entry.group is None
        else content_hash(b"group " + entry.group.encode("utf-8", "surrogateescape"))
    )


def _part(key: str) -> Part:
    return "test" if _share("test", key) < TEST_SHARE else "train"


def _share(what: str, key: str) -> float:
    """Return a number from 0 to 1 that depends on a hash alone, and another for each purpose."""
    return int(content_hash(f"{what} {key}".encode())[:13], 16) / 16**13
