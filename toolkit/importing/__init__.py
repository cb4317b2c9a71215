"""Networks from elsewhere: what an import is asked, what a source says of itself, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from toolkit.artifacts import Artifact
from toolkit.passports import DatasetRef, Layout, Metrics
from toolkit.preprocessing import Interpolation, Preprocessing, Resize
from toolkit.tables import TextTable

Order = Literal["rgb", "bgr"]

# pictures that accuracy is measured on where nobody says how many
IMAGES = 1000


@dataclass(frozen=True, kw_only=True)
class PixelWishes:
    """What somebody said of how pixels become a network's input; None is what nobody said.

    `mean` and `std` hold one figure, or one a channel, in units of pixel × scale. `whole` is said all at
    once, and then nothing else is.
    """

    size: tuple[int, int] | None = None
    layout: Layout | None = None
    order: Order | None = None
    resize: Resize | None = None
    crop_share: float | None = None
    interpolation: Interpolation | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    whole: Preprocessing | None = None

    @property
    def said(self) -> dict[str, object]:
        """Return the wishes that were said, by the preprocessing's own words; the layout is the graph's."""
        named = ("size", "order", "resize", "crop_share", "interpolation", "scale", "mean", "std")
        return {name: value for name in named if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """One import: a source, and what was said of it.

    `logits` names the output that holds the class scores, `fixed` the values of inputs beside the
    pictures', as text. `find` looks for the preprocessing on labelled pictures. `images` is on how many
    pictures accuracy is measured, None for all. `fresh` replaces what has the name.
    """

    source: Path
    root: Path
    name: str | None = None
    classes: tuple[str, ...] | None = None
    dataset: str | None = None
    data_dir: Path | None = None
    pixels: PixelWishes = field(default_factory=PixelWishes)
    logits: str | None = None
    fixed: Mapping[str, str] = field(default_factory=dict)
    find: bool = False
    images: int | None = IMAGES
    seed: int = 0
    fresh: bool = False


@dataclass(frozen=True, kw_only=True)
class KnownFacts:
    """What a source says of itself; `origin` is who wrote that, in words. None is what it does not say."""

    origin: str
    preprocessing: Preprocessing | None = None
    size: tuple[int, int] | None = None
    classes: tuple[str, ...] | None = None
    dataset: DatasetRef | None = None
    trained: bool | None = None
    metrics: Metrics = field(default_factory=Metrics)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One combination of preprocessing and layout, and how often it is right.

    `accuracy` with its 95 % interval is on `images` pictures of the half that was searched;
    `held_accuracy` and its interval on `held_images` of the other half, for the best and its equals.
    `told_apart` says that it is clearly worse than the best; None that it is not, and is not named: too many
    are as good, or the time was too short to ask it about as many pictures.
    """

    preprocessing: Preprocessing
    layout: Layout | None
    accuracy: float
    accuracy_ci95: tuple[float, float]
    images: int
    told_apart: bool | None = True
    held_accuracy: float | None = None
    held_images: int | None = None
    held_accuracy_ci95: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Imported(Artifact):
    """The artifact that came of an import, its accuracy where there were pictures, and what was tried.

    `said` are sentences about all that was taken from the source or assumed.
    """

    accuracy: float | None = None
    accuracy_ci95: tuple[float, float] | None = None
    images: int | None = None
    tried: tuple[Tried, ...] = ()
    said: tuple[str, ...] = ()

    @property
    def undecided(self) -> tuple[Tried, ...]:
        """Return what was tried and is not told apart from the preprocessing that was taken."""
        return tuple(one for one in self.tried if one.told_apart is False)[1:]

    def table(self, most: int | None = None) -> TextTable:
        """Return what was tried as texts, the best first: accuracy on the searched half and on the other."""
        from toolkit.importing.pixels import in_words

        rows = []
        for one in self.tried[:most]:
            held = _share(one.held_accuracy, one.held_accuracy_ci95)
            mark = "taken" if one is self.tried[0] else "" if one.told_apart else "not told apart"
            words = f"{in_words(one.preprocessing)}, {one.layout}"
            rows.append((words, mark, str(one.images), _share(one.accuracy, one.accuracy_ci95), held))
        head = ("preprocessing", "", "pictures", "right of them", "right of the other half")
        return TextTable(head=head, rows=tuple(rows), figures=3)

    def _repr_html_(self) -> str:
        return self.table().html()


def _share(accuracy: float | None, interval: tuple[float, float] | None) -> str:
    if accuracy is None or interval is None:
        return "–"
    return f"{accuracy:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"
