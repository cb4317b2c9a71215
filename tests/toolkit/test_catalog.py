"""The catalog finds plug-in files by listing folders, and runs a user's own models."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit import backends, zoo
from toolkit.artifacts import check_name
from toolkit.backends import BACKENDS
from toolkit.datasets import dataset_names, dataset_of
from toolkit.errors import CnnkitError, NotFoundError

OWN = """
from toolkit.models import ModelSpec
def build(channels, classes):
    from torch import nn
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 16, classes))
MODELS = (ModelSpec(name="tiny", family="own", input_shape=(1, 4, 4), build=build),)
"""


def test_backends_are_the_files_of_their_folder() -> None:
    folder = Path(backends.__file__).parent
    files = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    assert BACKENDS.names() == files
    assert len(files) >= 3


def test_names_become_words_with_dashes() -> None:
    assert "fashion-mnist" in dataset_names()


def test_an_unknown_backend_names_the_nearest() -> None:
    with pytest.raises(NotFoundError, match=r"known: .*ort, pytorch, .*trt\. Did you mean 'trt'\?"):
        BACKENDS.load("tr")


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(NotFoundError, match=r"Did you mean 'alexnet'\?"):
        zoo.model("alexnett")


@pytest.mark.parametrize(
    ("name", "meant"), [("mnsit", "mnist"), ("image-folder", "folder:PATH"), ("folder", "folder:PATH")]
)
def test_an_unknown_data_set_names_the_nearest_word_that_can_be_typed(name: str, meant: str) -> None:
    known = r"known: .*cifar10, .*fashion-mnist, fashion-mnist-sample, folder:PATH, mnist.*\. "
    with pytest.raises(NotFoundError, match=f"no dataset '{name}'; {known}Did you mean '{meant}'"):
        dataset_of(name)


@pytest.mark.parametrize("name", ["folder:", "folder: "])
def test_a_folder_without_a_path_is_not_taken_for_the_one_at_hand(name: str) -> None:
    with pytest.raises(NotFoundError, match=f"'{name}' names no folder; .* `folder:PATH`"):
        dataset_of(name)
    assert dataset_of("folder:.").name == "image-folder"


def test_own_model_file_stands_beside_the_zoo(tmp_path: Path) -> None:
    file = tmp_path / "my nets.py"
    file.write_text(OWN)
    spec = zoo.model("tiny", model_file=file)
    assert spec.build(3, 5).state_dict()["1.weight"].shape == (5, 48)
    assert zoo.model("lenet", model_file=file).name == "lenet"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = 1", "declares no MODELS"),
        (OWN.replace('"tiny"', '"lenet"'), "calls a network 'lenet', as one of the zoo"),
        (OWN.replace('"tiny"', '"../tiny"'), "'../tiny' cannot name an artifact"),
        ("MODELS = (3,)", "holds something that is no"),
        ("1 / 0", "failed to import: ZeroDivisionError"),
        ("def (", "failed to import: SyntaxError"),
    ],
)
def test_a_model_file_that_does_not_fit_is_refused_in_words(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "own.py"
    file.write_text(text)
    with pytest.raises(CnnkitError, match=why):
        zoo.models_of_file(file)


def test_a_missing_model_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no model file"):
        zoo.models_of_file(tmp_path / "gone.py")


def test_an_unknown_model_is_told_of_model_files(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no model 'mine'; known: .*--model-file FILE\.py$"):
        zoo.model("mine")
    file = tmp_path / "own.py"
    file.write_text("MODELS = ()")
    with pytest.raises(NotFoundError, match=r"no model 'mine'; known: (?!.*--model-file)"):
        zoo.model("mine", model_file=file)


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "/abs", "a ", " a", "a/b", "v1.2", "-x", "a" * 101, "a\n"]
)
def test_a_name_that_no_artifact_can_have_is_refused(name: str) -> None:
    with pytest.raises(CnnkitError, match="cannot name an artifact: take letters"):
        check_name(name)
