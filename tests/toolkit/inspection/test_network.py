"""`load` opens what a command would; a Network takes pictures in every form in which Python holds them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import cnnkit
from cnnkit import front_door
from tests.toolkit.profiling.reports.test_notebook import Read
from toolkit.artifacts import shipped_root
from toolkit.datasets import Dataset
from toolkit.errors import CnnkitError, ImageError, NotFoundError, OtherPrecisionError, ShapeError
from toolkit.inspection.prediction import Refusal

NAME = "lenet-maxpool"


def test_every_form_of_one_picture_is_answered_alike(sample: Dataset, tmp_path: Path) -> None:
    pixels = sample.test.images[0]
    path = tmp_path / "boot.png"
    Image.fromarray(pixels[0]).save(path)
    with cnnkit.load(NAME) as network:
        forms = [
            str(path),
            path,
            path.read_bytes(),
            Image.open(path),
            pixels,
            pixels[0],
            pixels[0][..., None],
        ]
        found = network.predict(forms, top=2)
        assert len(found) == len(forms)
        assert {one.top for one in found} == {found[0].top}
        assert len(found[0].top) == 2
        assert [one.source for one in found[:3]] == [path, path, "picture 3"]
        for form in forms:
            (alone,) = network.predict(form, 2)
            assert alone.top == found[0].top


def test_an_array_of_pictures_is_as_many(sample: Dataset) -> None:
    with cnnkit.load(NAME) as network:
        found = network.predict(sample.test.images[:40])
        one_by_one = [network.predict(image)[0].top for image in sample.test.images[:40]]
    assert [one.top for one in found] == one_by_one
    assert network.passport.classes == sample.classes


def test_colours_are_taken_with_their_channels_first_or_last() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    with cnnkit.load(NAME) as network:
        last, first, own = network.predict([image, np.moveaxis(image, -1, 0), Image.fromarray(image)])
    assert last.top == first.top == own.top


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (np.zeros((28, 28), np.float32), r"picture 1 is an array of float32, 28×28; pictures are uint8"),
        (np.zeros((2, 28, 28), np.uint8), r"an array of uint8, 2×28×28"),
        (np.zeros((0, 28), np.uint8), r"0×28"),
        (b"no picture", r"picture 1 is no picture that can be read"),
        ("gone.png", r"gone\.png cannot be read"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(picture: object, why: str) -> None:
    with cnnkit.load(NAME) as network:
        with pytest.raises(ImageError, match=why):
            network.predict(picture)  # type: ignore[arg-type]
        refused: list[Refusal] = []
        assert network.predict([picture], on_refusal=refused.append) == ()  # type: ignore[list-item]
        assert len(refused) == 1


def test_an_evaluation_holds_what_the_command_prints(sample: Dataset) -> None:
    told: list[str] = []
    seen: list[tuple[int, int]] = []
    with cnnkit.load(NAME, tell=told.append) as network:
        found = network.evaluate(
            sample.name, first=100, tell=told.append, on_batch=lambda done, of: seen.append((done, of))
        )
        again = network.predict_dataset(sample.name, first=100)
    assert seen == [(64, 100), (100, 100)]
    assert found.images == 100
    assert again.right == round(100 * found.accuracy)
    assert told[0].startswith("opened ")
    assert "100 test pictures of fashion-mnist-sample" in told[2]
    assert "Ankle boot" in Read(found._repr_html_()).texts


def test_a_network_with_numbers_for_names_is_judged_as_eval_judges_it(sample: Dataset) -> None:
    with cnnkit.load(NAME) as network:
        named, named_score = network.predict_dataset(sample.name, first=100), network.evaluate(sample.name)
        artifact = network.artifact
        numbers = tuple(str(index) for index in range(10))
        passport = replace(artifact.passport, classes=numbers, dataset=None)
        network.engine.artifact = replace(artifact, passport=passport)
        numbered, score = network.predict_dataset(sample.name, first=100), network.evaluate(sample.name)
    assert score.accuracy == named_score.accuracy
    assert (numbered.right, [one.right for one in numbered]) == (named.right, [one.right for one in named])
    assert [one.top for one in numbered] == [one.top for one in named]  # in the data set's words


def test_a_precision_that_is_typed_for_a_file_is_no_default(tmp_path: Path) -> None:
    path = shipped_root() / NAME / f"{NAME}.onnx"
    picture = tmp_path / "dark.png"
    Image.new("L", (28, 28)).save(picture)
    words = ["predict", str(path), str(picture), "--artifacts", str(tmp_path)]
    for more, status in (([], 0), (["--precision", "fp32"], 0), (["--int8"], 1)):
        done = CliRunner().invoke(front_door.main, [*words, *more])
        assert done.exit_code == status, done.output
    assert f"{NAME}.onnx is fp32, not int8: leave --precision away" in " ".join(done.stderr.split())
    with pytest.raises(OtherPrecisionError, match="is fp32, not fp16"):
        cnnkit.load(path, precision="fp16")


def test_run_takes_the_networks_input_and_says_what_does_not_fit() -> None:
    with cnnkit.load(NAME, backend="ort") as network:
        assert network.why is None
        (answers,) = network.run(np.zeros((3, 1, 28, 28), np.float32))
        assert answers.shape == (3, 10)
        with pytest.raises(ShapeError, match="takes N×1×28×28, got 3×1×29×28"):
            network.run(np.zeros((3, 1, 29, 28), np.float32))


def test_an_untrained_network_answers_and_has_no_accuracy(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with cnnkit.load("lenet", untrained=True, root=tmp_path) as network:
        assert len(network.predict(np.zeros((9, 9), np.uint8))) == 1
        with pytest.raises(CnnkitError, match="is untrained, so it has no accuracy"):
            network.evaluate()
        with pytest.raises(CnnkitError, match=r"^--dataset is empty, .*: name one, or leave it out$"):
            network.predict_dataset("")
    with pytest.raises(NotFoundError, match="no trained lenet here"):
        cnnkit.load("lenet", root=str(tmp_path))


def test_a_notebook_shows_the_network_and_its_answers_and_nothing_in_them_is_markup(sample: Dataset) -> None:
    with cnnkit.load(NAME) as network:
        card = Read(network._repr_html_())
        found = network.predict_dataset(sample.name, first=3)
    assert {NAME, "model", "classes", "N×1×28×28 float32"} <= set(card.texts)
    shown = found._repr_html_()
    assert shown.count("<img src='data:image/png;base64,") == 3
    hostile = Path("<script>'&\".png")
    one = type(found[0])(source=hostile, top=(("<b>", 0.5),), pixels=found[0].pixels)
    assert "<script>" not in one._repr_html_()
    assert "<b>" not in one._repr_html_()
    assert repr(network).startswith("<Network ")
