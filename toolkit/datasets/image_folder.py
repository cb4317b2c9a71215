"""`folder:PATH`: people's own pictures, one folder a class.

Either `PATH/train/<class>/*` with `PATH/test/<class>/*` or `PATH/val/<class>/*`, or one level,
`PATH/<class>/*`, of which about every fifth picture is for the test, by its content.
"""

from __future__ import annotations

from pathlib import Path

from toolkit.datasets import DatasetSpec
from toolkit.errors import NotFoundError
from toolkit.listings import PLAIN, Entry, Listing, Part, Reading
from toolkit.listings.places import FileBytes

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
LAYOUT = "PATH/train/<class>/*.png with PATH/test/ or PATH/val/, or PATH/<class>/*.png"


def listing(name: str, reading: Reading = PLAIN) -> Listing:
    """Find the pictures of a folder, without reading one. Raises NotFoundError where it holds none."""
    root = Path(name.removeprefix("folder:")).expanduser()
    if not root.is_dir():
        raise NotFoundError(f"no folder {root}; --dataset folder:PATH takes {LAYOUT}")
    root = root.resolve()
    classes, entries = _layout(root)
    if not entries:
        raise NotFoundError(f"{root} holds no pictures ({', '.join(sorted(ENDINGS))}); wanted is {LAYOUT}")
    return Listing(word=f"folder:{root}", root=root, classes=classes, entries=entries)


def _layout(root: Path) -> tuple[tuple[str, ...], tuple[Entry, ...]]:
    """Return the classes and the pictures, by label, then name."""
    if not (root / "train").is_dir():
        classes = _classes(root)
        return classes, _pictures(root, root, classes, None)
    held = next((root / part for part in ("test", "val") if (root / part).is_dir()), None)
    if held is None:
        raise NotFoundError(f"{root} has train/ and neither test/ nor val/; wanted is {LAYOUT}")
    classes = _classes(root / "train")
    extra = sorted(set(_classes(held)) - set(classes))
    if extra:
        raise NotFoundError(f"{held} has classes that {root / 'train'} lacks: {', '.join(extra[:5])}")
    both = (*_pictures(root, root / "train", classes, "train"), *_pictures(root, held, classes, "test"))
    return classes, tuple(sorted(both, key=lambda entry: (entry.label, entry.name)))


def _classes(folder: Path) -> tuple[str, ...]:
    found = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if len(found) < 2:
        raise NotFoundError(
            f"{folder} holds {len(found)} class folders, two are the least; wanted is {LAYOUT}"
        )
    return found


def _pictures(root: Path, folder: Path, classes: tuple[str, ...], part: Part | None) -> tuple[Entry, ...]:
    return tuple(
        Entry(name=path.relative_to(root).as_posix(), place=FileBytes(path), label=label, part=part)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in ENDINGS and path.is_file() and not path.name.startswith(".")
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
)
