"""Training speed and memory: against loops as people write them, the input pipeline alone, time to 0.90.

- Against a plain torchvision DataLoader loop (lenet), without workers (the fastest on two cores) and with
  two, as the first write-up ran it; and against an eager fp32 NCHW loop over batches that
  lie in memory (alexnet28, cifarnet-best): same net, batch, optimizer and pictures. Both sides run in
  processes of their own, in turn; the medians' ratio is printed. `cnnkit train` runs its textbook recipe.
- The input pipeline: index, flip, shift, normalise, on one thread.
- From the start of `cnnkit train lenet-maxpool --recipe fast` to the checkpoint, and its peak memory.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

ROUNDS = 3
# model, batch, images, data set, what against, wanted ratio; runs of fewer than 200 steps try no bf16
CASES = (
    ("lenet", 64, 30_000, "fashion-mnist", "loader", 2.5),
    ("lenet", 64, 30_000, "fashion-mnist", "workers", None),
    ("lenet", 256, 60_000, "fashion-mnist", "loader", 2.5),
    ("alexnet28", 128, 30_000, "fashion-mnist", "eager", 1.8),
    ("cifarnet-best", 64, 12_864, None, "eager", 1.8),
)
FLAT = {"cifarnet-best": ("--weight-decay", "0", "--augmix", "0", "--crop-padding", "0", "--no-flip")}


def eager_loop(model: str, batch: int, images: int) -> float:
    """Train on batches that lie in memory, in fp32 NCHW; return images a second."""
    import torch
    from torch.nn import functional

    from toolkit import zoo

    spec = zoo.model(model)
    channels, height, width = spec.input_shape
    module = spec.build(channels, spec.classes)
    recipe = spec.recipe("textbook")
    kind = torch.optim.SGD if recipe.optimizer == "sgd" else torch.optim.Adam
    optimizer = kind(module.parameters(), lr=recipe.lr)
    # what the pixels hold changes no figure, so this side needs no data set
    inputs, labels = torch.rand(batch, channels, height, width), torch.arange(batch) % spec.classes
    start = time.perf_counter()
    for _ in range(images // batch):
        optimizer.zero_grad()
        functional.cross_entropy(module(inputs), labels).backward()
        optimizer.step()
    return images // batch * batch / (time.perf_counter() - start)


def loader_loop(model: str, batch: int, images: int, workers: int = 0) -> float:
    """Train one epoch as tutorials do, with loss and accuracy summed; return images a second."""
    import torch
    from PIL import Image
    from torch.nn import functional
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    from toolkit import zoo
    from toolkit.datasets import dataset_of

    data = dataset_of("fashion-mnist").load("fashion-mnist", None, True, None).train.take(slice(images))

    class Pictures(Dataset[tuple[torch.Tensor, int]]):
        """Does per picture what torchvision.datasets.FashionMNIST with ToTensor does."""

        def __init__(self) -> None:
            self.images = torch.from_numpy(data.images[:, 0].copy())
            self.to_tensor = transforms.ToTensor()

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return self.to_tensor(Image.fromarray(self.images[index].numpy())), int(data.labels[index])

    spec = zoo.model(model)
    module = spec.build(1, 10)
    recipe = spec.recipe("textbook")
    optimizer = torch.optim.SGD(module.parameters(), lr=recipe.lr)
    loader = DataLoader(Pictures(), batch_size=batch, shuffle=True, num_workers=workers)
    loss_sum, right = 0.0, 0
    start = time.perf_counter()
    for pictures, labels in loader:
        optimizer.zero_grad()
        scores = module(pictures)
        loss = functional.cross_entropy(scores, labels)
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(labels)
        right += int((scores.argmax(1) == labels).sum())
    return len(data) / (time.perf_counter() - start)


def cnnkit_train(model: str, *options: str) -> dict[str, Any]:
    """Run `cnnkit train` with artifacts that are thrown away; return what it tells, and the wall time."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cnnkit", "train", model, *options, "--artifacts", folder, "--json"]
        start = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return {**json.loads(done.stdout), "wall_s": time.perf_counter() - start}


