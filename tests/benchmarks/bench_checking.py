"""`cnnkit check` on faults planted into real pictures, beside imagededup, cleanvision and cleanlab.

python -m tests.benchmarks.bench_checking --pictures FOLDER_OF_CLASSES --others PYTHON

Of each kind of likeness so many are planted among other pictures of a folder, and labels are exchanged.
Duplicates are asked of `cnnkit check`, of imagededup's perceptual hash and of cleanvision, as each comes;
labels of ours and of cleanlab, with the same held-out probabilities. `--others` is the interpreter of an
environment with these three; without it they are left out. Without `--pictures` the sample of Fashion-MNIST
that ships is taken. Pairs that nobody planted are counted, and may be true: such sets have some of their own.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from toolkit.checking.confident import judge
from toolkit.checking.learning import FOLDS, held_out_probabilities
from toolkit.datasets.fashion_mnist_sample import load

Alter = Callable[[Image.Image], Image.Image]
Labels = np.ndarray[tuple[int], np.dtype[np.int64]]


def moved(pixels: int) -> Alter:
    """Move a picture to the right, its left edge repeated."""

    def alter(image: Image.Image) -> Image.Image:
        values = np.asarray(image)
        edge = np.repeat(values[:, :1], pixels, axis=1)
        return Image.fromarray(np.concatenate([edge, values[:, :-pixels]], axis=1))

    return alter


def saved(quality: int) -> Alter:
    """Save a picture as JPEG and read it."""

    def alter(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "jpeg", quality=quality)
        return Image.open(buffer).copy()

    return alter


def through(size: float) -> Alter:
    """Enlarge a picture and reduce it again."""

    def alter(image: Image.Image) -> Image.Image:
        larger = image.resize(
            (round(image.width * size), round(image.height * size)), Image.Resampling.BICUBIC
        )
        return larger.resize(image.size, Image.Resampling.BICUBIC)

    return alter


KINDS: dict[str, Alter] = {
    "the same pixels": lambda image: image,
    "saved again, quality 50": saved(50),
    "moved 1 pixel": moved(1),
    "moved 2 pixels": moved(2),
    "mirrored": ImageOps.mirror,
    "brighter by a fifth": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "enlarged and reduced": through(1.5),
}

DUPLICATES = """
import json, sys, time
from pathlib import Path
folder = sys.argv[1]
began = time.perf_counter()
if sys.argv[2] == "imagededup":
    from imagededup.methods import PHash
    found = PHash(verbose=False).find_duplicates(image_dir=folder, recursive=True, num_enc_workers=0,
                                                 num_dist_workers=0)
    pairs = {tuple(sorted((a, b))) for a, others in found.items() for b in others}
else:
    from cleanvision import Imagelab
    lab = Imagelab(data_path=folder, verbose=False)
    lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=1, verbose=False)
    sets = [s for kind in ("exact_duplicates", "near_duplicates") for s in lab.info[kind]["sets"]]
    pairs = {tuple(sorted((a, b))) for s in sets for a in s for b in s if a < b}
print("\\n" + json.dumps({"pairs": [[Path(a).name, Path(b).name] for a, b in pairs],
                        "seconds": time.perf_counter() - began}))
"""
LABELS = """
import json, sys
import numpy as np
from cleanlab.filter import find_label_issues
held = np.load(sys.argv[1])
print("\\n" + json.dumps(find_label_issues(held["labels"], held["probabilities"]).nonzero()[0].tolist()))
"""


def real(folder: Path | None, count: int) -> tuple[list[Image.Image], Labels]:
    """Return so many pictures and their labels, the same at each run."""
    drawn = np.random.default_rng(0)
    if folder is None:
        split = load().train
        rows = drawn.permutation(len(split.labels))[:count]
        return [Image.fromarray(split.images[row, 0]) for row in rows], split.labels[rows].astype(np.int64)
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    every = [(path, label) for label, held in enumerate(classes) for path in sorted(held.iterdir())]
    chosen = [every[row] for row in drawn.permutation(len(every))[:count]]
    return [Image.open(path).copy() for path, _ in chosen], np.array([label for _, label in chosen])


def found_pairs(pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    return {(min(pair), max(pair)) for pair in pairs}


def ours(folder: Path) -> tuple[set[tuple[str, str]], float]:
    """Return the pairs of names that lie in one group, and the seconds that the command took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "cnnkit", "check", f"folder:{folder}", "--no-labels", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - began
    groups = [[Path(file).name for file in group["files"]] for group in json.loads(done.stdout)["duplicates"]]
    return found_pairs(pair for names in groups for pair in combinations(sorted(names), 2)), seconds


