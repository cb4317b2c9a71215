"""A network is judged by pictures that it was not trained on, however its data changed since."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exporters.run.publish import inherited
from toolkit.artifacts import Artifact
from toolkit.datasets import dataset_of, split_off, without_rows
from toolkit.errors import CnnkitError, NotFoundError, ShapeError
from toolkit.exporting.evidence import gather
from toolkit.exporting.heldout import hold_out
from toolkit.listings.excluding import write_exclusions
from toolkit.listings.parts import members
from toolkit.listings.records import find_record
from toolkit.passports import DatasetRef
from toolkit.splits import Fold, evenly
from toolkit.trained_on import is_own
from toolkit.training.jobs import train
from toolkit.unseen import UnseenPictures, held_pictures, unseen_pictures

COUNT = 60


def paint(folder: Path, names: list[str], seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for name in names:
        Image.fromarray(random.integers(0, 256, (28, 28), np.uint8)).save(folder / name)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artifact]:
    root = tmp_path_factory.mktemp("unseen")
    for seed, label in enumerate(("bag", "shirt")):
        paint(root / "pictures" / label, [f"{number:03}.png" for number in range(COUNT)], seed)
    done = train(
        "lenet-maxpool",
        dataset=f"folder:{root / 'pictures'}",
        root=root / "artifacts",
        epochs=1,
        images=70,
        threads=1,
        arithmetic="fp32",
        layout="contiguous",
    )
    return root, done.checkpoint


@pytest.fixture
def made(original: tuple[Path, Artifact], tmp_path: Path) -> tuple[Path, Artifact]:
    """Copy the pictures to where the passport then says that they were."""
    root, artifact = original
    shutil.copytree(root / "pictures", tmp_path / "pictures")
    assert artifact.passport.dataset is not None
    moved = dataclasses.replace(artifact.passport.dataset, name=f"folder:{tmp_path / 'pictures'}")
    return tmp_path / "pictures", dataclasses.replace(
        artifact, passport=dataclasses.replace(artifact.passport, dataset=moved)
    )


def unseen(artifact: Artifact, pictures: Path, **more: Any) -> UnseenPictures:
    return unseen_pictures(artifact.passport, f"folder:{pictures}", beside=artifact.path, **more)


def hashes(found: UnseenPictures) -> set[str]:
    assert found.dataset.test.members is not None
    return {member.sha256 for member in found.dataset.test.members}


def learned(artifact: Artifact) -> frozenset[str]:
    assert artifact.passport.dataset is not None
    record = find_record(artifact.path, artifact.passport.dataset.trained_on or "")
    assert record is not None
    assert len(record.pictures) == 2 * COUNT
    assert len(record.of("train", "validation")) == 70
    assert len(record.of("unused")) == 2 * COUNT - 70 - len(record.of("test"))
    return record.learned


def test_the_test_part_is_judged_and_nothing_else_is_decoded(made: tuple[Path, Artifact]) -> None:
    pictures, artifact = made
    found = unseen(artifact, pictures)
    assert found.what == "test pictures"
    assert found.notes == ()
    assert len(found.dataset.test) == artifact.passport.metrics.test_images
    assert len(found.dataset.train) == 0
    assert not hashes(found) & learned(artifact)
    assert found.dataset.fingerprint == artifact.passport.dataset.fingerprint  # type: ignore[union-attr]


def test_a_change_is_told_and_no_picture_of_training_is_ever_judged(made: tuple[Path, Artifact]) -> None:
    pictures, artifact = made
    before = hashes(unseen(artifact, pictures))
    known = sorted(learned(artifact))
    of_hash = {m.sha256: m.entry for m in members(dataset_of("folder:x").listed(f"folder:{pictures}"))}
    first, second, third = (pictures / of_hash[known[at]].name for at in (0, 1, 2))
    shutil.copy(first, pictures / "bag" / "A.png")
    second.unlink()
    paint(third.parent, [third.name], 99)
    tested = pictures / of_hash[sorted(before)[0]].name
    tested.rename(tested.with_name("renamed.png"))
    fourth = pictures / of_hash[known[3]].name
    fourth.rename(pictures / {"bag": "shirt", "shirt": "bag"}[fourth.parent.name] / "moved.png")
    found = unseen(artifact, pictures)
    assert found.notes == (
        f"note: folder:{pictures} changed since the training: 1 added, 1 removed, 1 altered, 1 given another "
        "class",
    )
    assert before <= hashes(found)
    assert not hashes(found) & learned(artifact)
    assert hashes(unseen(artifact, pictures, include_trained=True)) >= learned(artifact) - set(known[1:3])


def test_pictures_moved_from_training_into_a_test_folder_are_left_out(
    made: tuple[Path, Artifact], tmp_path: Path
) -> None:
    pictures, artifact = made
    for label in ("bag", "shirt"):
        for number in range(COUNT):
            place = tmp_path / "laid" / ("test" if number % 2 else "train") / label
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(pictures / label / f"{number:03}.png", place)
    found = unseen(artifact, tmp_path / "laid")
    (note,) = found.notes
    assert "of the test pictures were trained on and are left out; --include-trained" in note
    assert not hashes(found) & learned(artifact)
    assert len(found.dataset.test) < COUNT


def test_of_pictures_that_were_not_trained_on_all_are_judged(
    made: tuple[Path, Artifact], tmp_path: Path
) -> None:
    _, artifact = made
    paint(tmp_path / "new" / "bag", ["1.png", "2.png"], 7)
    paint(tmp_path / "new" / "shirt", ["1.png", "2.png", "3.png"], 8)
    found = unseen(artifact, tmp_path / "new")
    assert (found.what, len(found.dataset.test), found.notes) == ("pictures", 5, ())
    assert len(unseen(artifact, tmp_path / "new", images=2).dataset.test) == 2
    paint(tmp_path / "laid" / "test" / "shirt", ["1.png"], 9)
    paint(tmp_path / "laid" / "test" / "bag", ["1.png"], 10)
    paint(tmp_path / "laid" / "train" / "bag", ["1.png"], 11)
    paint(tmp_path / "laid" / "train" / "shirt", ["1.png"], 12)
    assert len(unseen(artifact, tmp_path / "laid").dataset.test) == 2


def test_where_all_pictures_that_are_asked_for_are_damaged_that_is_said(made: tuple[Path, Artifact]) -> None:
    pictures, artifact = made
    assert artifact.passport.dataset is not None
    skipping = dataclasses.replace(artifact.passport.dataset, skip_damaged=True)
    passport = dataclasses.replace(artifact.passport, dataset=skipping)
    for member in unseen(artifact, pictures).dataset.test.members or ():
        (pictures / member.entry.name).unlink()
    broken = pictures / "bag" / "broken.png"
    for number in range(100):  # until it is one for the test
        broken.write_bytes(b"\x89PNG%d" % number)
        held = members(dataset_of("folder:x").listed(f"folder:{pictures}"))
        if any(one.part == "test" for one in held):
            break
    with pytest.raises(NotFoundError, match=r"none of the test pictures .* read, as bag/broken\.png is no"):
        unseen(dataclasses.replace(artifact, passport=passport), pictures)


def test_a_table_of_other_columns_is_read_as_they_are_named(
    made: tuple[Path, Artifact], tmp_path: Path
) -> None:
    _, artifact = made
    paint(tmp_path, ["1.png", "2.png"], 7)
    (tmp_path / "t.csv").write_text("was,ist\n1.png,bag\n2.png,shirt\n")
    word = f"csv:{tmp_path / 't.csv'}"
    found = unseen_pictures(artifact.passport, word, beside=artifact.path, columns="image=was,label=ist")
    assert len(found.dataset.test) == 2
    with pytest.raises(CnnkitError, match="--columns image=NAME,label=NAME says so"):
        unseen_pictures(artifact.passport, word, beside=artifact.path)


def test_labels_go_by_the_names_of_the_networks_classes(made: tuple[Path, Artifact], tmp_path: Path) -> None:
    _, artifact = made
    passport = dataclasses.replace(artifact.passport, classes=("shirt", "hat", "bag"))
    paint(tmp_path / "new" / "bag", ["1.png"], 7)
    paint(tmp_path / "new" / "shirt", ["1.png"], 8)
    found = unseen(dataclasses.replace(artifact, passport=passport), tmp_path / "new")
    assert found.dataset.classes == ("shirt", "hat", "bag")
    assert sorted(found.dataset.test.labels.tolist()) == [0, 2]


def test_a_network_of_before_the_lists_is_not_measured_on_what_nobody_knows(
    made: tuple[Path, Artifact],
) -> None:
    pictures, artifact = made
    assert artifact.passport.dataset is not None
    old = dataclasses.replace(artifact.passport.dataset, trained_on=None)
    before = dataclasses.replace(artifact, passport=dataclasses.replace(artifact.passport, dataset=old))
    with pytest.raises(NotFoundError, match=r"was trained on is not known: .* train it again, or --include"):
        unseen(before, pictures)
    found = unseen(before, pictures, include_trained=True)
    assert len(found.dataset.test) == 2 * COUNT
    assert any("not comparable" in note for note in found.notes)


def test_what_was_excluded_or_read_in_a_way_of_its_own_stays_so_wherever_the_data_lies(
    tmp_path: Path,
) -> None:
    here = tmp_path / "here"
    for seed, label in enumerate(("bag", "#1")):
        paint(here / label, [f"{clip}-{n}.png" for clip in "abcdefgh" for n in range(4)], seed)
    (here / "bag" / "damaged.png").write_bytes(b"\x89PNG")
    names = [f"#1/a-{number}.png" for number in range(4)]
    write_exclusions(tmp_path / "out.txt", dict.fromkeys([*names, "bag/damaged.png"], ""))
    rows = [f"{one.relative_to(here)},{one.parent.name}" for one in sorted(here.rglob("*.png"))]
    (here / "t.csv").write_text("\n".join(["was,ist", *rows]))
    (tmp_path / "link").symlink_to(here)
    done = train(
        "lenet-maxpool",
        dataset=f"csv:{here / 't.csv'}",
        root=tmp_path / "artifacts",
        columns="image=was,label=ist",
        group=r"/(\w)-",
        exclude=tmp_path / "out.txt",
        epochs=1,
        threads=1,
        arithmetic="fp32",
        layout="contiguous",
    )
    (tmp_path / "out.txt").unlink()
    artifact = done.checkpoint
    shutil.copytree(here, tmp_path / "there")
    for folder in (here, tmp_path / "link", tmp_path / "there"):
        found = unseen_pictures(artifact.passport, f"csv:{folder / 't.csv'}", beside=artifact.path)
        assert (found.notes, len(found.dataset.test)) == ((), artifact.passport.metrics.test_images)
        every = unseen_pictures(
            artifact.passport, f"csv:{folder / 't.csv'}", beside=artifact.path, include_trained=True
        )
        assert len(every.dataset.test) == 60


def test_one_place_is_known_by_all_of_its_paths(original: tuple[Path, Artifact], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for scheme in ("tar", "parquet"):
        known = DatasetRef(name=f"{scheme}:{tmp_path}/link/one.{scheme}")  # as such a listing has its word
        passport = dataclasses.replace(original[1].passport, dataset=known)
        assert is_own(f"{scheme}:{tmp_path}/link/../{tmp_path.name}/one.{scheme}", passport)
        assert not is_own(f"{scheme}:{tmp_path}/two.{scheme}", passport)


def test_rows_that_were_excluded_are_not_measured(original: tuple[Path, Artifact], tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("test 3\ntest 5\ntrain 0\ntest 99999\n")
    data, absent = without_rows(dataset_of("fashion-mnist-sample").load("fashion-mnist-sample"), path)
    assert [(one.name, one.why) for one in absent] == [("test 99999", "excluded, and not there")]
    known = DatasetRef(name="fashion-mnist-sample", fingerprint=data.fingerprint, exclude=str(path))
    passport = dataclasses.replace(original[1].passport, dataset=known)
    found = unseen_pictures(passport, "fashion-mnist-sample")
    assert (len(found.dataset.test), found.notes) == (len(data.test), ())
    path.write_text("# the same pictures\ntrain 0\ntest 5\ntest 3\n")
    assert unseen_pictures(passport, "fashion-mnist-sample").notes == ()
    for edited, count in (("".join(f"test {at}\n" for at in range(400)), 100), ("", 500)):
        path.write_text(edited)
        found = unseen_pictures(passport, "fashion-mnist-sample")
        assert len(found.dataset.test) == count
        assert "out.txt, which lists what was left out, was edited since the training" in found.notes[0]
    path.unlink()
    found = unseen_pictures(passport, "fashion-mnist-sample")
    assert len(found.dataset.test) == len(data.test) + 2
    assert "lists what was left out of the training, is not there" in found.notes[0]


def test_int8_is_judged_by_exactly_what_chose_the_epoch(made: tuple[Path, Artifact]) -> None:
    pictures, artifact = made
    paint(pictures / "bag", ["later.png"], 77)
    found = held_pictures(artifact.passport, beside=artifact.path, data_dir=None, images=10, seed=0)
    record = find_record(artifact.path, artifact.passport.dataset.trained_on or "")  # type: ignore[union-attr]
    assert record is not None
    assert {member.sha256 for member in found.held.members or ()} == record.of("validation")
    assert {member.sha256 for member in found.learned.members or ()} < record.of("train")
    assert len(found.learned) == 10
    assert found.origin == "held out by training"


def test_int8_is_judged_by_what_a_fold_of_few_pictures_held_out(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("train 0\ntrain 5\n")
    made = train(
        "lenet-maxpool",
        dataset="fashion-mnist-sample",
        root=tmp_path,
        epochs=1,
        images=60,
        fold="2/3",
        exclude=tmp_path / "out.txt",
    ).checkpoint
    passport = inherited(made.passport)  # as a graph of it has it
    data = dataset_of("fashion-mnist-sample").load("fashion-mnist-sample")
    learned, chose = Fold.parse("2/3").split(evenly(without_rows(data, tmp_path / "out.txt")[0].train, 60))
    found = held_pictures(passport, beside=made.path, data_dir=None, images=99, seed=0)
    assert np.array_equal(found.learned.images, learned.images)
    assert np.array_equal(found.held.images, chose.images)
    assert found.origin == "held out by training"
    assert passport.options is not None
    assert passport.options.folds_carry
    then = dataclasses.replace(passport.options, fold="2/4", folds_carry=False)  # as older releases dealt
    older = dataclasses.replace(passport, options=then)
    pool = evenly(without_rows(data, tmp_path / "out.txt")[0].train, 60)
    found = held_pictures(older, beside=made.path, data_dir=None, images=99, seed=0)
    assert np.array_equal(found.held.images, Fold.parse("2/4").split(pool, carries=False)[1].images)
    assert not np.array_equal(found.held.images, Fold.parse("2/4").split(pool)[1].images)
    (tmp_path / "out.txt").unlink()
    found = held_pictures(passport, beside=made.path, data_dir=None, images=99, seed=0)
    assert found.origin == "of the training set, which it may have been trained on"


@pytest.mark.parametrize(("halved", "count"), [(False, 200), (True, 1000)])
def test_data_that_was_only_named_is_split_as_training_would_and_halved_for_choosing(
    original: tuple[Path, Artifact], halved: bool, count: int
) -> None:
    known = DatasetRef(name="fashion-mnist-sample", named=True, halved=halved)
    passport = dataclasses.replace(original[1].passport, dataset=known, recipe=None)
    found = held_pictures(passport, beside=None, data_dir=None, images=10, seed=0)
    assert len(found.held) == count
    assert found.origin == "of the training set, which it may have been trained on"


def test_pictures_of_other_classes_than_were_trained_on_judge_no_label(made: tuple[Path, Artifact]) -> None:
    pictures, artifact = made
    paint(pictures / "ant", ["1.png", "2.png", "3.png"], 5)
    with pytest.raises(
        ShapeError, match=r"answers with 2 classes \(bag, shirt\), and .* has 3 classes \(ant, "
    ):
        hold_out(artifact.passport, images=1, seed=0, data_dir=None, beside=artifact.path)
    found = gather(artifact.passport, images=9, seed=0, data_dir=None, beside=artifact.path)
    assert (found.why_random, found.labels) == (None, None)
    assert "without their labels: lenet-maxpool answers with 2 classes" in found.source


def test_a_named_validation_part_chooses_the_epoch(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "Valid", "test")):
        for label in ("bag", "shirt"):
            paint(tmp_path / "laid" / part / label, [f"{n}.png" for n in range(6)], 10 * seed + len(label))
    data = dataset_of("folder:x").load(f"folder:{tmp_path / 'laid'}")
    assert data.validation is not None
    assert [len(part) for part in (data.train, data.validation, data.test)] == [12, 12, 12]


def test_options_of_ones_own_pictures_are_refused_for_other_data() -> None:
    with pytest.raises(CnnkitError, match="--include-trained"):
        unseen_pictures(_nothing(), "fashion-mnist-sample", include_trained=True)
    with pytest.raises(CnnkitError, match=r"--columns goes with .*: leave out --columns"):
        unseen_pictures(_nothing(), "fashion-mnist-sample", columns="image=a,label=b")
    with pytest.raises(CnnkitError, match=r"^--columns is empty"):
        unseen_pictures(_nothing(), "fashion-mnist-sample", columns="")
    with pytest.raises(CnnkitError, match=r"--group goes with pictures of your own .*folder:PATH"):
        train("lenet-maxpool", dataset="fashion-mnist-sample", group="x", epochs=1)


def _nothing() -> Any:
    return None


def test_a_lone_picture_of_each_class_cannot_be_held_out(tmp_path: Path) -> None:
    for seed, label in enumerate(("bag", "shirt")):
        paint(tmp_path / "train" / label, ["1.png"], seed)
        paint(tmp_path / "test" / label, ["1.png"], 5 + seed)
    data = dataset_of("folder:x").load(f"folder:{tmp_path}")
    with pytest.raises(CnnkitError, match="no images can be held out: every class has one"):
        split_off(data.train, 0.1)


def test_what_an_export_is_judged_by_is_refused_in_its_own_words(tmp_path: Path) -> None:
    for seed, label in enumerate(("bag", "shirt")):
        paint(tmp_path / "own" / "train" / label, ["1.png"], seed)
        paint(tmp_path / "own" / "test" / label, ["1.png"], 5 + seed)
    made = train(
        "lenet-maxpool",
        dataset=f"folder:{tmp_path / 'own'}",
        root=tmp_path,
        epochs=1,
        validation_fraction=0,
        select="last",
    ).checkpoint
    with pytest.raises(CnnkitError, match=r"every class has one .*; add pictures, or take --precision fp32"):
        hold_out(made.passport, images=1, seed=0, data_dir=None, beside=made.path)
