"""Checking data before it is learnt from: damaged files, duplicates, leaks, imbalance and wrong labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from toolkit.errors import GateError
from toolkit.figures import percent_text
from toolkit.listings import Part
from toolkit.tables import TextTable

# how pictures of a group are alike; of several ways, the furthest
Likeness = Literal["copy", "saved again", "moved", "mirrored", "turned"]
LIKENESSES: tuple[Likeness, ...] = ("copy", "saved again", "moved", "mirrored", "turned")

# more pictures of the largest class than so many times the smallest's are worth a word
IMBALANCED = 10.0


@dataclass(frozen=True, kw_only=True)
class ClassCount:
    """How many readable pictures of a class there are, in all and in each part."""

    name: str
    train: int
    validation: int
    test: int

    @property
    def images(self) -> int:
        """Pictures in all parts."""
        return self.train + self.validation + self.test


@dataclass(frozen=True, kw_only=True)
class FaultyPicture:
    """A picture to take out, and why: it cannot be read, or shows nothing but one colour."""

    file: str
    why: str


@dataclass(frozen=True, kw_only=True)
class DuplicateGroup:
    """Pictures each of which is a likeness of another; `labels` and `parts` are theirs, in their order."""

    files: tuple[str, ...]
    kind: Likeness
    labels: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def across_splits(self) -> bool:
        """Tell whether the pictures lie in more than one part: what is measured was then learnt from."""
        return len(set(self.parts)) > 1

    @property
    def contradicts(self) -> bool:
        """Tell whether one picture has several labels."""
        return len(set(self.labels)) > 1

    def surplus(self) -> tuple[str, ...]:
        """Return what to take out, so that one stays, a test picture first; all of those that contradict."""
        if self.contradicts:
            return self.files
        kept = next(
            (f for f, part in zip(self.files, self.parts, strict=True) if part == "test"), self.files[0]
        )
        return tuple(file for file in self.files if file != kept)


@dataclass(frozen=True, kw_only=True)
class GroupLeak:
    """A group (a clip, a patient) whose pictures lie in several parts."""

    group: str
    parts: tuple[Part, ...]
    images: int


@dataclass(frozen=True, kw_only=True)
class OddSize:
    """A picture whose size is unlike the others'."""

    file: str
    width: int
    height: int
    why: str


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A picture whose label is doubted; `score` is how likely its own label is, 0 to 1, least first."""

    file: str
    label: str
    suggested: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a check of a data set came to. `labels_by` says what judged the labels, None for nothing.

    `faulty` are damaged files, `plain` pictures of one colour. `notes` are worth reading and no faults.
    `accuracy` is the share of labels that the judge of labels agrees with.
    """

    dataset: str
    images: int
    classes: tuple[ClassCount, ...]
    faulty: tuple[FaultyPicture, ...] = ()
    plain: tuple[FaultyPicture, ...] = ()
    duplicates: tuple[DuplicateGroup, ...] = ()
    leaks: tuple[GroupLeak, ...] = ()
    odd_sizes: tuple[OddSize, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    notes: tuple[str, ...] = ()
    labels_by: str | None = None
    accuracy: float | None = None
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """How many faults there are: everything found but odd sizes and notes."""
        return sum(map(len, (self.faulty, self.plain, self.duplicates, self.leaks, self.suspects)))

    @property
    def ok(self) -> bool:
        """Tell whether nothing was found."""
        return self.count == 0

    def require(self) -> Self:
        """Return the findings of data in which nothing was found. Raises GateError, which counts them."""
        if not self.ok:
            raise GateError(f"--strict: {self.count:,} findings in {self.dataset}")
        return self

    def surplus(self) -> dict[str, str]:
        """Return what to leave out of a training, by name, with the reason: the list that is written."""
        found: dict[str, str] = {}
        for entry in (*self.faulty, *self.plain):
            found[entry.file] = entry.why
        for group in self.duplicates:
            rest = "several labels" if group.contradicts else f"stays: {self._kept(group)}"
            for file in group.surplus():
                found.setdefault(file, f"{group.kind}; {rest}")
        for suspect in self.suspects:
            found.setdefault(suspect.file, f"label {suspect.label} is doubted: {suspect.suggested}?")
        return found

    def _kept(self, group: DuplicateGroup) -> str:
        return next(file for file in group.files if file not in group.surplus())

    def table(self, most: int | None = None) -> TextTable:
        """Return the classes with their pictures by part, as texts: of `most` the largest and smallest."""
        parts = [
            part for part in ("train", "validation", "test") if any(getattr(c, part) for c in self.classes)
        ]
        shown = self.classes
        if most is not None and len(shown) > most:
            order = sorted(shown, key=lambda one: -one.images)
            shown = (*order[: most // 2], *order[-(most // 2) :])
        rows = [
            (one.name, *(f"{getattr(one, part):,}" for part in parts), f"{one.images:,}") for one in shown
        ]
        title = f"{len(shown)} of {len(self.classes):,} classes" if len(shown) < len(self.classes) else ""
        head = ("class", *parts, "images")
        return TextTable(head=head, rows=tuple(rows), title=title, figures=len(parts) + 1)

    def sentences(self) -> tuple[str, ...]:
        """Return what was found, the worst first, a sentence each."""
        across = sum(group.across_splits for group in self.duplicates)
        contradicting = sum(group.contradicts for group in self.duplicates)
        told = [
            _counted(across, "group of duplicates lies", "groups of duplicates lie", "across the parts"),
            _counted(contradicting, "group of duplicates has", "groups of duplicates have", "several labels"),
            _counted(len(self.leaks), "group of --group lies", "groups of --group lie", "in several parts"),
            _counted(len(self.faulty), "file is", "files are", "damaged"),
            _counted(len(self.plain), "picture shows", "pictures show", "one colour only"),
            _counted(len(self.duplicates), "group of duplicates in all", "groups of duplicates in all", ""),
            _counted(len(self.suspects), "label is", "labels are", "doubted"),
            _counted(len(self.odd_sizes), "picture has", "pictures have", "an odd size"),
        ]
        if self.labels_by and self.accuracy is not None:
            told.append(
                f"labels were judged by {self.labels_by}, which agrees with {percent_text(self.accuracy)}"
            )
        return (*(text for text in told if text), *self.notes)

    def _repr_html_(self) -> str:
        from toolkit.markup import listed

        return self.table().html() + listed(self.sentences())


def _counted(count: int, one: str, several: str, rest: str) -> str:
    return f"{count:,} {one if count == 1 else several} {rest}".rstrip() if count else ""
