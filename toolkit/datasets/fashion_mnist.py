"""Fashion-MNIST: 70,000 grey 28×28 pictures of clothing in ten classes.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
algorithms" (2017). Licence: MIT.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from toolkit.datasets import DatasetSpec
from toolkit.datasets._idx import IdxFiles, load_idx
from toolkit.fetching import torchvision_mirrors

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
    title="Fashion-MNIST",
    classes=CLASSES,
    hashes={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    mirrors=lambda: torchvision_mirrors("FashionMNIST"),
    debian=("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist")),
)


# 60,000 + 10,000 pictures
load = partial(load_idx, FILES)

DATASET = DatasetSpec(
    name="fashion-mnist",
    shape=(1, 28, 28),
    classes=CLASSES,
    summary="clothing, 60,000 + 10,000 grey 28×28 pictures",
    licence="MIT",
    train_images=60_000,
    read=load,
    sample="fashion-mnist-sample",
)
