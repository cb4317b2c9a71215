"""What an imported network's classes are called: as typed, from a file, each by a name of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import cnnkit
from tests.toolkit.importing.conftest import NAMES, ODD
from toolkit.datasets import dataset_of
from toolkit.errors import CnnkitError, ShapeError
from toolkit.importing.classes import classes_wanted
from toolkit.listings.parts import members


def test_names_in_a_row_may_be_longer_than_a_path() -> None:
    names = [f"class number {number}" for number in range(400)]
    assert classes_wanted(", ".join(names)) == tuple(names)
    with pytest.raises(CnnkitError, match="or a file of one a line"):
        classes_wanted("x" * 300)


def test_a_mark_at_the_start_of_a_file_is_no_letter(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("cat\ndog\n".encode("utf-8-sig"))
    assert classes_wanted(str(path)) == ("cat", "dog")


def test_classes_of_one_name_are_told_apart_and_pictures_of_it_refused(colours: Path, tmp_path: Path) -> None:
    path = ODD["plain"].save(tmp_path / "a.onnx")
    told: list[str] = []
    made = cnnkit.import_(
        path, classes=("crane", "caf\u0065\u0301", "crane", "d"), root=tmp_path, tell=told.append
    )
    assert made.passport.classes == ("crane (0)", "caf\u00e9", "crane (2)", "d")
    assert any("several classes are called 'crane'" in line and "'crane (0)'" in line for line in told)
    words = {"dataset": f"folder:{colours}", "scale": 1 / 255, "root": tmp_path}
    with pytest.raises(ShapeError, match="classes that the network has not"):
        cnnkit.import_(path, classes=(*NAMES[:3], NAMES[0]), **words)


def test_few_pictures_of_which_none_is_for_the_test_are_all_taken(colours: Path, tmp_path: Path) -> None:
    word = f"folder:{colours / 'train'}"
    learned = [one for one in members(dataset_of(word).listed(word)) if one.part == "train"]
    for name in NAMES:
        (tmp_path / "tiny" / name).mkdir(parents=True)
        first = next(one.entry.name for one in learned if one.entry.name.startswith(f"{name}/"))
        shutil.copy(colours / "train" / first, tmp_path / "tiny" / first)
    data = f"folder:{tmp_path / 'tiny'}"
    path = ODD["plain"].save(tmp_path / "a.onnx")
    told: list[str] = []
    made = cnnkit.import_(path, dataset=data, scale=1 / 255, root=tmp_path, tell=told.append)
    assert (made.images, made.accuracy) == (4, 1.0)
    assert any("all 4 are taken" in line for line in told)
    with cnnkit.load("a", root=tmp_path) as network:
        assert network.evaluate().images == 4


def test_the_order_of_a_data_sets_classes_is_told_where_it_is_taken_for_the_networks(
    colours: Path, tmp_path: Path
) -> None:
    """Trained by another tool, folders 1, 2 and 10 may be its classes 0, 2 and 1."""
    path, word = ODD["plain"].save(tmp_path / "a.onnx"), f"folder:{colours}"
    made = cnnkit.import_(path, dataset=word, root=tmp_path, scale=1 / 255)
    assert any(f"those of {word} in its order, 'blue', 'green', 'red', …" in line for line in made.said)
    own = cnnkit.import_(path, dataset=word, classes=NAMES, root=tmp_path, scale=1 / 255)
    assert not any("in its order" in line for line in own.said)
