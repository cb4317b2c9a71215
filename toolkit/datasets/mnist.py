"""MNIST: 70,000 grey 28×28 pictures of handwritten digits.

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits" (1998).
"""

from __future__ import annotations

from functools import partial

from toolkit.datasets import DatasetSpec
from toolkit.datasets._idx import IdxFiles, load_idx
from toolkit.fetching import torchvision_mirrors

CLASSES = tuple(str(digit) for digit in range(10))
FILES = IdxFiles(
    name="mnist",
    title="MNIST",
    classes=CLASSES,
    hashes={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    mirrors=lambda: torchvision_mirrors("MNIST"),
)


# 60,000 + 10,000 pictures
load = partial(load_idx, FILES)

DATASET = DatasetSpec(
    name="mnist",
    shape=(1, 28, 28),
    classes=CLASSES,
    summary="handwritten digits, 60,000 + 10,000 grey 28×28 pictures",
    licence="CC BY-SA 3.0",
    train_images=60_000,
    read=load,
)
