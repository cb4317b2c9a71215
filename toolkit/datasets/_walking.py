"""A folder walked once: its pictures by their place in it, and all that is left out, with the reason."""

from __future__ import annotations

import os
import unicodedata
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.listings import LeftOut
from toolkit.listings.looking import is_leftover, is_picture, readable

LEFTOVER = "a leftover of an archive or a system"


@dataclass(kw_only=True)
class Tree:
    """A folder's pictures and folders, without those that hold no picture at any depth.

    An accent is one letter in `name`, however the system that packed the folder wrote it.
    """

    path: Path
    name: str
    pictures: list[Path] = field(default_factory=list)
    folders: list[Tree] = field(default_factory=list)

    def every(self) -> list[Path]:
        """Return the pictures at any depth, sorted within each folder."""
        return [*sorted(self.pictures), *(path for folder in self.folders for path in folder.every())]

    def pruned(self, left_out: list[LeftOut], root: Path) -> Tree:
        """Drop the folders without pictures, and note them."""
        self.folders = sorted((f.pruned(left_out, root) for f in self.folders), key=lambda one: one.name)
        for empty in (one for one in self.folders if not one.pictures and not one.folders):
            left_out.append(LeftOut(name=told(empty.path, root) + "/", why="a folder without pictures"))
        self.folders = [one for one in self.folders if one.pictures or one.folders]
        return self


def told(path: Path, root: Path) -> str:
    """Return a path as people are told of it: from the root on, with slashes."""
    return readable(path.relative_to(root).as_posix())


def tree_of(root: Path, names: Iterable[str]) -> Tree:
    """Return the tree of folders in which pictures of these names would lie under a root."""
    trees = {root: Tree(path=root, name=root.name)}

    def grown(path: Path) -> Tree:
        if path not in trees:
            trees[path] = Tree(path=path, name=unicodedata.normalize("NFC", path.name))
            grown(path.parent).folders.append(trees[path])
        return trees[path]

    for name in sorted(set(names)):
        grown((root / name).parent).pictures.append(root / name)
    return trees[root]


def walk(root: Path) -> tuple[Tree, list[LeftOut]]:
    """Find every picture under a folder, in one pass.

    Links to folders are followed after all others, and only to folders that were not seen yet, so that none
    is read twice and no circle is walked.
    """
    found = _Walk(root=root)
    top = Tree(path=root, name=root.name)
    found.seen.add(_identity(root))
    found.waiting.append(top)
    while found.waiting or found.links:
        if found.waiting:
            found.scan(found.waiting.popleft())
        else:
            found.follow(*found.links.popleft())
    return top.pruned(found.left_out, root), sorted(found.left_out, key=lambda one: one.name)


@dataclass(kw_only=True)
class _Walk:
    """A walk in progress."""

    root: Path
    waiting: deque[Tree] = field(default_factory=deque)
    links: deque[tuple[Tree, Path]] = field(default_factory=deque)
    seen: set[tuple[int, int]] = field(default_factory=set)
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, path: Path, why: str) -> None:
        self.left_out.append(LeftOut(name=told(path, self.root), why=why))

    def enter(self, parent: Tree, path: Path) -> None:
        self.seen.add(_identity(path))
        child = Tree(path=path, name=unicodedata.normalize("NFC", readable(path.name)))
        parent.folders.append(child)
        self.waiting.append(child)

    def follow(self, parent: Tree, link: Path) -> None:
        try:
            known = _identity(link) in self.seen
        except OSError as error:
            self.leave_out(link, f"a link that cannot be followed: {error.strerror}")
            return
        if known:
            self.leave_out(link, "a link to a folder that is read already")
        else:
            self.enter(parent, link)

    def scan(self, tree: Tree) -> None:
        """Sort one folder's content into pictures, folders and what is left out."""
        try:
            found = sorted(os.scandir(tree.path), key=lambda one: one.name)
        except OSError as error:
            self.leave_out(tree.path, f"a folder that cannot be read: {error.strerror}")
            return
        for one in found:
            path = tree.path / one.name
            try:
                self.sort(tree, one, path)
            except OSError as error:
                what = "a link that cannot be followed" if one.is_symlink() else "cannot be looked at"
                self.leave_out(path, f"{what}: {error.strerror}")

    def sort(self, tree: Tree, one: os.DirEntry[str], path: Path) -> None:
        """Sort one thing that lies in a folder. Raises OSError where the system refuses to look at it."""
        if is_leftover(one.name):
            self.leave_out(path, LEFTOVER)
        elif one.is_dir(follow_symlinks=False):
            self.enter(tree, path)
        elif one.is_dir():
            self.links.append((tree, path))
        elif not one.is_file():
            self.leave_out(path, "a link to nothing" if one.is_symlink() else "no file")
        elif is_picture(path):
            tree.pictures.append(path)
        else:
            self.leave_out(path, f"no picture, by its {'ending' if path.suffix else 'first bytes'}")


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