def pipeline() -> float:
    """Return the images of 28×28 a second that are indexed, flipped, shifted and normalised on a core."""
    import numpy as np
    import torch

    from toolkit.datasets import Split
    from toolkit.models import Recipe
    from toolkit.training.data.batches import InputTransform, MemoryBatches
    from toolkit.training.data.prepare import preprocessing_for

    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (60_000, 1, 28, 28), dtype=np.uint8)
    data = Split(images=pixels, labels=np.zeros(60_000, dtype=np.int64))
    recipe = Recipe(name="bench", batch=128, flip=True, shift_pixels=1)
    transform = InputTransform(
        preprocessing=preprocessing_for(recipe, data, (28, 28)), device=torch.device("cpu")
    )
    batches = MemoryBatches(data, recipe, 0, transform)
    speeds = []
    for epoch in range(5):
        start = time.perf_counter()
        count = sum(len(labels) for _, labels in batches.epoch(epoch))
        speeds.append(count / (time.perf_counter() - start))
    return statistics.median(speeds)


def compare(
    model: str, batch: int, images: int, dataset: str | None, against: str, wanted: float | None
) -> None:
    """Print one case's line."""
    options = ["--recipe", "textbook", "--epochs", "1", "--batch", str(batch), *FLAT.get(model, ())]
    with tempfile.TemporaryDirectory() as folder:
        if dataset is None:
            paint(Path(folder), images)
            dataset = f"folder:{folder}"
        else:
            options += ["--images", str(images)]
        theirs, ours = [], []
        for _ in range(ROUNDS):
            # every step of an eager loop is alike, so fewer tell its speed
            count = images // 4 if against == "eager" else images
            command = [sys.executable, "-m", "tests.benchmarks.bench_train", against, model, str(batch)]
            answer = subprocess.run([*command, str(count)], check=True, capture_output=True, text=True)
            theirs.append(float(answer.stdout))
            told = cnnkit_train(model, *options, "--dataset", dataset)
            ours.append(float(told["images_per_second"]))
    slow, fast = statistics.median(theirs), statistics.median(ours)
    name = {"loader": "DataLoader loop", "workers": "the same, 2 workers", "eager": "fp32 eager loop"}[
        against
    ]
    asked = "" if wanted is None else f" (wanted: {wanted})"
    print(
        f"{model:13} batch {batch:4}: {name} {slow:8,.0f}   cnnkit {fast:8,.0f} ({told['arithmetic']}, "
        f"{told['layout']})   ratio {fast / slow:.2f}{asked}",
        flush=True,
    )


def paint(folder: Path, images: int) -> None:
    """Write so many 32×32 colour pictures of noise in ten classes: speed asks no more."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for part, count in (("train", images), ("test", 20)):
        for index in range(count):
            place = folder / part / str(index % 10)
            place.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{index}.bmp")


def time_to_accuracy() -> None:
    """Print how long the fast recipe takes from the command to the checkpoint, and what it holds."""
    runs = [cnnkit_train("lenet-maxpool", "--recipe", "fast", "--seed", str(seed)) for seed in range(ROUNDS)]
    for seed, run in enumerate(runs):
        print(
            f"lenet-maxpool --recipe fast, seed {seed}: test accuracy {run['test_accuracy']:.4f} after "
            f"{run['wall_s']:.1f} s (wanted: 0.90, 20 s), peak {run['peak_memory_bytes'] / 2**20:,.0f} MiB "
            "(wanted: 1,430)",
            flush=True,
        )


def main() -> None:
    """Print every figure."""
    print("images a second, median of", ROUNDS, "runs in turn, one epoch each")
    for case in CASES:
        compare(*case)
    print(f"input pipeline on one core: {pipeline():,.0f} images a second (wanted: 100,000)", flush=True)
    time_to_accuracy()


if __name__ == "__main__":
    if len(sys.argv) == 5:
        loops = {"loader": loader_loop, "workers": partial(loader_loop, workers=2), "eager": eager_loop}
        loop = loops[sys.argv[1]]
        print(loop(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    else:
        main()
