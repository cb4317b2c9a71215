"""`folder:PATH`: people's own pictures, one folder a class.

Either `PATH/train/<class>/*` with `PATH/test/<class>/*` or `PATH/val/<class>/*`, or one level,
`PATH/<class>/*`, of which every fifth picture of each class becomes the test set.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.datasets import Dataset, DatasetSpec, Fit, Split, fingerprint
from toolkit.errors import CorruptError, ImageError, NotFoundError
from toolkit.images import read_image
from toolkit.preprocessing import Preprocessing, fit_pixels

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
TEST_EVERY = 5
LAYOUT = "PATH/train/<class>/*.png with PATH/test/ or PATH/val/, or PATH/<class>/*.png"

Labelled = list[tuple[Path, int]]


def load(
    name: str,
    data_dir: Path | None = None,
    fetch: bool = True,
    size: Fit | None = None,
) -> Dataset:
    """Read every picture as (C, H, W) uint8: padded to `size`, or to the first picture's size and colours.

    A preprocessing in the place of `size` prepares each as its network sees it. `data_dir` and `fetch`
    change nothing. Raises NotFoundError for a folder without pictures, CorruptError naming the pictures
    that cannot be read.
    """
    root = Path(name.removeprefix("folder:")).expanduser()
    if not root.is_dir():
        raise NotFoundError(f"no folder {root}; --dataset folder:PATH takes {LAYOUT}")
    classes, train, test = _layout(root)
    shape = size or _own_shape(train[0][0])
    wanted = shape if isinstance(shape, Preprocessing) else _padded_to(shape)
    fitted = wanted if isinstance(size, Preprocessing) else None
    learned, held = (replace(_read(part, wanted), fitted=fitted) for part in (train, test))
    return Dataset(
        name=f"folder:{root.resolve()}",
        train=learned,
        test=held,
        classes=classes,
        source=str(root.resolve()),
        fingerprint=fingerprint(learned, held),
    )


def _layout(root: Path) -> tuple[tuple[str, ...], Labelled, Labelled]:
    """Return the classes, and training and test pictures with their labels, in a fixed order."""
    if (root / "train").is_dir():
        held = next((root / part for part in ("test", "val") if (root / part).is_dir()), None)
        if held is None:
            raise NotFoundError(f"{root} has train/ and neither test/ nor val/; wanted is {LAYOUT}")
        classes = _classes(root / "train")
        extra = sorted(set(_classes(held)) - set(classes))
        if extra:
            raise NotFoundError(f"{held} has classes that {root / 'train'} lacks: {', '.join(extra[:5])}")
        train, test = _pictures(root / "train", classes), _pictures(held, classes)
    else:
        classes = _classes(root)
        train, test = [], []
        for label, one in enumerate(classes):
            for index, (path, _) in enumerate(_pictures(root, (one,))):
                # the last of every five, so that a class of one or two pictures still trains
                (test if index % TEST_EVERY == TEST_EVERY - 1 else train).append((path, label))
    for part, found in (("training", train), ("test", test)):
        if not found:
            raise NotFoundError(
                f"{root} holds no {part} pictures ({', '.join(sorted(ENDINGS))}); wanted is {LAYOUT}, "
                f"with {TEST_EVERY} or more of a class where there is no test/"
            )
    return classes, train, test


def _classes(folder: Path) -> tuple[str, ...]:
    found = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if len(found) < 2:
        raise NotFoundError(
            f"{folder} holds {len(found)} class folders, two are the least; wanted is {LAYOUT}"
        )
    return found


def _pictures(folder: Path, classes: tuple[str, ...]) -> Labelled:
    return [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in ENDINGS and path.is_file() and not path.name.startswith(".")
    ]


def _own_shape(path: Path) -> tuple[int, int, int]:
    image = read_image(path)
    return (1 if image.mode == "L" else 3, image.height, image.width)


def _padded_to(shape: tuple[int, int, int]) -> Preprocessing:
    channels, height, width = shape
    return Preprocessing(size=(height, width), channels=channels)


def _read(pictures: Labelled, preprocessing: Preprocessing) -> Split:
    def read(entry: tuple[Path, int]) -> NDArray[np.uint8] | ImageError:
        try:
            return fit_pixels(read_image(entry[0]), preprocessing)
        except ImageError as error:
            return error

    # Pillow's decoders release the interpreter lock, so threads help
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(read, pictures))
    bad = [str(result) for result in results if isinstance(result, ImageError)]
    if bad:
        more = f", and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise CorruptError(f"{'; '.join(bad[:3])}{more}; remove or mend them")
    images = np.stack([result for result in results if not isinstance(result, ImageError)])
    return Split(images=images, labels=np.array([label for _, label in pictures], dtype=np.int64))


def listing(name: str) -> str | None:
    """Return a hash of the names, sizes and times of change of a folder's files; None where it is none."""
    root = Path(name.removeprefix("folder:")).expanduser()
    if not root.is_dir():
        return None
    states = {path: path.stat() for path in sorted(root.rglob("*")) if path.is_file()}
    told = ((p.relative_to(root).as_posix(), s.st_size, s.st_mtime_ns) for p, s in states.items())
    return hashlib.sha256("".join(map(repr, told)).encode()).hexdigest()


DATASET = DatasetSpec(
    name="image-folder",
    shape=None,
    classes=None,
    summary="your own pictures, one folder a class",
    licence="yours",
    train_images=None,
    load=load,
    scheme="folder",
    example="folder:PATH",
    layout="train/<class>/*.png with test/ or val/",
    listing=listing,
)
