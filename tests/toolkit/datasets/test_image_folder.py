"""People's own folders of pictures are read in both layouts, and what is wrong in them is named."""

from __future__ import annotations

import shutil
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from toolkit.datasets import Dataset, Split, dataset_of, split_off
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.listings import Entry, Listing, Reading
from toolkit.listings.parts import Member, members
from toolkit.listings.places import FileBytes


def paint(folder: Path, count: int, colour: int, size: tuple[int, int] = (8, 8)) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        Image.new("RGB", size, (colour, index, 0)).save(folder / f"{index:03}.png")


def load(root: Path, size: tuple[int, int, int] | None = None) -> Dataset:
    name = f"folder:{root}"
    return dataset_of(name).load(name, None, True, size)


def test_train_and_test_folders_are_read(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("test", 2)):
        paint(tmp_path / part / "cat", count, 10)
        paint(tmp_path / part / "dög", count, 200)
    data = load(tmp_path)
    assert data.classes == ("cat", "dög")
    assert data.train.images.shape == (8, 3, 8, 8)
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.train.images[data.train.labels == 1][:, 0].min() == 200


def test_val_stands_for_test(tmp_path: Path) -> None:
    for part in ("train", "val"):
        paint(tmp_path / part / "a", 1, 0)
        paint(tmp_path / part / "b", 1, 0)
    assert len(load(tmp_path).test) == 2


def test_of_one_level_about_a_fifth_is_for_the_test_by_content(tmp_path: Path) -> None:
    paint(tmp_path / "a", 150, 0)
    paint(tmp_path / "b", 150, 9)
    data = load(tmp_path)
    assert len(data.train) + len(data.test) == 300
    assert 40 <= len(data.test) <= 80


def names(split: Split) -> set[str]:
    assert split.members is not None
    return {member.entry.name for member in split.members}


def test_a_picture_that_is_added_moves_no_other_and_a_copy_goes_where_its_original_is(tmp_path: Path) -> None:
    paint(tmp_path / "a", 40, 0)
    paint(tmp_path / "b", 40, 9)
    before = load(tmp_path)
    shutil.copy(tmp_path / "a" / "000.png", tmp_path / "a" / "A.png")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "b" / "A.png")
    after = load(tmp_path)
    for part in ("train", "test"):
        was, now = names(getattr(before, part)), names(getattr(after, part))
        assert was <= now
        assert ("a/000.png" in was) == ("a/A.png" in now)
    held, kept = split_off(before.train, 0.1)[1], split_off(after.train, 0.1)[1]
    assert held is not None
    assert kept is not None
    assert names(held) <= names(kept)


def test_a_group_is_never_torn_apart(tmp_path: Path) -> None:
    for number in range(30):
        paint(tmp_path / ("a", "b")[number % 2] / f"clip{number:02}", 4, number)
    reading = Reading(group=r"clip(\d+)")
    data = dataset_of("folder:x").load(f"folder:{tmp_path}", reading=reading)
    clips = [{name.split("/")[1] for name in names(part)} for part in (data.train, data.test)]
    assert not clips[0] & clips[1]
    assert all(clips)
    with pytest.raises(
        CnnkitError, match=r"--group 'patient' matches none of the 120 names of folder:.*a/clip00"
    ):
        dataset_of("folder:x").load(f"folder:{tmp_path}", reading=Reading(group="patient"))
    with pytest.raises(CnnkitError, match=r"--group '\(' is no regular expression"):
        dataset_of("folder:x").load(f"folder:{tmp_path}", reading=Reading(group="("))


def of_groups(*told: tuple[str, str, int]) -> Split:
    """Return a split of (group, class, pictures), the class being a or b."""
    members = tuple(
        Member(
            entry=Entry(
                name=f"{group}{index}", place=FileBytes(path=Path("x")), label="ab".index(label), group=group
            ),
            sha256=f"{group}{label}{index}",
            part="train",
        )
        for group, label, count in told
        for index in range(count)
    )
    labels = np.array([one.entry.label for one in members])
    return Split(images=np.zeros((len(labels), 1, 2, 2), np.uint8), labels=labels, members=members)


