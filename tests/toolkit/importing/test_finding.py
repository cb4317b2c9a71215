"""`--find-preprocessing` finds what a network was made for, says how sure it is, and refuses to guess."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import cnnkit
from tests.toolkit.importing.conftest import Run, constant, node, value
from toolkit.errors import CnnkitError
from toolkit.importing.finding.deciding import SURE, Answers, best_of, clearly_worse, judged, mcnemar
from toolkit.importing.finding.pool import halves
from toolkit.preprocessing import Preprocessing, fit_batch, fit_pixels, normalise

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

CROPPED = Preprocessing(
    size=(16, 16),
    channels=3,
    order="bgr",
    resize="crop",
    crop_share=0.875,
    interpolation="bicubic",
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    formula="divide",
)


def nearest(centres: NDArray[np.float32], shape: tuple[int, ...], path: Path) -> Path:
    """Write a network that answers with the nearest of (K, values) centres: wrong scales are far from all."""
    size = centres.shape[1]
    nodes = [
        # as real networks do, it saturates beyond the values that it learned with
        node("Clip", ["x", "low", "high"], ["clipped"]),
        node("Flatten", ["clipped"], ["row"]),
        node("Gemm", ["row", "twice", "minus"], ["scores"], transB=1),
    ]
    low, high = float(centres.min()), float(centres.max())
    constants = [
        numpy_helper.from_array(np.float32(1.5 * low), "low"),
        numpy_helper.from_array(np.float32(1.5 * high), "high"),
        numpy_helper.from_array((2 * centres / size * 30).astype(np.float32), "twice"),
        constant("minus", *(-(centres**2).sum(axis=1) / size * 30)),
    ]
    ends = [value("x", ["n", *shape])], [value("scores", ["n", len(centres)])]
    graph = helper.make_graph(nodes, "nearest", *ends, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def centres_of(inputs: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    rows = inputs.reshape(len(inputs), -1)
    return np.stack([rows[labels == label].mean(axis=0) for label in range(labels.max() + 1)])


@pytest.fixture(scope="session")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of six classes of coloured textures, 21×27, whose details tell them apart."""
    root = tmp_path_factory.mktemp("textures")
    random = np.random.default_rng(3)
    for label in range(6):
        coarse = random.integers(40, 216, (9, 12, 3), dtype=np.uint8)
        whole = np.asarray(Image.fromarray(coarse).resize((27, 21), Image.Resampling.BICUBIC), np.float64)
        for part in ("train", "test"):
            folder = root / part / f"texture {label}"
            folder.mkdir(parents=True)
            for number in range(70):
                noisy = whole + random.normal(0, 200, whole.shape)
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return root


