"""Which folders are classes and which are parts: as people lay them out, or refused where it cannot be told.

Folders count as splits only where all of them are, and hold class folders: "train" is a vehicle, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.datasets._levels import insist_on_one_level, within
from toolkit.datasets._walking import Tree, told
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.listings import LeftOut, Part
from toolkit.listings.parts import part_of_word, part_within, parts_of_words
from toolkit.listings.tables import in_order

# pictures beside what was drawn on them: nobody's classes
_DRAWN_ON = frozenset(("image", "images", "imgs", "img", "pictures", "photos", "rgb", "input", "inputs"))
_DRAWN = frozenset(("mask", "masks", "annotations", "labels", "gt", "ground_truth", "segmentation"))

LAYOUT = "PATH/train/<class>/*.png with PATH/test/ or PATH/val/, or PATH/<class>/*.png"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The classes of a tree of folders, sorted, and its class folders by part; None is no part."""

    classes: tuple[str, ...]
    parts: dict[Part | None, list[Tree]]

    def pictures(self) -> Iterator[tuple[Path, str, Part | None]]:
        """Yield each picture with its class and its part."""
        for part, trees in self.parts.items():
            for folder in (folder for tree in trees for folder in tree.folders):
                yield from ((path, folder.name, part) for path in folder.every())


def laid_out(root: Path, top: Tree, left_out: list[LeftOut]) -> Layout:
    """Find classes and parts; what lies in neither is added to `left_out`.

    Raises NotFoundError for fewer than two classes, CnnkitError where splits and classes are mixed.
    """
    level = within(top)
    parts = _parts(level)
    labelled = {tree.path: tree for part in parts.values() for tree in part}
    if parts:
        bare = _unlabelled(level, parts)
        parts = _settled(parts)
        for tree in bare:
            why = (
                f"whose one folder, {tree.folders[0].name}/, is no class"
                if tree.folders
                else "without class folders"
            )
            left_out += [_beside(path, root, f"in a split {why}") for path in tree.every()]
    else:
        insist_on_one_level(root, level)
        parts = {None: [level]}
    beside = (p for tree in (level, *labelled.values()) for p in tree.pictures)
    left_out += [_beside(path, root, "beside the class folders") for path in beside]
    return Layout(classes=_classes(parts), parts=parts)


def _parts(level: Tree) -> dict[Part | None, list[Tree]]:
    """Return the folders that are splits by part; none where these folders are classes.

    Raises CnnkitError where folders are called as splits are, and are not laid out so.
    """
    splits = [tree for tree in level.folders if within(tree).folders]
    names = [tree.name for tree in level.folders]
    # only what holds class folders is looked at loosely: a test_tube beside a train_station is a class
    words = parts_of_words(names) if len(splits) == len(names) else [part_of_word(name) for name in names]
    if not all(words):
        _insist_on_classes(level, splits)
        return _above_parts(level)
    if not splits:
        if len(level.folders) < 2:
            return {}
        told = " and ".join(f"{name}/" for name in names[:3])
        raise NotFoundError(f"{level.path}: {told} hold pictures and no class folders; wanted is {LAYOUT}")
    found: dict[Part | None, list[Tree]] = {}
    for tree, part in zip(level.folders, words, strict=True):
        if tree in splits:
            found.setdefault(part, []).append(within(tree))
    return found


def _above_parts(level: Tree) -> dict[Part | None, list[Tree]]:
    """Return classes by part where each class holds folders that are splits; none where none does.

    Raises CnnkitError where only some do: a data set that lies beside other folders.
    """
    split = [tree for tree in level.folders if _is_split_within(within(tree))]
    if split and len(split) < len(level.folders):
        names = ", ".join(f"{one.name}/" for one in within(split[0]).folders)
        raise CnnkitError(
            f"{split[0].path} holds {names}, as a data set does, and lies beside folders that do not; "
            f"{_alone(split[0])}"
        )
    whole = [tree for tree in split if _is_data_set(within(tree))]
    if whole:
        names = ", ".join(f"{tree.name}/" for tree in whole[:3])
        raise CnnkitError(
            f"{level.path}: {names} {'are data sets' if len(whole) > 1 else 'is a data set'}, with splits "
            f"that hold class folders; {_alone(whole[0])}"
        )
    found: dict[Part | None, list[Tree]] = {}
    for tree in split:
        for one in within(tree).folders:
            (top,) = found.setdefault(part_of_word(one.name), [Tree(path=level.path, name=level.name)])
            top.folders.append(replace(one, name=tree.name))
    return found


