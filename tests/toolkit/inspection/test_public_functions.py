"""`show`, `models`, `datasets`, `doctor` and `import_` in Python, and what a notebook shows of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnkit
from tests.toolkit.profiling.reports.test_notebook import Read
from toolkit.artifacts import shipped_root
from toolkit.errors import CnnkitError, NotFoundError, ShapeError
from toolkit.inspection.features import features

WEIGHTS = shipped_root() / "lenet-maxpool" / "lenet-maxpool.safetensors"


def test_layers_know_their_network_and_show_it() -> None:
    pytest.importorskip("torch")
    found = cnnkit.show("lenet", batch=2, training="default")
    assert (found.model, found.classes, found.parameters) == ("lenet", 10, 61_706)
    assert found.input_shape == (2, 1, 28, 28)
    assert found.training is not None
    assert found.step_bytes == found.to_json()["training"]["total_bytes"]
    assert {"lenet, input [2, 1, 28, 28]", "conv1", "61,706"} <= set(Read(found._repr_html_()).texts)
    assert cnnkit.show(WEIGHTS, classes=3).classes == 3
    with pytest.raises(NotFoundError, match=r"Did you mean 'lenet'\?"):
        cnnkit.show("lnet", untrained=True)


def test_the_zoo_the_data_and_the_machine_are_values_and_tables() -> None:
    zoo = {one.name: one for one in cnnkit.models()}
    assert zoo["lenet"].input_shape == (1, 28, 28)
    data = cnnkit.datasets()
    sample = next(one for one in data.named if one.name == "fashion-mnist-sample")
    assert sample.source is not None
    assert sample.how_to_get is None
    found = cnnkit.doctor()
    assert found.backends["ort"].available
    for shown in (cnnkit.models(), data, found):
        assert len(Read(shown._repr_html_()).texts) > 20


def test_weights_are_imported_with_the_preprocessing_that_is_named(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    told: list[str] = []
    prepared = cnnkit.Preprocessing(size=(28, 28), channels=1, mean=(0.5,), std=(0.25,))
    made = cnnkit.import_(
        WEIGHTS,
        model="lenet-maxpool",
        name="mine",
        classes="abcdefghij",
        preprocessing=prepared,
        root=tmp_path,
        tell=told.append,
    )
    assert made.path == tmp_path / "mine" / "mine.safetensors"
    assert made.passport.preprocessing == prepared
    assert made.passport.classes == tuple("abcdefghij")
    with cnnkit.load("mine", root=tmp_path) as network:
        assert network.predict(np.zeros((28, 28), np.uint8))[0].label in "abcdefghij"
    from safetensors.torch import load_file, save_file

    others = tmp_path / "others.safetensors"
    save_file({key: value + 1 for key, value in load_file(WEIGHTS).items()}, others)
    with pytest.raises(CnnkitError, match="is there already"):
        cnnkit.import_(others, model="lenet-maxpool", name="mine", root=tmp_path)
    colours = cnnkit.Preprocessing(size=(28, 28), channels=3)
    with pytest.raises(ShapeError, match="the weights take 1 channels, preprocessing 3"):
        cnnkit.import_(WEIGHTS, model="lenet-maxpool", preprocessing=colours, root=tmp_path)


def test_features_are_one_picture_in_a_notebook(boot: Path) -> None:
    pytest.importorskip("torch")
    found = features(["lenet-maxpool"], boot)
    assert [layer.name for layer in found.seen[0].layers] == ["act1", "act2"]
    assert found._repr_html_().startswith("<img src='data:image/png;base64,")
    assert features("lenet-maxpool", str(boot)).image() == found.image()
    with pytest.raises(CnnkitError, match="takes a picture's file, a text or a path, and no ndarray"):
        features("lenet-maxpool", np.zeros((28, 28)))  # type: ignore[arg-type]
    with pytest.raises(CnnkitError, match="takes a network's name or file, a text or a path, and no int"):
        features([3], boot)  # type: ignore[list-item]
