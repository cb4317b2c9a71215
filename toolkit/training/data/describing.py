"""What is said of the data before it is trained on: parts, classes with counts, sizes, what was left out."""

from __future__ import annotations

from collections import Counter

import numpy as np

from toolkit.datasets import Split
from toolkit.figures import count_text, shape_text
from toolkit.listings.tables import nearly_one_name
from toolkit.training.data.prepare import PreparedData

_SHOWN = 30  # classes in the table; of more, the largest and the smallest
_UNEVEN = 10  # times as many pictures in the largest class as in the smallest

# of files whose kind may hold several pictures; others (WebP, PNG) hold one nearly always
_OF_FRAMES = (".gif", ".apng", ".tif", ".tiff")


def describe(prepared: PreparedData) -> str:
    """Say what is trained on, and from where; of pictures of one's own, a line for each thing to be known."""
    data = prepared.dataset
    held = f"{len(prepared.held):,} held out for validation, " if prepared.held else ""
    lines = [
        f"data: {data.name}, {len(prepared.learned):,} images to train on, {held}"
        f"{len(data.test):,} for the test, from {data.source}"
    ]
    there = len(data.train)
    if prepared.wanted is not None and prepared.wanted > there:
        lines.append(
            f"note: --images {prepared.wanted} asks for more than the {there:,} training images of "
            f"{data.name}; all of them are used"
        )
    if prepared.record is not None:
        lines += [
            *_classes(prepared),
            *_shapes(prepared),
            *_frames(prepared),
            *_groups(prepared),
            *_left_out(prepared),
        ]
    return "\n".join(lines)


def _counts(split: Split | None, classes: int) -> list[int]:
    labels = np.zeros(0, np.int64) if split is None else split.labels
    return [int(n) for n in np.bincount(labels, minlength=classes)]


def _classes(prepared: PreparedData) -> list[str]:
    """Return the table of classes by part, and what is uneven or missing in it."""
    classes = prepared.dataset.classes
    parts = {"train": prepared.learned, "validation": prepared.held, "test": prepared.dataset.test}
    counts = {name: _counts(split, len(classes)) for name, split in parts.items()}
    order = sorted(range(len(classes)), key=lambda at: -counts["train"][at])
    shown = list(range(len(classes))) if len(classes) <= _SHOWN else [*order[:5], *order[-5:]]
    if len(classes) > _SHOWN:
        lines = [f"{len(classes)} classes, of which the five largest and the five smallest:"]
    else:
        lines = []
    width = max(len("class"), *(len(classes[at]) for at in shown))
    lines.append(f"  {'class':<{width}}" + "".join(f"{name:>12}" for name in counts))
    for at in shown:
        lines.append(f"  {classes[at]:<{width}}" + "".join(f"{counts[name][at]:>12,}" for name in counts))
    most, least = counts["train"][order[0]], counts["train"][order[-1]]
    if most >= _UNEVEN * max(1, least):
        lines.append(
            f"note: the classes are uneven: {classes[order[0]]} has {most:,} images to train on, "
            f"{classes[order[-1]]} {least:,}; the accuracy says little of small classes"
        )
    lines += [
        f"note: {' and '.join(map(repr, names))} are classes of their own, and their names nearly one"
        for names in nearly_one_name(classes)
    ]
    for part, what in (("train", "to train on"), ("test", "for the test")):
        none = [classes[at] for at in range(len(classes)) if not counts[part][at]]
        if none:
            more = f" and {len(none) - 3} more" if len(none) > 3 else ""
            lines.append(f"note: no image {what} of {', '.join(none[:3])}{more}")
    return lines


def _shapes(prepared: PreparedData) -> list[str]:
    """Return sizes and colours as the files have them, and which are odd."""
    shapes = prepared.dataset.shapes
    if shapes is None or not len(shapes):
        return []
    grey = int((shapes[:, 0] == 1).sum())
    colours = "all grey" if grey == len(shapes) else f"{count_text(grey)} grey" if grey else "all in colour"
    sizes = Counter(map(tuple, shapes[:, 1:].tolist()))
    (usual, often), *_ = sizes.most_common(1)
    low, high = shapes[:, 1:].min(axis=0), shapes[:, 1:].max(axis=0)
    if len(sizes) == 1:
        text = f"sizes: all {shape_text(usual)}"
    else:
        text = (
            f"sizes: {len(sizes):,} kinds, heights {low[0]:,} to {high[0]:,}, widths {low[1]:,} to "
            f"{high[1]:,}, most often {shape_text(usual)} ({often:,})"
        )
    lines = [f"{text}; {colours}; the network sees {shape_text(prepared.preprocessing.size)}"]
    long = int((shapes[:, 1:].max(axis=1) > 10 * shapes[:, 1:].min(axis=1)).sum())
    if long:
        lines.append(f"note: images more than ten times as long as wide: {count_text(long)}")
    return lines


def _frames(prepared: PreparedData) -> list[str]:
    """Return how many files are of a kind that holds several pictures, of which the first is taken."""
    listing = prepared.dataset.listing
    entries = listing.entries if listing else ()
    count = sum(entry.name.lower().endswith(_OF_FRAMES) for entry in entries)
    if not count:
        return []
    return [f"note: GIF, APNG and TIFF files, of whose frames the first is learned from: {count_text(count)}"]


def _groups(prepared: PreparedData) -> list[str]:
    """Return how many groups there are, and which of them named parts tear apart."""
    listing = prepared.dataset.listing
    entries = listing.entries if listing else ()
    grouped = [entry for entry in entries if entry.group is not None]
    if not grouped:
        return []
    found = {entry.group for entry in grouped}
    alone = len(entries) - len(grouped)
    rest = f"; {count_text(alone)} images belong to none and count alone" if alone else ""
    torn = len({(entry.group, entry.part) for entry in grouped}) - len(found)
    if torn:
        rest += f"; note: groups in more than one of the parts that the data names: {count_text(torn)}"
    return [
        f"{count_text(len(found))} groups{rest}"
        if torn
        else f"{count_text(len(found))} groups, each in one part{rest}"
    ]


def _left_out(prepared: PreparedData) -> list[str]:
    data = prepared.dataset
    left = [one.why for one in (data.listing.left_out if data.listing else ())]
    lines = []
    if left:
        told = ", ".join(f"{count_text(count)} {why}" for why, count in Counter(left).most_common(6))
        lines.append(f"left out: {told}; left-out.txt in the run's folder lists them")
    if data.damaged:
        lines.append(f"note: damaged images left out (--skip-damaged): {count_text(len(data.damaged))}")
    return lines
