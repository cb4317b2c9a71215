"""Test accuracy by epoch, SGD against Adam, as cifar10-experiments tables it: a sweep over `--epochs`.

A run of k epochs at a constant rate is what a longer one was after its k-th, and only a run's end reads the
test set; so each figure is a run of its own.
"""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from pathlib import Path

SWEEP = Path(__file__).parents[2] / "docs/sweeps/cifarnet-epochs.csv"
COMMAND = (
    "cnnkit sweep cifarnet --recipe textbook,textbook-adam --epochs 1,2,3,4,5,6,7,8,9,10,11,12 --seed 0,1 "
    "--precision fp32 --threads 1 --dataset folder:cifar10-jpeg75"
)
# percent, after epochs 1 to 12
PUBLISHED = {
    "textbook": (16, 29, 36, 40, 43, 46, 48, 50, 51, 53, 55, 56),
    "textbook-adam": (48, 54, 57, 60, 62, 62, 63, 64, 63, 65, 64, 65),
}


def epochs_table(path: Path = SWEEP) -> list[str]:
    """Return the page's paragraph and table; nothing where the sweep has not been made."""
    if not path.exists():
        return []
    figures: dict[tuple[str, int], list[float]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            figures[row["recipe"], int(row["epochs"])].append(float(row["test_accuracy"]))
    runs = max(map(len, figures.values()))
    text = [
        f"Test accuracy by epoch, each figure the mean of {runs} runs that end there "
        f"([sweep](sweeps/{path.name}), `{COMMAND}`):",
        "",
        "| epoch | SGD, published | here | Adam, published | here |",
        "|---|---|---|---|---|",
    ]
    for index in range(12):
        cells = [f"{index + 1}"]
        for recipe, percents in PUBLISHED.items():
            cells += [f"{percents[index] / 100:.2f}", _mean(figures[recipe, index + 1])]
        text.append(f"| {' | '.join(cells)} |")
    return ["\n".join(text) + "\n"]


def _mean(figures: list[float]) -> str:
    if not figures:
        return "not run yet"
    mean = f"{statistics.mean(figures):.3f}"
    return f"{mean} ± {statistics.stdev(figures):.3f}" if len(figures) > 1 else mean