@pytest.mark.parametrize("fraction", [0.001, 0.3, 0.5, 0.7, 0.99])
def test_a_group_is_held_out_whole_however_few_there_are(fraction: float) -> None:
    for letters in ("xyz", "pqr", "klm"):
        one, two, three = letters
        data = of_groups((one, "a", 6), (one, "b", 1), (two, "a", 6), (two, "b", 5), (three, "a", 9))
        learned, held = split_off(data, fraction)
        assert held is not None
        groups = [{one.entry.group for one in part.members or ()} for part in (learned, held)]
        assert groups[0] | groups[1] == set(letters)
        assert not groups[0] & groups[1]
        assert set(learned.labels) == {0, 1}


def test_where_every_group_is_all_of_a_class_that_is_said() -> None:
    said = "no images can be held out: every group.* of some class; --validation-fraction 0 --select last"
    for fraction in (0.001, 0.5, 0.99):
        with pytest.raises(CnnkitError, match=said):
            split_off(of_groups(("x", "a", 6), ("y", "b", 6)), fraction)


def test_pictures_of_any_size_come_in_the_networks_size_and_colours(tmp_path: Path) -> None:
    paint(tmp_path / "a", 5, 0, (40, 20))
    paint(tmp_path / "b", 5, 0, (7, 9))
    data = load(tmp_path, (1, 28, 28))
    assert len(data.train) + len(data.test) == 10
    assert data.train.images.shape[1:] == data.test.images.shape[1:] == (1, 28, 28)


def test_equal_pictures_have_equal_fingerprints(tmp_path: Path) -> None:
    for copy in ("one", "two"):
        paint(tmp_path / copy / "a", 5, 0)
        paint(tmp_path / copy / "b", 5, 9)
    first, second = load(tmp_path / "one"), load(tmp_path / "two")
    assert first.fingerprint == second.fingerprint
    Image.new("RGB", (8, 8), (77, 0, 0)).save(tmp_path / "two" / "b" / "000.png")
    assert load(tmp_path / "two").fingerprint != first.fingerprint


def test_damaged_pictures_of_all_parts_are_named_at_once_or_skipped(tmp_path: Path) -> None:
    for part, colour in (("train", 0), ("test", 100)):
        paint(tmp_path / part / "a", 5, colour)
        paint(tmp_path / part / "b", 5, colour + 1)
    (tmp_path / "train" / "a" / "002.png").write_bytes(b"junk")
    (tmp_path / "test" / "b" / "001.png").write_bytes(b"")
    said = r"2 pictures .*test/b/001\.png is empty.*train/a/002\.png is no picture .* remove or mend them"
    with pytest.raises(CorruptError, match=said):
        load(tmp_path)
    reading = Reading(skip_damaged=True)
    data = dataset_of("folder:x").load(f"folder:{tmp_path}", reading=reading)
    assert (len(data.train), len(data.test)) == (9, 9)
    assert sorted(one.name for one in data.damaged) == ["test/b/001.png", "train/a/002.png"]


def test_a_picture_that_changes_while_the_data_is_read_is_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # equal pictures that lie elsewhere are in the store already, and are not read again
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    paint(tmp_path / "a", 3, 0)
    paint(tmp_path / "b", 3, 9)
    spec = dataset_of("folder:x")
    found = spec.listed(f"folder:{tmp_path}")
    held = members(found)
    Image.new("RGB", (8, 8), (77, 0, 0)).save(tmp_path / "b" / "000.png")
    with pytest.raises(CorruptError, match=r"b/000\.png changed while it was read"):
        spec.decoded(found, held)


@pytest.mark.parametrize(
    ("folders", "why"),
    [
        ([], "holds 0 class folders"),
        (["a"], "holds 1 class folders"),
        (["a", "b"], "holds no pictures"),
        (["train/a", "train/b"], "holds 1 class folders"),
    ],
)
def test_a_folder_without_pictures_says_what_is_wanted(tmp_path: Path, folders: list[str], why: str) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(NotFoundError, match=f"{why}.*; wanted is PATH/train"):
        load(tmp_path)


