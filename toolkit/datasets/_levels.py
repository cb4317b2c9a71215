"""Which level of a folder's folders names the classes: as people say, or refused where it cannot be told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from toolkit.datasets._walking import Tree, told
from toolkit.errors import CnnkitError
from toolkit.listings import LeftOut, Listing
from toolkit.listings.parts import part_within
from toolkit.listings.places import FileBytes
from toolkit.listings.tables import TableRow, listing_of_rows, typed_roles

# what people call the folder that a data set lies in
_HOLDERS = frozenset(
    (
        "data",
        "dataset",
        "datasets",
        "images",
        "image",
        "imgs",
        "pictures",
        "photos",
        "raw",
        "archive",
        "samples",
    )
)


def by_levels(root: Path, top: Tree, given: str, left_out: list[LeftOut]) -> Listing:
    """List a folder's pictures by the levels of folders that `label=2,part=1` names, the outermost being 1.

    Raises CnnkitError for what names no levels, CorruptError for a folder that names no part.
    """
    levels = typed_levels(given)
    rows: list[TableRow] = []
    for path, folders in _placed(top, ()):
        if len(folders) < max(levels.values()):
            left_out.append(LeftOut(name=told(path, root), why=f"not {max(levels.values())} folders deep"))
            continue
        named = {role: folders[level - 1] for role, level in levels.items()}
        rows.append(TableRow(name=told(path, root), place=FileBytes(path), **named))
    return listing_of_rows(f"folder:{root}", root, rows, left_out)


def typed_levels(given: str) -> dict[str, int]:
    """Return which level of folders `label=2,part=1` names for what; else raise CnnkitError."""
    typed = typed_roles(given)
    levels = {role: int(level) if level.isdecimal() else 0 for role, level in typed.items()}
    if "label" not in typed or "image" in typed or not all(levels.values()):
        raise CnnkitError(
            f"--columns {given!r}: of a folder wanted is label=LEVEL, and part=LEVEL and group=LEVEL where "
            "folders name such; level 1 are the folders in it, 2 those inside them"
        )
    return levels


def _placed(tree: Tree, folders: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield each picture with the folders in which it lies, the outermost first."""
    for path in sorted(tree.pictures):
        yield path, folders
    for one in tree.folders:
        yield from _placed(one, (*folders, one.name))


def insist_on_one_level(root: Path, level: Tree) -> None:
    """Raise CnnkitError where folders that name no parts hold what may be the classes.

    So do `fold1` and `fold2` with one set of folders in each, `train` beside pictures of `bus`, and `data`
    beside `figures`.
    """
    deep = {tree.path: one for tree in level.folders if len((one := within(tree)).folders) > 1}
    deep = {path: one for path, one in deep.items() if not one.pictures}
    outer = [tree for tree in level.folders if tree.path in deep]
    held = [{one.name for one in deep[tree.path].folders} for tree in outer]
    alike = _alike(held)
    if len(outer) > 1 and alike == set(range(len(outer))):
        raise _unsure(root, level, outer, deep[outer[0].path], f"hold {_names(sorted(held[0]))} alike")
    flat = {tree.name for tree in level.folders if tree.pictures}
    if len(outer) + len(flat) < len(level.folders) or not flat:
        return
    for tree, names in zip(outer, held, strict=True):
        if names & flat or part_within(tree.name) or tree.name.casefold() in _HOLDERS:
            what = f"holds {_names(sorted(names))}, beside pictures in {_names(sorted(flat))}"
            raise _unsure(root, level, [tree], deep[tree.path], what)


def _alike(held: Sequence[set[str]]) -> set[int]:
    """Return which sets have two names or more that others of them have, too."""
    return {
        at
        for at, one in enumerate(held)
        if len(one & set[str]().union(*(other for i, other in enumerate(held) if i != at))) > 1
    }


def within(tree: Tree) -> Tree:
    """Step into a folder that holds nothing but one folder, unless that is a class."""
    while not tree.pictures and len(tree.folders) == 1 and tree.folders[0].folders:
        tree = tree.folders[0]
    return tree


def _unsure(root: Path, level: Tree, outer: Sequence[Tree], inner: Tree, what: str) -> CnnkitError:
    first, second = _depth(root, level), _depth(root, inner)
    return CnnkitError(
        f"{level.path}: {_names([tree.name for tree in outer])} {what}, and which of them are classes is not "
        f"known: `--columns label={second}` takes the inner ones, label={first} the outer; part={first} or "
        f"group={first} behind label={second} says that the outer ones are parts (train, val, test), or are "
        "never torn apart"
    )


def _depth(root: Path, tree: Tree) -> int:
    """Return which level of the root's folders lie in a tree."""
    return len(tree.path.relative_to(root).parts) + 1


def _names(names: Sequence[str]) -> str:
    shown = [f"{name}/" for name in names[:3]]
    more = [f"{len(names) - 3:,} more"] if len(names) > 3 else []
    *most, last = (*shown, *more)
    return f"{', '.join(most)} and {last}" if most else last
