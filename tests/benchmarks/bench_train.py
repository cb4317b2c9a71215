"""Training images a second against a plain torchvision DataLoader loop: same net, batch, optimizer and data.

Both sides run in processes of their own, in turn, on the same images; the medians' ratio is printed.
`cnnkit train` runs its textbook recipe, which does exactly what the plain loop does: pixels / 255, SGD.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 3
IMAGES = 30_000
CASES = (("lenet", 64), ("lenet", 256), ("alexnet28", 128))
TARGETS = {"lenet": 2.5, "alexnet28": 1.8}


def plain_loop(model: str, batch: int) -> float:
    """Train one epoch as tutorials do; return images a second."""
    import torch
    from PIL import Image
    from torch.nn import functional
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    from toolkit import catalog

    data = catalog.dataset("fashion-mnist").load("fashion-mnist", None, True, None).train.take(slice(IMAGES))

    class Pictures(Dataset[tuple[torch.Tensor, int]]):
        """Does per picture what torchvision.datasets.FashionMNIST with ToTensor does."""

        def __init__(self) -> None:
            self.images = torch.from_numpy(data.images[:, 0].copy())
            self.to_tensor = transforms.ToTensor()

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return self.to_tensor(Image.fromarray(self.images[index].numpy())), int(data.labels[index])

    spec = catalog.model(model)
    module = spec.build(1, 10)
    recipe = spec.recipe("textbook")
    optimizer = torch.optim.SGD(module.parameters(), lr=recipe.lr)
    loader = DataLoader(Pictures(), batch_size=batch, shuffle=True)
    start = time.perf_counter()
    for images, labels in loader:
        optimizer.zero_grad()
        functional.cross_entropy(module(images), labels).backward()
        optimizer.step()
    return len(data) / (time.perf_counter() - start)


def cnnkit_train(model: str, batch: int) -> float:
    """Train one epoch with `cnnkit train`; return the images a second that it tells."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cnnkit", "train", model, "--recipe", "textbook", "--epochs", "1"]
        command += ["--batch", str(batch), "--images", str(IMAGES), "--artifacts", folder, "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["images_per_second"])


def main() -> None:
    """Print one line a case."""
    print("images a second, median of", ROUNDS, "runs in turn, one epoch of", f"{IMAGES:,} images each")
    for model, batch in CASES:
        plain, ours = [], []
        for _ in range(ROUNDS):
            command = [sys.executable, "-m", "tests.benchmarks.bench_train", model, str(batch)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
            plain.append(float(answer.stdout))
            ours.append(cnnkit_train(model, batch))
        slow, fast = statistics.median(plain), statistics.median(ours)
        print(
            f"{model:10} batch {batch:4}: DataLoader loop {slow:8,.0f}   cnnkit {fast:8,.0f}   "
            f"ratio {fast / slow:.2f} (wanted: {TARGETS[model]})",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(plain_loop(sys.argv[1], int(sys.argv[2])))
    else:
        main()
