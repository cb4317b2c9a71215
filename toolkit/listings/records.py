"""What a network was trained on, as a list of its pictures' hashes that lies beside its checkpoint.

A line a picture: part, SHA-256 of its file, class and name, with tabs between. `unused` pictures were for
training and left out (`--images`), `excluded` ones by `--exclude`, unread; the others chose the epoch
(`validation`) or measured it (`test`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from toolkit.artifacts import hash_file, writing
from toolkit.errors import CorruptError
from toolkit.figures import count_text
from toolkit.listings import Entry
from toolkit.listings.hashing import content_hash
from toolkit.listings.parts import Member
from toolkit.presence import matching

Use = Literal["train", "validation", "test", "unused", "excluded"]
SUFFIX = ".trained-on.txt"
_UNREAD = "-"  # in place of a hash
_HEAD = "# part, SHA-256 of the file, class, name"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One picture of a data set as a training met it."""

    use: Use
    sha256: str
    label: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Changes:
    """How a data set differs from what a training met, in pictures."""

    added: int
    removed: int
    altered: int
    relabelled: int

    def words(self) -> str | None:
        """Say what changed; None for nothing."""
        counts = {"added": self.added, "removed": self.removed, "altered": self.altered}
        if self.relabelled:
            counts["given another class"] = self.relabelled
        told = ", ".join(f"{count_text(count)} {what}" for what, count in counts.items() if count)
        return told or None


@dataclass(frozen=True, kw_only=True)
class Record:
    """All pictures of a data set, and what a training used each for."""

    pictures: tuple[Recorded, ...]

    def text(self) -> str:
        """Return the list as it is written."""
        lines = ("\t".join((one.use, one.sha256, one.label, one.name)) for one in self.pictures)
        return "\n".join((_HEAD, *lines, ""))

    @property
    def sha256(self) -> str:
        """The hash of the list as it is written."""
        return content_hash(self.text().encode())

    def of(self, *uses: Use) -> frozenset[str]:
        """Return the hashes of the pictures of some uses."""
        return frozenset(one.sha256 for one in self.pictures if one.use in uses)

    @property
    def excluded(self) -> frozenset[str]:
        """The names of what a list left out of the training."""
        return frozenset(one.name for one in self.pictures if one.use == "excluded")

    @property
    def learned(self) -> frozenset[str]:
        """The hashes of what was trained on, and of what the epoch was chosen by."""
        return self.of("train", "validation")

    def changes(self, held: Sequence[Member], classes: Sequence[str]) -> Changes:
        """Compare with what the data holds now; a picture that was only renamed is no change."""
        then = {one.name: (one.sha256, one.label) for one in self.pictures if one.use != "excluded"}
        now = {one_line(m.entry.name): (m.sha256, one_line(classes[m.entry.label])) for m in held}
        both = then.keys() & now.keys()
        altered = sum(then[name][0] != now[name][0] for name in both)
        relabelled = sum(then[name] != now[name] for name in both) - altered
        gone, new = (Counter(some[name] for name in some.keys() - both) for some in (then, now))
        alike = (gone & new).total()
        moved = (_hashes(gone) & _hashes(new)).total()
        return Changes(
            added=new.total() - moved,
            removed=gone.total() - moved,
            altered=altered,
            relabelled=relabelled + moved - alike,
        )

    def write(self, path: Path) -> None:
        """Write the list, whole or not at all."""
        with writing(path) as part:
            part.write_text(self.text(), encoding="utf-8")


def record_of(
    members: Iterable[tuple[Member, Use]], classes: Sequence[str], excluded: Sequence[Entry] = ()
) -> Record:
    """Return the record of what a training uses each picture for, in a fixed order."""
    pictures = [
        Recorded(
            use=use,
            sha256=one.sha256,
            label=one_line(classes[one.entry.label]),
            name=one_line(one.entry.name),
        )
        for one, use in members
    ]
    pictures += [
        Recorded(use="excluded", sha256=_UNREAD, label=one_line(classes[one.label]), name=one_line(one.name))
        for one in excluded
    ]
    return Record(
        pictures=tuple(sorted(pictures, key=lambda one: (one.use, one.label, one.sha256, one.name)))
    )


def find_record(checkpoint: Path, sha256: str) -> Record | None:
    """Return the list of that hash that lies beside a checkpoint or in one of its runs; None for none.

    Raises CorruptError for a list that was altered by hand so that it cannot be read, and for a folder that
    may not be.
    """
    folder = checkpoint.parent
    for pattern in ((f"*{SUFFIX}",), ("runs", "*", f"*{SUFFIX}")):
        for path in reversed(matching(folder, *pattern)):  # the newest run first
            if hash_file(path) == sha256:
                return read_record(path)
    return None


def read_record(path: Path) -> Record:
    """Read a list of pictures. Raises CorruptError with the line that is none."""
    pictures = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[1:], 2):
        if not line:
            continue
        fields = line.split("\t")
        if len(fields) != 4 or fields[0] not in get_args(Use):
            raise CorruptError(f"{path}, line {number}: {line[:60]!r} is no part, hash, class and name")
        use, sha256, label, name = fields
        pictures.append(Recorded(use=use, sha256=sha256, label=label, name=name))  # type: ignore[arg-type]  # checked
    return Record(pictures=tuple(pictures))


def _hashes(pictures: Counter[tuple[str, str]]) -> Counter[str]:
    """Count by hash alone what is counted by hash and class."""
    found: Counter[str] = Counter()
    for (digest, _), count in pictures.items():
        found[digest] += count
    return found


def one_line(name: str) -> str:
    """Return a name as the list has it, in which tabs and ends of lines part fields."""
    return re.sub(r"[\t\n\r]", " ", name)
