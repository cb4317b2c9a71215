"""Weights that are imported: their classes, their pixels and their scores are taken as a graph's are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import cnnkit
from tests.toolkit.importing.conftest import NAMES
from toolkit import zoo
from toolkit.errors import CnnkitError, ShapeError
from toolkit.exporting import ExportOptions
from toolkit.preprocessing import Preprocessing

torch = pytest.importorskip("torch")


def saved(path: Path, outputs: int, model: str = "lenet5") -> Path:
    torch.manual_seed(1)
    torch.save(zoo.model(model).build(3, outputs).state_dict(), path)
    return path


def some(colours: Path, into: Path, *names: str) -> str:
    for part in ("train", "test"):
        for name in names:
            shutil.copytree(colours / part / name, into / part / name)
    return f"folder:{into}"


def test_weights_of_one_score_stand_for_two_classes(colours: Path, tmp_path: Path) -> None:
    file, pair = saved(tmp_path / "one.pth", 1), some(colours, tmp_path / "pair", "blue", "red")
    given: dict[str, Any] = {"model": "lenet5", "root": tmp_path, "fresh": True}
    assert cnnkit.import_(file, **given).passport.classes == ("0", "1")
    assert cnnkit.import_(file, classes=("cat", "dog"), **given).passport.classes == ("cat", "dog")
    made = cnnkit.import_(file, dataset=pair, **given)
    assert (made.passport.classes, made.passport.output.shape) == (("blue", "red"), (None, 1))
    again = cnnkit.import_(made.path, name="again", **given)
    assert again.passport.classes == ("blue", "red")
    cnnkit.export("lenet5", formats=("onnx",), options=ExportOptions(root=tmp_path)).require()
    picture = next((colours / "test" / "blue").glob("*.png"))
    tops = []
    for backend in ("pytorch", "ort"):
        with cnnkit.load("lenet5", backend=backend, root=tmp_path) as network:
            (answer,) = network.predict([picture])
            tops.append(answer.top)
            assert network.evaluate().accuracy == made.accuracy
    assert {label for label, _ in tops[0]} == {"blue", "red"}
    assert [label for label, _ in tops[0]] == [label for label, _ in tops[1]]
    assert cnnkit.show(str(made.path)).rows[-1].output_shape == (1, 1)
    # what was exported of it goes where others take its place
    graph = made.path.with_suffix(".onnx")
    cnnkit.import_(file, dataset=pair, **{**given, "fresh": False})  # the same file needs no leave
    assert graph.exists()
    with pytest.raises(CnnkitError, match="is there already; add --name OTHER"):
        cnnkit.import_(saved(tmp_path / "other.pth", 3), **{**given, "fresh": False})
    told: list[str] = []
    cnnkit.import_(saved(tmp_path / "other.pth", 3), tell=told.append, **given)
    assert not graph.exists()
    assert any("removed" in line and graph.name in line for line in told)


def test_known_classes_stay_in_their_order_beside_pictures_of_some(colours: Path, tmp_path: Path) -> None:
    file, own = saved(tmp_path / "four.pth", 4), tuple(reversed(NAMES))
    given: dict[str, Any] = {"model": "lenet5", "root": tmp_path}
    first = cnnkit.import_(file, classes=own, dataset=f"folder:{colours}", **given)
    second = cnnkit.import_(first.path, dataset=f"folder:{colours}", name="second", **given)
    assert (second.passport.classes, second.accuracy) == (own, first.accuracy)
    pair = some(colours, tmp_path / "pair", "blue", "red")
    assert cnnkit.import_(first.path, dataset=pair, name="third", **given).passport.classes == own
    strange = tmp_path / "strange"
    some(colours, strange, "blue", "red")
    (strange / "train" / "red").rename(strange / "train" / "mauve")
    (strange / "test" / "red").rename(strange / "test" / "mauve")
    with pytest.raises(ShapeError, match="has classes that the network has not, such as 'mauve'"):
        cnnkit.import_(first.path, dataset=f"folder:{strange}", name="fourth", **given)


def test_a_typed_mean_leaves_the_rest_of_a_known_preparation(tmp_path: Path) -> None:
    own = Preprocessing(
        size=(28, 28), channels=3, resize="crop", crop_share=0.5, mean=(0.1,) * 3, std=(0.2,) * 3
    )
    given: dict[str, Any] = {"model": "lenet5", "root": tmp_path}
    first = cnnkit.import_(saved(tmp_path / "a.pth", 4), preprocessing=own, **given)
    second = cnnkit.import_(first.path, mean=(0.3,), std=(0.4,), name="second", **given)
    found = second.passport.preprocessing
    assert found is not None
    assert (found.geometry, found.mean, found.std) == (own.geometry, (0.3,) * 3, (0.4,) * 3)
    assert any("but for --mean and --std" in line for line in second.said)
    third = cnnkit.import_(first.path, std=(0.4,), name="third", **given).passport.preprocessing
    assert third is not None
    assert (third.mean, third.std) == (own.mean, (0.4,) * 3)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"mean": (123.675, 116.28, 103.53)}, "is of pixels from 0 to 255: add --scale 1"),
        ({"scale": -1.0}, "scale is -1; it is a number above 0"),
        ({"logits": "scores"}, "--logits belong to .onnx files"),
        ({"fixed": {"t": "1"}, "layout": "NHWC"}, "--fix and --input-layout belong to .onnx files"),
        ({"crop_share": 0.9}, "--resize pad keeps all of it: add --resize crop or squash"),
    ],
)
def test_what_weights_cannot_be_told_is_refused_and_leaves_nothing(
    said: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CnnkitError, match=message):
        cnnkit.import_(saved(tmp_path / "a.pth", 4), model="lenet5", root=tmp_path / "out", **said)
    assert not (tmp_path / "out").exists()