# what lies there, a picture or more in each folder; then classes, and in which parts there are pictures
LAYOUTS = {
    "Training/a Training/b Testing/a Testing/b": ("a b", "train test"),
    "TRAIN/a TRAIN/b val_set/a val_set/b": ("a b", "train test"),
    "train/a train/b valid/a valid/b test/a test/b": ("a b", "train validation test"),
    "train/a train/b dev/a dev/b Test/a": ("a b", "train validation test"),
    "train2017/a train2017/b val2017/a val2017/b": ("a b", "train test"),
    "train plane car": ("car plane train", ""),
    "train/steam plane/jet car": ("car plane train", ""),
    "train/steam train/diesel plane/jet": ("plane train", ""),
    "pictures/a pictures/b": ("a b", ""),
    "archive/data/train/a archive/data/train/b archive/data/test/a": ("a b", "train test"),
    "train/train/a train/train/b test/test/a test/test/b": ("a b", "train test"),
    "train/a train/b test": ("a b", ""),
    "train/a train/b val/a val/b test": ("a b", "train test"),
    "train/a train/b": ("a b", ""),
    "val/a val/b test/a test/b": ("a b", "validation test"),
    "a/x/y b/x __MACOSX/a .hidden/b": ("a b", ""),
    "seg_train/seg_train/a seg_train/seg_train/b seg_test/seg_test/a": ("a b", "train test"),
    "train/a train/b PublicTest/a PublicTest/b": ("a b", "train test"),
    "steam_train/old steam_train/new model_train/thirties": ("model_train steam_train", ""),
    "tr/a tr/b te/a te/b": ("a b", "train test"),
    "imagesTr/a imagesTr/b imagesTs/a": ("a b", "train test"),
    "a/tr a/te b/tr b/te": ("a b", "train test"),
    "trainval/a trainval/b test/a": ("a b", "train test"),
    "animal/cat animal/dog vehicle/bus vehicle/car": ("animal vehicle", ""),
    "test_tube train_station": ("test_tube train_station", ""),
    "train/a train/b test/unknown": ("a b", ""),
    "a/train a/test b/train/x b/test": ("a b", "train test"),
    "9 10 1": ("1 9 10", ""),
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_a_layout_is_understood(tmp_path: Path, layout: str) -> None:
    for number, folder in enumerate(layout.split()):
        paint(tmp_path / folder, 2, number)
    (tmp_path / "empty").mkdir()
    found = dataset_of("folder:x").listed(f"folder:{tmp_path}")
    classes, parts = LAYOUTS[layout]
    assert found.classes == tuple(classes.split())
    assert {entry.part or "" for entry in found.entries} == set(parts.split() or [""])
    shown = [entry.name.removesuffix(".png") for entry in found.entries]
    assert shown == sorted(shown, key=lambda name: (found.classes.index(class_in(name, found.classes)), name))


def class_in(name: str, classes: tuple[str, ...]) -> str:
    return next(part for part in reversed(name.split("/")) if part in classes)


@pytest.mark.parametrize(
    ("layout", "why"),
    [
        ("train/a train/b test/a test/b test/c", "classes that .*train lacks: c"),
        (
            "train/a train/b test/a test/b single_prediction",
            "train/ look like splits .*, and single_prediction/",
        ),
        ("train/a train/b unseen/a unseen/b", "train/ looks like a split .*, and unseen/ like none"),
        ("train/a train/b test/a sample", "test/ and train/ look like splits .*, and sample/ like none"),
        ("train/cat train/dog test/test docs", "test/ and train/ look like splits .*, and docs/"),
        ("train/good test/good test/bad ground_truth/bad", "train/ look like splits .*, and ground_truth/"),
        ("train/a train/b test sample docs/x", "train/ look like splits .*, and docs/, sample/ like none"),
        ("train/a train/b unseen/a sample", "train/ looks like a split .*, and sample/, unseen/ like none"),
        ("seg_train/a seg_train/b seg_test/a seg_pred", "seg_train/ look like splits .*, and seg_pred/"),
        ("seg_train/a seg_train/b seg_test/a seg_test/b seg_pred", "seg_train/ look like splits .*seg_pred/"),
        (
            "data/train/a data/train/b data/test/a sample",
            r"data holds test/, train/.*`folder:.*data` takes it",
        ),
        ("fold1/a fold1/b fold2/a fold2/b", "fold2/ hold a/ and b/ alike.*label=2` takes the inner"),
        ("x/set1/pictures/a x/set1/pictures/b x/set2/a x/set2/b x/set3/a x/set3/b/c", "label=4.*label=2 the"),
        ("data/a data/b figures", "data/ holds a/ and b/, beside pictures in figures/.*label=2`"),
        ("train/a train/b a b", "train/ holds a/ and b/, beside pictures in a/ and b/"),
        ("A/train/a A/train/b A/test/a A/test/b B/train/c B/test/c", r"A/ is a data set.*folder:.*A` takes"),
        ("train test", "train/ hold pictures and no class folders; wanted is"),
        ("a", "holds 1 class folders"),
        ("Images Masks", "Images/ and Masks/ are pictures and what was drawn on them"),
        ("train/images train/masks val/images val/masks", "images/ and masks/ are pictures and what was"),
    ],
)
def test_a_layout_that_could_mean_two_things_is_refused(tmp_path: Path, layout: str, why: str) -> None:
    for folder in layout.split():
        paint(tmp_path / folder, 1, 0)
    with pytest.raises(CnnkitError, match=why):
        dataset_of("folder:x").listed(f"folder:{tmp_path}")


def test_the_level_of_folders_that_names_classes_can_be_said(tmp_path: Path) -> None:
    for number, folder in enumerate(["fold1/a", "fold1/b", "fold2/a", "fold2/b", "fold2/b/deep"]):
        paint(tmp_path / folder, 2, number)
    paint(tmp_path / "loose", 1, 9)

    def listed(columns: str) -> Listing:
        return dataset_of("folder:x").listed(f"folder:{tmp_path}", Reading(columns=columns))

    inner = listed("label=2,group=1")
    assert inner.classes == ("a", "b")
    assert Counter(entry.group for entry in inner.entries) == {"fold1": 4, "fold2": 6}
    assert [(one.name, one.why) for one in inner.left_out] == [("loose/000.png", "not 2 folders deep")]
    assert listed("label=1").classes == ("fold1", "fold2", "loose")
    for columns, why in (
        ("label=2,part=1", "in the part 'fold1'; known: train"),
        ("label=kind", "label=LEVEL"),
        ("label=0", "level 1 are the folders in it"),
    ):
        with pytest.raises(CnnkitError, match=why):
            listed(columns)


def test_links_in_circles_and_names_that_are_too_long_end_nothing(tmp_path: Path) -> None:
    paint(tmp_path / "a", 1, 0)
    paint(tmp_path / "b", 1, 1)
    (tmp_path / "a" / "loop").symlink_to("loop")
    found = dataset_of("folder:x").listed(f"folder:{tmp_path}")
    assert [one.name for one in found.left_out] == ["a/loop"]
    assert found.left_out[0].why.startswith("a link that cannot be followed: ")
    long = "x" * 300
    (tmp_path / "t.csv").write_text(f"file,label\na/000.png,a\nb/000.png,b\n{long},a\n")
    found = dataset_of("csv:x").listed(f"csv:{tmp_path / 't.csv'}")
    assert [(one.name, one.why) for one in found.left_out] == [(long, "no such file")]
    state = found.state()
    (tmp_path / "a" / "000.png").unlink()
    assert found.state() != state
    for word in (f"folder:{long}", f"csv:{long}"):
        with pytest.raises(CnnkitError, match=r"x cannot be read: |no f(older|ile) "):
            dataset_of(word).listed(word)
    with pytest.raises(NotFoundError, match="no dataset 'xxx"):
        dataset_of(long)


def test_what_is_left_out_is_listed_with_the_reason(tmp_path: Path) -> None:
    for folder in ("train/a", "train/b", "test", "__MACOSX/train"):
        paint(tmp_path / folder, 1, 0)
    inside = tmp_path / "train" / "a"
    (inside / "._000.png").write_bytes(b"\0\5\26\7")
    (inside / "Thumbs.db").write_bytes(b"x")
    (inside / "notes.txt").write_text("of mine")
    shutil.copy(inside / "000.png", inside / "without_an_ending")
    (inside / "noise.bin").write_bytes(b"x" * 40)
    (tmp_path / "train" / "empty").mkdir()
    (inside / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (inside / "again").symlink_to(tmp_path / "train" / "b")
    paint(tmp_path.parent / f"{tmp_path.name}-elsewhere", 1, 3)
    (tmp_path / "train" / "linked").symlink_to(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    (tmp_path / "train" / "loop").symlink_to(tmp_path)
    found = dataset_of("folder:x").listed(f"folder:{tmp_path}")
    assert found.classes == ("a", "b", "linked")
    assert [entry.name for entry in found.entries if entry.label == 0] == [
        "train/a/000.png",
        "train/a/without_an_ending",
    ]
    assert {one.name: one.why for one in found.left_out} == {
        "__MACOSX": "a leftover of an archive or a system",
        "test/000.png": "in a split without class folders",
        "train/a/._000.png": "a leftover of an archive or a system",
        "train/a/Thumbs.db": "a leftover of an archive or a system",
        "train/a/again": "a link to a folder that is read already",
        "train/a/gone.png": "a link to nothing",
        "train/a/noise.bin": "no picture, by its ending",
        "train/a/notes.txt": "no picture, by its ending",
        "train/empty/": "a folder without pictures",
        "train/loop": "a link to a folder that is read already",
    }


def test_a_name_that_is_no_text_is_told_as_latin_1_and_read(tmp_path: Path) -> None:
    paint(tmp_path / "$5_$10", 3, 1)
    paint(tmp_path / "plain", 3, 2)
    (tmp_path / "plain").rename(Path(str(tmp_path)) / b"caf\xe9".decode("utf-8", "surrogateescape"))
    data = load(tmp_path)
    assert data.classes == ("$5_$10", "café")
    assert len(data.train) + len(data.test) == 6


def test_an_unlabelled_test_in_one_folder_is_left_out_and_told(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "test/unknown"):
        paint(tmp_path / name, 1, 0)
    (out,) = dataset_of("folder:x").listed(f"folder:{tmp_path}").left_out
    assert (out.name, out.why) == (
        "test/unknown/000.png",
        "in a split whose one folder, unknown/, is no class",
    )


def test_an_accent_is_one_letter_however_the_folder_was_packed(tmp_path: Path) -> None:
    for part, form in (("train", "NFC"), ("test", "NFD")):
        paint(tmp_path / part / unicodedata.normalize(form, "café"), 2, 1)  # type: ignore[arg-type]  # both are
        paint(tmp_path / part / "tea", 2, 2)
    assert load(tmp_path).classes == ("café", "tea")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no folder .*gone; --dataset folder:PATH takes"):
        load(tmp_path / "gone")


def as_one_spelling(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6).map(as_one_spelling)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(NAMES, st.integers(5, 9), min_size=2, max_size=4), st.integers(1, 9))
def test_every_picture_of_every_class_is_read_once_with_its_label(counts: dict[str, int], side: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for shade, (name, count) in enumerate(counts.items()):
            paint(Path(folder) / name, count, shade, (side, side))
        data = load(Path(folder))
        again = load(Path(folder))
    assert set(data.classes) == set(counts)
    found = np.concatenate([data.train.labels, data.test.labels])
    pictures = np.concatenate([data.train.images, data.test.images])
    for shade, (name, count) in enumerate(counts.items()):
        mine = pictures[found == data.classes.index(name)]
        # red tells the class and green the picture, see `paint`
        assert set(mine[:, 0].ravel()) == {shade}
        assert sorted(mine[:, 1, 0, 0].tolist()) == list(range(count))
    assert again.fingerprint == data.fingerprint
