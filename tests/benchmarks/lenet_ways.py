"""What each way of training lenet-maxpool on Fashion-MNIST brings beside its recipe `best`, by seed."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import click

from tests.benchmarks.kept_commands import Bench, told, tried

# LeNet's shape with 32 and 64 channels and batch norm: the teacher
WIDE = """
from collections import OrderedDict

from toolkit.models import ModelSpec, Recipe


def build(channels, classes):
    from torch import nn

    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 32, 5, padding=2, bias=False),
            norm1=nn.BatchNorm2d(32),
            act1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 5, bias=False),
            norm2=nn.BatchNorm2d(64),
            act2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(1600, 512),
            act3=nn.ReLU(),
            dropout1=nn.Dropout(0.3),
            fc2=nn.Linear(512, 128),
            act4=nn.ReLU(),
            dropout2=nn.Dropout(0.3),
            fc3=nn.Linear(128, classes),
        )
    )


RECIPE = Recipe(name="default", epochs=30, batch=128, optimizer="adamw", lr=3e-3, weight_decay=0.05,
                schedule="one-cycle", flip=True, shift_pixels=1, cutout_pixels=6, ema_decay=0.999,
                validation_fraction=0.0, select="last")
MODELS = (ModelSpec(name="wide", family="lenet", input_shape=(1, 28, 28), build=build,
                    recipes={"default": RECIPE}),)
"""
TEACHER = "wide"
# each beside `--recipe best`: 80 epochs of batches of 128, one cycle, flips, shifts by 1, holes, an average
WAYS: dict[str, tuple[object, ...]] = {
    "best": (),
    "mixup": ("--mixup", 0.1),
    "cutmix": ("--cutmix", 0.2),
    "erasing": ("--cutout-pixels", 0, "--erasing", 0.25),
    "shift 2": ("--shift-pixels", 2),
    "cycles": ("--schedule", "cosine", "--cycles", 4, "--average-from", 0.45, "--ema-decay", "none"),
    "less decay": ("--weight-decay", 0.01),
    "240 epochs": ("--epochs", 240),
    "teacher": ("--label-smoothing", 0, "--teacher", TEACHER),
    "teacher at 1": ("--teacher-temperature", 1, "--teacher-share", 0.7, "--teacher", TEACHER),
    "teacher, no holes": ("--label-smoothing", 0, "--cutout-pixels", 0, "--teacher", TEACHER),
    "teacher, 240 epochs": ("--label-smoothing", 0, "--teacher", TEACHER, "--epochs", 240),
}


@click.command()
@click.option("--way", "chosen", type=click.Choice(list(WAYS)), multiple=True, help="These alone.")
@click.option("--at-once", default=2, show_default=True, help="Trainings at once, each with one thread.")
@click.pass_obj
def ways(bench: Bench, chosen: tuple[str, ...], at_once: int) -> None:
    """Train lenet-maxpool on Fashion-MNIST in each way, by seed (1), and the teacher of some (seed 0)."""
    names = chosen or tuple(WAYS)
    common = (*(() if bench.more else ("--threads", 1)), "--dataset", "fashion-mnist")
    common += (*(("--images", bench.images) if bench.images else ()),)
    epochs = ("--epochs", bench.epochs) if bench.epochs else ()
    code = bench.folder / "wide.py"
    bench.folder.mkdir(parents=True, exist_ok=True)
    code.write_text(WIDE)
    found: dict[str, dict[int, float]] = {name: {} for name in names}

    def train(name: str, model: str, seed: int, *words: object) -> dict[str, Any] | None:
        call = partial(bench.cnnkit, name, "train", model, *words, *common, "--seed", seed)
        report: dict[str, Any] | None = tried(call)
        if report:
            last = report["history"][-1]
            print(
                f"seed {seed}, {name}: {report['test_accuracy']:.4f}, of those learned from "
                f"{last['train_accuracy']:.4f}, loss {last['train_loss']:.3f}, "
                f"{report['seconds']:.0f} s in {report['arithmetic']}",
                flush=True,
            )
        return report

    def student(name: str, seed: int, taught: Future[dict[str, Any] | None] | None) -> None:
        words = WAYS[name]
        if TEACHER in words:
            teacher = taught.result() if taught else None
            if teacher is None:
                return
            words = tuple(teacher["checkpoint"] if word == TEACHER else word for word in words)
            words += ("--model-file", code)
        kept = f"{name}-{seed}".replace(", ", "-").replace(" ", "-")
        report = train(kept, "lenet-maxpool", seed, "--recipe", "best", *words, *epochs)
        if report:
            found[name][seed] = report["test_accuracy"]

    def run() -> None:
        with ThreadPoolExecutor(at_once) as pool:
            taught = None
            if any(TEACHER in WAYS[name] for name in names):
                taught = pool.submit(train, TEACHER, TEACHER, 0, "--model-file", code)
            # those that wait for the teacher stand last
            order = sorted(names, key=lambda name: TEACHER in WAYS[name])
            works = [pool.submit(student, name, seed, taught) for name in order for seed in bench.few(1)]
            for done in works:
                done.result()

    bench.told(run)
    for name, figures in found.items():
        told(name, list(figures.values()))