def _alone(tree: Tree) -> str:
    # the folders of a shard are no folders of the system
    return (
        f"`folder:{tree.path}` takes it alone"
        if tree.path.is_dir()
        else f"pack what {tree.name}/ holds alone"
    )


def _is_split_within(tree: Tree) -> bool:
    parts = {part_of_word(one.name) for one in tree.folders}
    return not tree.pictures and None not in parts and len(parts) > 1


def _is_data_set(tree: Tree) -> bool:
    """Tell whether the splits in a folder hold the same class folders, so that the folder is no class."""
    held = [{one.name for one in part.folders} for part in tree.folders if not part.pictures]
    return len(held) == len(tree.folders) and len(set.intersection(*held)) > 1


def _unlabelled(level: Tree, parts: dict[Part | None, list[Tree]]) -> list[Tree]:
    """Take out of the parts what has no classes: pictures alone, or all in one folder that is no class."""
    known = {one.name for tree in parts.get("train", ()) for one in tree.folders}
    bare = [tree for tree in level.folders if not within(tree).folders]
    for part in [part for part in parts if part != "train" and known]:
        alone = [tree for tree in parts[part] if len(tree.folders) == 1 and tree.folders[0].name not in known]
        bare += alone
        parts[part] = [tree for tree in parts[part] if tree not in alone]
        if not parts[part]:
            del parts[part]
    return bare


def _settled(parts: dict[Part | None, list[Tree]]) -> dict[Part | None, list[Tree]]:
    """Return parts of which a lone validation is the test part, and a lone train none: it is split."""
    if "test" not in parts and "validation" in parts:
        parts = {"test" if part == "validation" else part: trees for part, trees in parts.items()}
    return {None: parts["train"]} if list(parts) == ["train"] else parts


def _insist_on_classes(level: Tree, splits: list[Tree]) -> None:
    """Raise CnnkitError where some folders are plainly splits and others plainly not.

    Two called so are enough where one holds class folders. Others have to share some: "train" is a vehicle.
    """
    called = [tree for tree in level.folders if part_of_word(tree.name)]
    two = len({part_of_word(tree.name) for tree in called}) > 1
    if not (two and any(tree in splits for tree in called)):
        called = [tree for tree in called if tree in splits]
        loose = {tree.path: part_within(tree.name) for tree in splits if part_within(tree.name)}
        if len(called) < 2 and len(set(loose.values())) > 1:
            called = [tree for tree in splits if tree.path in loose]
        alike = called if len(called) > 1 else splits
        inside = [{tree.name for tree in within(one).folders} for one in alike]
        if not called or len(alike) < 2 or not set.intersection(*inside):
            return
    others = ", ".join(f"{tree.name}/" for tree in level.folders if tree not in called)
    names = " and ".join(f"{tree.name}/" for tree in called)
    raise CnnkitError(
        f"{level.path}: {names} {'look like splits' if len(called) > 1 else 'looks like a split'} of one "
        f"data set, and {others} like none; move what is no split elsewhere, name all train, val and test, "
        "or say which level of folders is the classes (`--columns label=1`, label=2)"
    )


def _classes(parts: dict[Part | None, list[Tree]]) -> tuple[str, ...]:
    """Return the classes, sorted. Raises NotFoundError for fewer than two, or where the test has others."""
    learned = [tree for part, trees in parts.items() if part in (None, "train") for tree in trees]
    shown = learned or [tree for trees in parts.values() for tree in trees]
    classes = tuple(in_order({one.name for tree in shown for one in tree.folders}))
    if len(classes) < 2:
        raise NotFoundError(
            f"{shown[0].path} holds {len(classes)} class folders, two are the least; wanted is {LAYOUT}"
        )
    words = {name.casefold() for name in classes}
    if words & _DRAWN and words <= _DRAWN | _DRAWN_ON:
        names = " and ".join(f"{name}/" for name in classes)
        raise CnnkitError(
            f"{shown[0].path}: {names} are pictures and what was drawn on them, not classes; cnnkit "
            "learns one label for each picture: a table of them is csv:FILE"
        )
    for tree in (tree for trees in parts.values() for tree in trees):
        extra = sorted({one.name for one in tree.folders} - set(classes))
        if extra:
            raise NotFoundError(f"{tree.path} has classes that {shown[0].path} lacks: {', '.join(extra[:5])}")
    return classes


def _beside(path: Path, root: Path, why: str) -> LeftOut:
    return LeftOut(name=told(path, root), why=why)