def test_a_network_of_photographs_is_found_with_its_order_crop_and_scale(
    textures: Path, tmp_path: Path, run: Run
) -> None:
    files = sorted((textures / "train").glob("*/*.png"))
    labels = np.array([int(path.parent.name[-1]) for path in files])
    pixels = np.stack([fit_pixels(Image.open(path), CROPPED) for path in files])
    path = nearest(centres_of(normalise(pixels, CROPPED), labels), (3, 16, 16), tmp_path / "far.onnx")
    words = ("import", path, "--dataset", f"folder:{textures}", "--find-preprocessing")
    result = run(*words, "--artifacts", tmp_path, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    tried = found["tried"]
    named = [one["preprocessing"] for one in tried if one["told_apart"] is False]
    assert found["preprocessing"] == {**named[0], "ground": found["preprocessing"]["ground"]}
    assert len(named) <= max(1, len(tried) // 10)
    facts = ("order", "resize", "crop_share", "scale", "mean", "std")
    true = json.loads(json.dumps(dataclasses.asdict(CROPPED)))
    assert any(all(one[fact] == true[fact] for fact in facts) for one in named)
    low, high = found["accuracy_ci95"]
    assert low <= found["accuracy"] <= high
    assert found["images"] == 210  # the half that took no part in the search
    # what is 5 points worse is never among them
    best = tried[0]["held_accuracy"]
    assert all(best - one["held_accuracy"] < 0.05 for one in tried if one["told_apart"] is False)


def test_the_pictures_own_mean_and_deviation_are_found_for_grey_ones(tmp_path: Path) -> None:
    from toolkit.datasets.fashion_mnist_sample import load

    train = load().train
    level = train.images / 255
    known = Preprocessing(
        size=(28, 28), channels=1, mean=(level.mean(),), std=(level.std(),), formula="divide"
    )
    inputs = normalise(fit_batch(train.images, known), known)
    path = nearest(centres_of(inputs, train.labels), (1, 28, 28), tmp_path / "grey.onnx")
    words = {"dataset": "fashion-mnist-sample", "root": tmp_path}
    made = cnnkit.import_(path, find=True, **words)
    found = made.passport.preprocessing
    assert found is not None
    assert found.mean == pytest.approx(known.mean, abs=1e-4)
    assert found.std == pytest.approx(known.std, abs=1e-4)
    assert (found.resize, found.interpolation, found.ground) == ("pad", "box-bilinear", "dark")
    assert made.passport.metrics.test_images == made.images == 250
    # without being asked, a look at the pictures takes what is clearly better than pixels / 255, and says so
    told: list[str] = []
    looked = cnnkit.import_(path, name="looked", tell=told.append, **words)
    assert looked.passport.preprocessing is not None
    assert looked.passport.preprocessing.mean == found.mean
    assert any("the pictures say otherwise, and that is taken" in line for line in told)
    assert not looked.tried


def test_what_was_said_is_not_varied(textures: Path, tmp_path: Path) -> None:
    path = nearest(np.zeros((6, 3 * 16 * 16), np.float32), (3, 16, 16), tmp_path / "a.onnx")
    words = {"dataset": f"folder:{textures}", "find": True, "root": tmp_path}
    with pytest.raises(CnnkitError, match=r"none of 4 combinations is better than a guess"):
        cnnkit.import_(path, order="rgb", resize="squash", mean=(0.1,), std=(0.2,), **words)
    assert not (tmp_path / "a").exists()


def test_a_handful_of_pictures_is_refused(textures: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    for part in ("train", "test"):
        for name in ("texture 0", "texture 1"):
            (few / part / name).mkdir(parents=True)
            for number in range(2):
                (few / part / name / f"{number}.png").symlink_to(textures / part / name / f"{number}.png")
    path = nearest(np.eye(2, 3 * 16 * 16, dtype=np.float32), (3, 16, 16), tmp_path / "a.onnx")
    with pytest.raises(CnnkitError, match="8 labelled pictures cannot tell combinations apart"):
        cnnkit.import_(path, dataset=f"folder:{few}", find=True, root=tmp_path)


def test_mcnemar_is_exact() -> None:
    """Five pictures that one alone gets right, none the other way: 2 × 2^-5."""
    one = np.array([True] * 5 + [True] * 20 + [False] * 5)
    other = np.array([False] * 5 + [True] * 20 + [False] * 5)
    assert mcnemar(one, other) == pytest.approx(2 / 32)
    assert mcnemar(one, one) == 1.0


@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_nobody_is_clearly_worse_than_an_equal_and_the_best_is_never_dropped(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    field = [Answers(right=random.random(count) < 0.6, losses=random.random(count)) for _ in range(5)]
    best = field[best_of(field)]
    assert not clearly_worse(best, best)
    leader = max(field, key=lambda one: one.accuracy)
    assert not (best.accuracy < leader.accuracy and mcnemar(best.right, leader.right) < SURE)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=80), st.integers(0, 99))
def test_halves_share_each_class_and_every_picture_once(given_labels: list[int], seed: int) -> None:
    labels = np.array(given_labels)
    order, searched = halves(labels, seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    counts = [np.bincount(labels[part], minlength=5) for part in (order[:searched], order[searched:])]
    assert np.abs(counts[0] - counts[1]).max() <= 1


def test_less_contrast_alone_is_no_fault() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    scores = np.eye(3, dtype=np.float32)[labels] * 2 + random.normal(0, 1, (200, 3)).astype(np.float32)
    sure = judged(scores * 4, labels, probabilities=False)
    unsure = judged(scores / 3, labels, probabilities=False)
    assert sure.accuracy == unsure.accuracy
    assert not clearly_worse(unsure, sure)
    assert not clearly_worse(sure, unsure)
