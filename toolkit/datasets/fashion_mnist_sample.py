"""A small real sample of Fashion-MNIST that ships: 200 training and 50 test pictures of each class.

Used by tests and when asked for by name; never in place of the whole set. The file holds the first pictures
of each class, in the whole set's order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from toolkit.datasets import Dataset, DatasetSpec, Fit, Split, fingerprint
from toolkit.datasets.fashion_mnist import CLASSES
from toolkit.errors import CorruptError

FILE = Path(__file__).with_suffix(".npz")


def load(
    name: str = "fashion-mnist-sample",
    data_dir: Path | None = None,
    fetch: bool = True,
    size: Fit | None = None,
) -> Dataset:
    """Read the sample that ships; `data_dir`, `fetch` and `size` change nothing. Raises CorruptError."""
    try:
        with np.load(FILE, allow_pickle=False) as file:
            train = Split(images=file["train_images"], labels=file["train_labels"].astype(np.int64))
            test = Split(images=file["test_images"], labels=file["test_labels"].astype(np.int64))
    except Exception as error:  # numpy, zipfile and zlib each raise their own on a damaged file
        raise CorruptError(f"{FILE} is damaged ({error}); install cnnkit again") from None
    return Dataset(
        name=name,
        train=train,
        test=test,
        classes=CLASSES,
        source=f"{FILE} (ships with cnnkit)",
        fingerprint=fingerprint(train, test),
    )


DATASET = DatasetSpec(
    name="fashion-mnist-sample",
    shape=(1, 28, 28),
    classes=CLASSES,
    summary="a real sample of Fashion-MNIST that ships, 2,000 + 500",
    licence="MIT",
    train_images=2_000,
    read=load,
)
