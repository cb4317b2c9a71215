"""`folder:PATH`: people's own pictures, one folder a class.

`PATH/<class>/*`, of which about every fifth picture is for the test, by its content; or splits above the
classes, `PATH/train/<class>/*` with `PATH/test/`, `PATH/val/` or both, in any usual spelling. Folders count
as splits only where all of them are: "train" is a vehicle, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from toolkit.datasets import DatasetSpec
from toolkit.datasets._walking import Tree, told, walk
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.listings import PLAIN, Entry, LeftOut, Listing, Part, Reading
from toolkit.listings.looking import is_leftover
from toolkit.listings.parts import part_of_word
from toolkit.listings.places import FileBytes

LAYOUT = "PATH/train/<class>/*.png with PATH/test/ or PATH/val/, or PATH/<class>/*.png"


def listing(name: str, reading: Reading = PLAIN) -> Listing:
    """Find the pictures of a folder, without reading one.

    Raises NotFoundError where it holds none in class folders, CnnkitError where splits and classes are mixed.
    """
    root = Path(name.removeprefix("folder:")).expanduser()
    if not root.is_dir():
        raise NotFoundError(f"no folder {root}; --dataset folder:PATH takes {LAYOUT}")
    root = root.resolve()
    top, left_out = walk(root)
    if not top.pictures and not top.folders:
        count = sum(one.is_dir() and not is_leftover(one.name) for one in root.iterdir())
        what = "no pictures" if count > 1 else f"{count} class folders, two are the least"
        raise NotFoundError(f"{root} holds {what}; wanted is {LAYOUT}")
    level = _within(top)
    parts = _parts(level)
    labelled = {tree.path: tree for part in parts.values() for tree in part}
    if parts:
        bare = [tree for tree in level.folders if not _within(tree).folders]
        left_out += [
            _beside(path, root, "in a split without class folders") for t in bare for path in t.every()
        ]
    else:
        parts = {None: [level]}
    beside = (p for tree in (level, *labelled.values()) for p in tree.pictures)
    left_out += [_beside(path, root, "beside the class folders") for path in beside]
    classes = _classes(root, parts)
    entries = sorted(_entries(root, parts, classes), key=lambda entry: (entry.label, entry.name))
    return Listing(
        word=f"folder:{root}", root=root, classes=classes, entries=tuple(entries), left_out=tuple(left_out)
    )


def _within(tree: Tree) -> Tree:
    """Step into a folder that holds nothing but one folder, unless that is a class."""
    while not tree.pictures and len(tree.folders) == 1 and tree.folders[0].folders:
        tree = tree.folders[0]
    return tree


def _parts(level: Tree) -> dict[Part | None, list[Tree]]:
    """Return the folders that are splits by part; none where these folders are classes.

    Raises CnnkitError where folders are called as splits are, and are not laid out so.
    """
    words = {tree.path: part_of_word(tree.name) for tree in level.folders}
    splits = {t.path: _within(t) for t in level.folders if words[t.path] and _within(t).folders}
    if not all(words.values()):
        _insist_on_classes(level, [tree for tree in level.folders if tree.path in splits])
        return {}
    if not splits:
        if len(level.folders) < 2:
            return {}
        names = " and ".join(f"{tree.name}/" for tree in level.folders[:3])
        raise NotFoundError(f"{level.path}: {names} hold pictures and no class folders; wanted is {LAYOUT}")
    found: dict[Part | None, list[Tree]] = {}
    for path, tree in splits.items():
        found.setdefault(words[path], []).append(tree)
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
    # a lone train/ beside a test/ without classes: its own pictures are split
    return {None: found["train"]} if list(found) == ["train"] else found


def _insist_on_classes(level: Tree, splits: list[Tree]) -> None:
    """Raise CnnkitError where some folders are plainly splits and others plainly not."""
    inside = [{tree.name for tree in _within(split).folders} for split in splits]
    if len(splits) < 2 or len(set.intersection(*inside)) < 2:
        return
    others = ", ".join(f"{tree.name}/" for tree in level.folders if tree not in splits)
    names = " and ".join(f"{tree.name}/" for tree in splits)
    raise CnnkitError(
        f"{level.path}: {names} look like splits of the same classes, and {others} like none; "
        "move what is no split elsewhere"
    )


def _classes(root: Path, parts: dict[Part | None, list[Tree]]) -> tuple[str, ...]:
    """Return the classes, sorted. Raises NotFoundError for fewer than two, or where the test has others."""
    learned = [tree for part, trees in parts.items() if part in (None, "train") for tree in trees]
    shown = learned or [tree for trees in parts.values() for tree in trees]
    classes = tuple(sorted({one.name for tree in shown for one in tree.folders}))
    if len(classes) < 2:
        raise NotFoundError(
            f"{shown[0].path} holds {len(classes)} class folders, two are the least; wanted is {LAYOUT}"
        )
    for tree in (tree for trees in parts.values() for tree in trees):
        extra = sorted({one.name for one in tree.folders} - set(classes))
        if extra:
            raise NotFoundError(f"{tree.path} has classes that {shown[0].path} lacks: {', '.join(extra[:5])}")
    return classes


def _entries(root: Path, parts: dict[Part | None, list[Tree]], classes: tuple[str, ...]) -> Iterator[Entry]:
    for part, trees in parts.items():
        for one in (folder for tree in trees for folder in tree.folders):
            label = classes.index(one.name)
            for path in one.every():
                yield Entry(name=told(path, root), place=FileBytes(path), label=label, part=part)


def _beside(path: Path, root: Path, why: str) -> LeftOut:
    return LeftOut(name=told(path, root), why=why)


DATASET = DatasetSpec(
    name="image-folder",
    shape=None,
    classes=None,
    summary="your own pictures, one folder a class",
    licence="yours",
    train_images=None,
    scheme="folder",
    example="folder:PATH",
    layout="train/<class>/*.png with test/ or val/",
    listing=listing,
    suits=Path.is_dir,
)
