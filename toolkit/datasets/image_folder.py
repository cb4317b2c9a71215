"""`folder:PATH`: people's own pictures, one folder a class.

`PATH/<class>/*`, of which about every fifth picture is for the test, by its content; or splits above the
classes, `PATH/train/<class>/*` with `PATH/test/`, `PATH/val/` or both, in any usual spelling. Folders count
as splits only where all of them are: "train" is a vehicle, too. `--columns label=2,part=1` says of other
layouts which level of folders, the outermost being 1, names what.
"""

from __future__ import annotations

from pathlib import Path

from toolkit.datasets import DatasetSpec, typed_place
from toolkit.datasets._layout import LAYOUT, laid_out
from toolkit.datasets._levels import by_levels
from toolkit.datasets._walking import told, walk
from toolkit.errors import NotFoundError
from toolkit.listings import PLAIN, Entry, Listing, Reading
from toolkit.listings.looking import is_leftover
from toolkit.listings.places import FileBytes


def listing(name: str, reading: Reading = PLAIN) -> Listing:
    """Find the pictures of a folder, without reading one.

    Raises NotFoundError where it holds none in class folders, CnnkitError where splits and classes are mixed.
    """
    root = typed_place(name)
    if not root.is_dir():
        raise NotFoundError(f"no folder {root}; --dataset folder:PATH takes {LAYOUT}")
    root = root.resolve()
    top, left_out = walk(root)
    if not top.pictures and not top.folders:
        count = sum(one.is_dir() and not is_leftover(one.name) for one in root.iterdir())
        what = "no pictures" if count > 1 else f"{count} class folders, two are the least"
        raise NotFoundError(f"{root} holds {what}; wanted is {LAYOUT}")
    if reading.columns:
        return by_levels(root, top, reading.columns, left_out)
    layout = laid_out(root, top, left_out)
    places = {name: place for place, name in enumerate(layout.classes)}
    entries = [
        Entry(name=told(path, root), place=FileBytes(path), label=places[label], part=part)
        for path, label, part in layout.pictures()
    ]
    entries.sort(key=lambda entry: (entry.label, entry.name))
    return Listing(
        word=f"folder:{root}",
        root=root,
        classes=layout.classes,
        entries=tuple(entries),
        left_out=tuple(left_out),
    )


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
