"""Pictures of one's own are looked at, and told about, before they are trained on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="torch is not installed (extra train)")

from toolkit.errors import CnnkitError, DamagedError
from toolkit.training.data.describing import describe
from toolkit.training.data.prepare import PreparedData, prepare
from toolkit.training.jobs import make_job
from toolkit.training.record.folder import LEFT_OUT
from toolkit.training.record.pictures import note_pictures
from toolkit.training.run import train


def paint(root: Path, values: Any, labels: dict[str, int], ending: str = "png") -> None:
    """Write pictures of random values: `values(random)` makes one."""
    random = np.random.default_rng(0)
    for label, count in labels.items():
        (root / label).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(values(random)).save(root / label / f"{number:03}.{ending}")


def prepared(root: Path, **options: Any) -> PreparedData:
    return prepare(make_job("lenet-maxpool", dataset=f"folder:{root / 'data'}", root=root, **options))


def colours(random: np.random.Generator) -> Any:
    return random.integers(0, 256, (20, 20, 3)).astype(np.uint8)


def others(random: np.random.Generator) -> Any:
    return 255 - colours(random)


def grey(random: np.random.Generator) -> Any:
    return random.integers(0, 256, (20, 20)).astype(np.uint8)


def twelve_bits(random: np.random.Generator) -> Any:
    pixels = random.integers(0, 4096, (20, 20))
    pixels[0, :2] = (0, 4095)
    return pixels.astype(np.uint16)


def test_a_network_of_one_channel_gets_the_colours_of_the_data(tmp_path: Path) -> None:
    paint(tmp_path / "data", colours, {"a": 20, "b": 20})
    assert prepared(tmp_path).preprocessing.channels == 3
    assert prepared(tmp_path, grey=True).preprocessing.channels == 1


def test_grey_pictures_saved_as_colours_stay_grey(tmp_path: Path) -> None:
    paint(tmp_path / "data", lambda random: np.repeat(grey(random)[..., None], 3, 2), {"a": 20, "b": 20})
    assert prepared(tmp_path).preprocessing.channels == 1


def test_wide_pixels_keep_the_range_of_the_training_pictures_or_the_one_that_is_typed(tmp_path: Path) -> None:
    paint(tmp_path / "data", twelve_bits, {"a": 20, "b": 20})
    found = prepared(tmp_path)
    assert found.preprocessing.levels == (0, 4095)
    assert found.learned.images.min() == 0
    assert found.learned.images.max() == 255
    assert prepared(tmp_path, levels="0,8190").learned.images.max() == 128
    with pytest.raises(CnnkitError, match=r"--levels '9,1': wanted are two numbers"):
        prepared(tmp_path, levels="9,1")


def test_one_light_picture_among_dark_ones_is_no_uniform_ground(tmp_path: Path) -> None:
    paint(
        tmp_path / "data",
        lambda random: np.full((20, 20), random.integers(0, 99), np.uint8),
        {"a": 40, "b": 40},
    )
    assert prepared(tmp_path).preprocessing.ground == "dark"
    for number in range(8):
        Image.new("L", (20, 20), 240 + number).save(tmp_path / "data" / "a" / f"light{number}.png")
    assert prepared(tmp_path).preprocessing.ground == "mixed"


def test_classes_sizes_and_what_was_left_out_are_said_and_listed(tmp_path: Path) -> None:
    paint(tmp_path / "data" / "train", colours, {"few": 2, "many": 40})
    paint(tmp_path / "data" / "test", others, {"many": 4})
    (tmp_path / "data" / "train" / "many" / "notes.txt").write_text("mine")
    Image.new("RGB", (300, 1)).save(tmp_path / "data" / "test" / "many" / "long.gif")
    (tmp_path / "data" / "train" / "few" / "bad.png").write_bytes(b"junk")
    found = prepared(tmp_path, skip_damaged=True, group=r"(\d)\.png")
    said = describe(found)
    for text in (
        "  many           36           4           5",
        "note: the classes are uneven: many has",
        "note: no image for the test of few",
        "sizes: 2 kinds, heights 1 to 20, widths 20 to 300, most often 20×20 (46); all in colour",
        "note: images more than ten times as long as wide: 1",
        "note: GIF, APNG and TIFF files, of whose frames the first is learned from: 1",
        "10 groups; 2 images belong to none and count alone; note: groups in more than one of the parts",
        "left out: 1 no picture, by its ending; left-out.txt in the run's folder lists them",
        "note: damaged images left out (--skip-damaged): 1",
    ):
        assert text in said, said
    note_pictures(tmp_path, found)
    assert (tmp_path / LEFT_OUT).read_text().split("\n")[
        0
    ] == "train/many/notes.txt\tno picture, by its ending"


def test_a_start_that_fails_leaves_no_folder_of_its_own_pictures_either(tmp_path: Path) -> None:
    paint(tmp_path / "data", grey, {"a": 20, "b": 20})
    (tmp_path / "data" / "a" / "notes.txt").write_text("no picture")
    job = make_job("lenet", dataset=f"folder:{tmp_path / 'data'}", root=tmp_path / "artifacts", size=5)
    with pytest.raises(CnnkitError, match=r"lenet cannot take .* 1×5×5"):
        train(job)
    assert not list(job.root.rglob("*"))


def test_a_folder_to_look_in_is_refused_beside_a_place(tmp_path: Path) -> None:
    paint(tmp_path / "data", grey, {"a": 20, "b": 20})
    with pytest.raises(CnnkitError, match="--data-dir goes with data sets that are the same"):
        prepared(tmp_path, data_dir=tmp_path)
    with pytest.raises(CnnkitError, match="--max-pixels goes with pictures of your own"):
        prepare(make_job("lenet", dataset="fashion-mnist-sample", root=tmp_path, max_pixels=400))


def test_a_test_picture_that_is_a_copy_of_one_that_is_trained_on_measures_nothing(tmp_path: Path) -> None:
    paint(tmp_path / "data" / "train", colours, {"a": 20, "b": 20})
    paint(tmp_path / "data" / "test", others, {"a": 10, "b": 10})
    (tmp_path / "data" / "test" / "a" / "copy.png").write_bytes(
        (tmp_path / "data" / "train" / "b" / "003.png").read_bytes()
    )
    found = prepared(tmp_path)
    assert len(found.dataset.test) == 20
    assert found.record is not None
    assert [one.use for one in found.record.pictures if one.name == "test/a/copy.png"] == ["unused"]
    shutil.rmtree(tmp_path / "data" / "test")
    paint(tmp_path / "data" / "test", colours, {"a": 10, "b": 10})
    with pytest.raises(CnnkitError, match=r"^every test picture of folder:.* is a copy of one that is"):
        prepared(tmp_path)


def test_all_damaged_pictures_are_in_a_file(tmp_path: Path) -> None:
    paint(tmp_path / "data", grey, {"a": 30, "b": 30})
    for number in range(25):
        (tmp_path / "data" / "a" / f"{number:03}.png").write_bytes(b"")
    with pytest.raises(
        DamagedError, match=r"25 pictures cannot be read: .* and 5 more; .* listed in .*damaged\.txt"
    ):
        prepared(tmp_path)
    lines = (tmp_path / "lenet-maxpool" / "damaged.txt").read_text().splitlines()
    assert len(lines) == 25
    assert lines[0].startswith("a/000.png is empty")


def test_more_pixels_than_are_asked_for_are_refused(tmp_path: Path) -> None:
    paint(tmp_path / "data", grey, {"a": 5, "b": 5})
    with pytest.raises(DamagedError, match="over the limit of 399"):
        prepared(tmp_path, max_pixels=399)
