"""Two ranks of one thread against one rank of one thread, in images a second; one process of two beside them.

python -m tests.benchmarks.bench_ranks              # alexnet28: fp32 at batch 64, bf16 at batch 256
python -m tests.benchmarks.bench_ranks --rounds 5 --epochs 6

Each round trains all of them in turn on the sample; what counts is the median of the epochs after the first.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click

WAYS = {
    "1 rank of 1 thread": ("--threads", "1"),
    "2 ranks of 1 thread": ("--ranks", "2", "--threads", "1"),
    "1 process of 2 threads": ("--threads", "2"),
}
CASES = (("fp32", 64), ("bf16", 256))


def images_per_second(way: tuple[str, ...], precision: str, batch: int, epochs: int) -> float:
    """Train, and return the median rate of the epochs after the first."""
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, "-m", "cnnkit", "train", "alexnet28", "--dataset", "fashion-mnist-sample"]
        command += ["--precision", precision, "--batch", str(batch), "--epochs", str(epochs), *way]
        command += ["--json", "--artifacts", root]
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        report = json.loads(ran.stdout)
        images = json.loads(Path(report["checkpoint"] + ".json").read_text("utf-8"))["training_images"]
        whole = images // batch * batch + (images % batch if images % batch > 1 else 0)
        return statistics.median(whole / epoch["seconds"] for epoch in report["history"][1:])


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--epochs", default=4, show_default=True)
def main(rounds: int, epochs: int) -> None:
    for precision, batch in CASES:
        found: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(rounds):
            for name, way in WAYS.items():
                found[name].append(images_per_second(way, precision, batch, epochs))
        base = found["1 rank of 1 thread"]
        for name, rates in found.items():
            ratio = statistics.median(rate / one for rate, one in zip(rates, base, strict=True))
            print(
                f"{precision}, batch {batch}, {name}: {statistics.median(rates):,.0f} images/s, {ratio:.2f}"
            )


if __name__ == "__main__":
    main()
