"""Fashion-MNIST: 70,000 grey 28×28 pictures of clothing in ten classes.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
algorithms" (2017). Licence: MIT.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from toolkit.datasets import Dataset, DatasetSpec, Split, fingerprint
from toolkit.datasets._fetch import from_debian_package, from_mirrors
from toolkit.datasets._idx import IdxFiles, cache_folder, given_folders, holds, read
from toolkit.errors import CnnkitError, NotFoundError

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FILES = IdxFiles(
    name="fashion-mnist",
    hashes={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
)
PACKAGE = "dataset-fashion-mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def _mirrors() -> tuple[str, ...]:
    """Return the addresses that torchvision fetches from; none where it is not installed."""
    try:
        from torchvision.datasets import FashionMNIST
    except ImportError:
        return ()
    return tuple(str(mirror) for mirror in FashionMNIST.mirrors)


def load(
    name: str = "fashion-mnist",
    data_dir: Path | None = None,
    fetch: bool = True,
    size: tuple[int, int, int] | None = None,
) -> Dataset:
    """Find, verify and read the four files; images are (N, 1, 28, 28) uint8.

    Raises CorruptError for damaged files, NotFoundError with all that was tried and what to type.
    """
    folder, source = _find(data_dir, fetch)
    arrays = [read(folder, file, digest) for file, digest in FILES.hashes.items()]
    train = Split(images=arrays[0][:, None], labels=arrays[1].astype(np.int64))
    test = Split(images=arrays[2][:, None], labels=arrays[3].astype(np.int64))
    return Dataset(
        name=name,
        train=train,
        test=test,
        classes=CLASSES,
        source=source,
        fingerprint=fingerprint(train, test),
    )


def _find(data_dir: Path | None, fetch: bool) -> tuple[Path, str]:
    tried = []
    if data_dir is not None and not any(
        holds(folder, FILES) for label, folder in given_folders(FILES.name, data_dir) if label == "--data-dir"
    ):
        raise NotFoundError(
            f"--data-dir {data_dir} holds no Fashion-MNIST (looked there and in {data_dir / FILES.name} "
            f"for {', '.join(FILES.hashes)}, plain or .gz); leave the option out to search elsewhere"
        )
    places = [*given_folders(FILES.name, data_dir), (f"Debian's package {PACKAGE}", DEBIAN)]
    for label, folder in places:
        if holds(folder, FILES):
            return folder, f"{folder} ({label})"
        tried.append(f"{folder} ({label}): not there")
    if fetch:
        kept = cache_folder() / FILES.name
        for label, get in (
            ("torchvision's mirrors", partial(from_mirrors, _mirrors(), list(FILES.hashes))),
            (f"Debian's package {PACKAGE}", partial(from_debian_package, PACKAGE, str(DEBIAN)[1:])),
        ):
            try:
                return kept, f"{kept} (just fetched: {get(kept)})"
            except CnnkitError as error:
                tried.append(f"{label}: {error}")
    raise NotFoundError(
        f"Fashion-MNIST is not here; tried {'; '.join(tried)}. On Debian `apt-get install {PACKAGE}` "
        "brings it; else put the four IDX files into a folder and add `--data-dir FOLDER`; "
        "`--dataset fashion-mnist-sample` is a small sample that needs nothing"
    )


DATASET = DatasetSpec(
    name="fashion-mnist",
    shape=(1, 28, 28),
    classes=CLASSES,
    summary="clothing, 60,000 + 10,000 grey 28×28 pictures",
    licence="MIT",
    train_images=60_000,
    load=load,
)