def theirs(python: str, folder: Path, tool: str) -> tuple[set[tuple[str, str]], float]:
    done = subprocess.run(
        [python, "-c", DUPLICATES, str(folder), tool], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return found_pairs((a, b) for a, b in found["pairs"]), found["seconds"]


def bench_duplicates(images: list[Image.Image], planted: int, python: str | None) -> None:
    """Print the share of each planted kind that each tool names."""
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held) / "train" / "all"
        folder.mkdir(parents=True)
        (Path(held) / "train" / "none").mkdir()
        for number, image in enumerate(images):
            image.save(folder / f"{number:05}.png")
        images[0].save(Path(held) / "train" / "none" / "other.png")
        twins: dict[str, list[tuple[str, str]]] = {}
        for turn, (kind, alter) in enumerate(KINDS.items()):
            for number in range(turn * planted, (turn + 1) * planted):
                alter(images[number]).save(folder / f"{number:05}-twin.png")
                twins.setdefault(kind, []).append((f"{number:05}-twin.png", f"{number:05}.png"))
        tools = {"cnnkit check": lambda: ours(Path(held) / "train")}
        if python:
            for tool in ("imagededup", "cleanvision"):
                tools[tool] = lambda tool=tool: theirs(python, Path(held) / "train", tool)  # type: ignore[misc]
        print(f"{len(images):,} pictures, {planted} of each kind planted")
        known = {pair for pairs in twins.values() for pair in found_pairs(pairs)}
        for tool, ask in tools.items():
            found, seconds = ask()
            shares = ", ".join(
                f"{kind} {len(found_pairs(pairs) & found) / planted:.2f}" for kind, pairs in twins.items()
            )
            print(f"  {tool} ({seconds:.1f} s): {shares}; {len(found - known)} other pairs")


def bench_labels(
    images: list[Image.Image], labels: np.ndarray[tuple[int], np.dtype[np.int64]], python: str | None
) -> None:
    """Print how many of the exchanged labels are found, and how many of those doubted were exchanged."""
    drawn = np.random.default_rng(1)
    wrong = np.zeros(len(labels), dtype=bool)
    wrong[drawn.permutation(len(labels))[: len(labels) // 20]] = True
    classes = int(labels.max()) + 1
    told = np.where(wrong, (labels + drawn.integers(1, classes, len(labels))) % classes, labels)
    pixels = np.stack([np.atleast_3d(np.asarray(one.resize((32, 32)))).transpose(2, 0, 1) for one in images])
    folds = drawn.integers(0, FOLDS, len(labels))
    shares = held_out_probabilities(pixels, told, folds, classes=classes, seed=0)
    print(
        f"{len(labels):,} labels, {wrong.sum()} exchanged; {(shares.argmax(1) == told).mean():.3f} as judged"
    )
    found = {"cnnkit check": judge(shares, told).doubted}
    if python:
        with tempfile.TemporaryDirectory() as held:
            path = Path(held) / "judged.npz"
            np.savez(path, labels=told, probabilities=shares)
            done = subprocess.run(
                [python, "-c", LABELS, str(path)], capture_output=True, text=True, check=True
            )
        found["cleanlab"] = np.zeros(len(labels), dtype=bool)
        found["cleanlab"][json.loads(done.stdout.splitlines()[-1])] = True
    for tool, doubted in found.items():
        caught = (doubted & wrong).sum()
        print(
            f"  {tool}: {caught / wrong.sum():.2f} of the exchanged, {caught / max(1, doubted.sum()):.2f} of "
            f"the {doubted.sum()} doubted"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--pictures", type=Path, help="a folder of classes; without it, the sample that ships"
    )
    parser.add_argument("--others", help="interpreter of an environment with the other tools")
    parser.add_argument("--count", type=int, default=4_000)
    parser.add_argument("--planted", type=int, default=100)
    asked = parser.parse_args()
    images, labels = real(asked.pictures, asked.count)
    bench_duplicates(images, asked.planted, asked.others)
    bench_labels(images, labels, asked.others)


if __name__ == "__main__":
    main()
