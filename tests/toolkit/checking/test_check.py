"""A data set is checked before it is learnt from: what was planted is found, and nothing else."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

import cnnkit
from tests.toolkit.checking.conftest import fill, stripes
from toolkit.checking import ClassCount, DuplicateGroup, Findings
from toolkit.checking.check import check
from toolkit.checking.confident import judge
from toolkit.checking.page import html_page
from toolkit.checking.pictures import gallery
from toolkit.datasets import dataset_of
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.listings import Reading
from toolkit.listings.excluding import read_exclusions, write_exclusions


def looked_at(folder: Path, **settings: object) -> Findings:
    return check(f"folder:{folder}", labels=False, **settings)  # type: ignore[arg-type]


def moved(image: Image.Image) -> Image.Image:
    """Move a picture two pixels to the right; its border is repeated."""
    pixels = np.asarray(image)
    return Image.fromarray(np.concatenate([np.repeat(pixels[:, :1], 2, axis=1), pixels[:, :-2]], axis=1))


WAYS: dict[str, tuple[str, str, Callable[[Image.Image], Image.Image]]] = {
    "the same pixels in another file": ("saved again", "bmp", lambda image: image),
    "with losses": ("saved again", "jpg", lambda image: image),
    "two pixels to the right": ("moved", "png", moved),
    "mirrored": ("mirrored", "png", ImageOps.mirror),
    "mirrored with losses": ("mirrored", "jpg", ImageOps.mirror),
    "upside down": ("turned", "png", ImageOps.flip),
    "twice as large": ("saved again", "png", lambda image: image.resize((64, 64), Image.Resampling.BICUBIC)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_that_comes_again_in_the_test_part_is_found(folder: Path, way: str) -> None:
    kind, ending, change = WAYS[way]
    source = folder / "train" / "lying" / "007.png"
    change(Image.open(source)).save(folder / "test" / "lying" / f"again.{ending}")
    found = looked_at(folder)
    assert [one.kind for one in found.duplicates] == [kind]
    assert set(found.duplicates[0].files) == {"train/lying/007.png", f"test/lying/again.{ending}"}
    assert found.duplicates[0].across_splits
    assert found.count == 1


@pytest.mark.parametrize(("down", "across"), [(0, 1), (1, 0), (-1, 1), (2, 0), (0, -2)])
def test_pictures_smaller_than_their_small_copies_are_found_where_they_were_moved(
    tmp_path: Path, down: int, across: int
) -> None:
    """What comes in at an edge is repeated by the border that such a picture is laid into."""
    fill(tmp_path, 12, side=28)
    for at in range(4):
        pixels = np.asarray(Image.open(tmp_path / "lying" / f"{at:03d}.png"))
        Image.fromarray(np.roll(pixels, (down, across), (0, 1))).save(tmp_path / "lying" / f"m{at}.png")
    found = looked_at(tmp_path)
    pairs = {(f"lying/{at:03d}.png", f"lying/m{at}.png") for at in range(4)}
    seen = {tuple(sorted(one.files)) for one in found.duplicates}
    assert seen <= pairs
    assert len(seen) >= 3
    assert {one.kind for one in found.duplicates} == {"moved"}


def test_pictures_that_only_look_alike_are_no_duplicates(folder: Path) -> None:
    found = looked_at(folder)
    assert found.ok
    assert found.duplicates == ()
    assert [(one.name, one.train, one.test) for one in found.classes] == [
        ("lying", 20, 10),
        ("standing", 20, 10),
    ]


def test_large_pictures_are_told_apart_by_detail_that_small_ones_lose(tmp_path: Path) -> None:
    fill(tmp_path, 6, side=120)
    again = Image.open(tmp_path / "lying" / "002.png")
    again.save(tmp_path / "lying" / "again.jpg", quality=80)
    found = looked_at(tmp_path)
    assert [set(one.files) for one in found.duplicates] == [{"lying/002.png", "lying/again.jpg"}]


def test_one_shape_in_two_colours_is_two_pictures(tmp_path: Path) -> None:
    y, x = np.mgrid[:32, :32] - 16
    disc = ((y * y + x * x) < 90)[..., None]
    for name, colour in (("red", (200, 30, 30)), ("green", (30, 117, 30))):
        (tmp_path / name).mkdir()
        Image.fromarray(np.where(disc, colour, 0).astype(np.uint8)).save(tmp_path / name / "disc.png")
    assert looked_at(tmp_path).duplicates == ()


def test_copies_are_one_group_and_one_of_them_stays_in_the_test(folder: Path) -> None:
    for name in ("train/lying/a.png", "train/lying/b.png", "test/lying/c.png"):
        shutil.copy(folder / "train/lying/003.png", folder / name)
    (group,) = looked_at(folder).duplicates
    assert group.kind == "copy"
    assert len(group.files) == 4
    assert set(group.files) - set(group.surplus()) == {"test/lying/c.png"}


def test_one_picture_under_two_labels_is_to_be_left_out_twice(folder: Path) -> None:
    shutil.copy(folder / "train/lying/003.png", folder / "train/standing/x.png")
    (group,) = looked_at(folder).duplicates
    assert group.contradicts
    assert set(group.surplus()) == {"train/lying/003.png", "train/standing/x.png"}


def test_damaged_empty_and_plain_files_are_named_in_one_go(folder: Path) -> None:
    whole = (folder / "train/lying/000.png").read_bytes()
    (folder / "train/lying/000.png").write_bytes(whole[: len(whole) // 2])
    (folder / "test/lying/001.png").write_bytes(b"")
    Image.new("RGB", (40, 40), (7, 90, 7)).save(folder / "train/standing/plain.png")
    Image.new("RGB", (40, 40), (7, 90, 7)).save(folder / "train/standing/plain2.jpg")
    found = looked_at(folder)
    assert [one.file for one in found.faulty] == ["test/lying/001.png", "train/lying/000.png"]
    assert "empty" in found.faulty[0].why
    assert [one.file for one in found.plain] == ["train/standing/plain.png", "train/standing/plain2.jpg"]
    assert found.duplicates == ()


def test_a_folder_in_which_nothing_can_be_read_is_one_line(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"no picture")
    with pytest.raises(CnnkitError, match=r"none of the 2 pictures of folder:.* can be read"):
        looked_at(tmp_path)


def test_a_group_that_lies_in_two_parts_is_a_leak(folder: Path) -> None:
    found = looked_at(folder, reading=Reading(group=r"00\d"))
    assert [(one.group, one.parts, one.images) for one in found.leaks][:1] == [("000", ("test", "train"), 4)]
    assert len(found.leaks) == 10


def test_odd_sizes_and_imbalance_are_told_and_are_no_faults(tmp_path: Path) -> None:
    fill(tmp_path, 12, side=40)
    for name in list((tmp_path / "lying").iterdir())[1:]:
        name.unlink()
    random = np.random.default_rng(9)
    Image.fromarray(stripes(random, "lying", 400)[:, :40]).save(tmp_path / "standing" / "long.png")
    found = looked_at(tmp_path)
    assert [(one.file, one.width, one.height) for one in found.odd_sizes] == [("standing/long.png", 40, 400)]
    assert found.notes[0].startswith("imbalanced: standing has 13 pictures and lying 1")
    assert found.ok


def test_a_built_in_data_set_is_checked_by_its_rows() -> None:
    found = cnnkit.check("fashion-mnist-sample", labels=False)
    assert found.images == 2500
    assert [one.files for one in found.duplicates if one.kind == "copy"] == []
    assert all(one.file.split()[0] in ("train", "test") for one in found.faulty)
    for reading in (Reading(group="x"), Reading(columns="label=1")):
        with pytest.raises(CnnkitError, match=r"^--(group|columns) goes with pictures of your own"):
            check("fashion-mnist-sample", labels=False, reading=reading)
    with pytest.raises(CnnkitError, match=r"^--columns is empty"):
        Reading(columns="")


def test_what_the_page_saves_is_read_as_a_list(folder: Path) -> None:
    for odd in ("a\nb.png", "z\\new\t.png"):
        shutil.copy(folder / "train" / "lying" / "007.png", folder / "train" / "lying" / odd)
    found = looked_at(folder)
    page = html_page(found, gallery(f"folder:{folder}", None, Reading()))
    ticked = re.findall(r"checked data-name='([^']*)' data-why='([^']*)'", page)
    saved = "".join(f"{html.unescape(name)}\t{html.unescape(why)}\n" for name, why in ticked)
    (folder / "exclude.txt").write_text(saved)
    names = {"train/lying/a\nb.png", "train/lying/z\\new\t.png"}
    assert read_exclusions(folder / "exclude.txt").keys() == found.surplus().keys() == names


def test_what_a_list_names_is_left_out(folder: Path, tmp_path: Path) -> None:
    path = folder / "list.txt"
    write_exclusions(path, {"train/lying/000.png": "why\tnot", "test/lying/001.png": ""})
    assert read_exclusions(path) == {"train/lying/000.png": "why not", "test/lying/001.png": ""}
    listing = dataset_of("folder:x").listed(f"folder:{folder}", Reading(exclude=path))
    assert len(listing.entries) == 58
    assert {"train/lying/000.png", "test/lying/001.png"} <= {one.name for one in listing.left_out}
    odd = dict.fromkeys(("#1/a.png", "a\tb\nc\rd\u2028e.png", "a\\n.png", " b.png "), "")
    write_exclusions(path, odd)
    assert read_exclusions(path) == odd
    path.write_bytes(b"\xef\xbb\xbf# mine\r\n#1/b.png\r\ntrain/lying/000.png\twhy\r\n")
    assert read_exclusions(path) == {"#1/b.png": "", "train/lying/000.png": "why"}
    listing = dataset_of("folder:x").listed(f"folder:{folder}", Reading(exclude=path))
    assert [one.name for one in listing.excluded] == ["train/lying/000.png"]
    assert ("#1/b.png", "excluded, and not there") in [(one.name, one.why) for one in listing.left_out]
    path.write_text("elsewhere/1.png\n")
    with pytest.raises(CnnkitError, match=r"names 1 pictures, of which folder:.* holds none"):
        looked_at(folder, reading=Reading(exclude=path))
    with pytest.raises(NotFoundError, match="--write-list"):
        looked_at(folder, reading=Reading(exclude=folder / "none.txt"))


def test_a_blurred_picture_of_the_same_scene_is_none_of_ours(folder: Path) -> None:
    image = Image.open(folder / "train/lying/004.png").filter(ImageFilter.GaussianBlur(4))
    image.save(folder / "train/lying/blurred.png")
    assert looked_at(folder).duplicates == ()


def test_groups_across_parts_come_first() -> None:
    within = DuplicateGroup(files=("a", "b"), kind="copy", labels=("x", "x"), parts=("train", "train"))
    across = DuplicateGroup(files=("c", "d"), kind="moved", labels=("x", "x"), parts=("train", "test"))
    found = Findings(dataset="d", images=4, classes=(), duplicates=(across, within))
    assert found.sentences()[0] == "1 group of duplicates lies across the parts"
    assert found.surplus() == {"c": "moved; stays: d", "b": "copy; stays: a"}


def test_ten_bits_in_sixteen_are_no_pictures_of_one_colour(tmp_path: Path) -> None:
    fill(tmp_path, 6)
    for path in tmp_path.rglob("*.png"):
        grey = np.asarray(Image.open(path).convert("L"), dtype=np.uint16)
        Image.fromarray(grey * 4).save(path)
    assert looked_at(tmp_path).ok


def test_of_many_classes_the_largest_and_the_smallest_are_shown() -> None:
    classes = tuple(ClassCount(name=f"k{at}", train=at, validation=0, test=0) for at in range(300))
    found = Findings(dataset="d", images=9, classes=classes).table(most=30)
    assert (len(found.rows), found.title) == (30, "30 of 300 classes")
    assert [found.rows[0][0], found.rows[-1][0]] == ["k299", "k0"]


def test_a_judge_that_only_guesses_is_told_from_one_that_knows() -> None:
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1], [1000, 40])
    for answers, guesses in (
        (np.zeros_like(truth), True),
        (random.integers(0, 2, 1040), True),
        (truth, False),
    ):
        assert judge(np.eye(2)[answers] * 0.8 + 0.1, truth).guesses(truth) is guesses
