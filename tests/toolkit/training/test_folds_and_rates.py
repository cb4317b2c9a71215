"""Folds for cross-validation, and the rate finder."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from toolkit.datasets import Dataset, Split, dataset_of  # noqa: E402  (after the skip)
from toolkit.errors import CnnkitError  # noqa: E402
from toolkit.inspection.augmented import augmented  # noqa: E402
from toolkit.listings import Entry, Listing  # noqa: E402
from toolkit.listings.parts import Member, members  # noqa: E402
from toolkit.listings.places import FileBytes  # noqa: E402
from toolkit.splits import Fold  # noqa: E402
from toolkit.training import Watcher, finder  # noqa: E402
from toolkit.training.data import prepare as preparing  # noqa: E402
from toolkit.training.data.prepare import insist_on_data, prepare  # noqa: E402
from toolkit.training.finder import averaged, find_rate, suggest  # noqa: E402
from toolkit.training.foreseen import insist_on_what_cells_share  # noqa: E402
from toolkit.training.sweep import sweep  # noqa: E402


def test_each_picture_is_in_one_fold_and_classes_are_even_over_them() -> None:
    labels = np.repeat(np.arange(3), (50, 20, 7))
    data = Split(images=np.arange(77, dtype=np.uint8).reshape(77, 1, 1, 1), labels=labels)
    seen = []
    for number in range(1, 6):
        learned, held = Fold(number=number, count=5).split(data)
        assert len(learned) + len(held) == 77
        assert np.bincount(held.labels, minlength=3)[0] == 10
        seen += held.images.ravel().tolist()
    assert sorted(seen) == list(range(77))


def test_a_group_is_never_torn_apart_by_folds(tmp_path: Path) -> None:
    entries = [
        Entry(name=f"{at}.png", place=tmp_path / f"{at}.png", label=at % 2, group=f"clip-{at // 6}")
        for at in range(60)
    ]
    members = tuple(Member(entry=one, sha256=one.name, part="train") for one in entries)
    data = Split(
        images=np.zeros((60, 1, 1, 1), np.uint8), labels=np.arange(60, dtype=np.int64) % 2, members=members
    )
    for number in range(1, 4):
        learned, held = Fold(number=number, count=3).split(data)
        groups = [{member.entry.group for member in split.members or ()} for split in (learned, held)]
        assert not groups[0] & groups[1]


def of_groups(*groups: tuple[str, int], each: int = 10) -> Split:
    """Return pictures of groups, each of a letter for every class that it has pictures of."""
    entries = [
        Entry(
            name=f"{kinds}{at}-{kind}-{of}",
            place=FileBytes(Path("x")),
            label=ord(kind) - ord("a"),
            group=f"{kinds}{at}",
        )
        for kinds, count in groups
        for at in range(count)
        for kind in kinds
        for of in range(each)
    ]
    members = tuple(Member(entry=one, sha256=one.name, part="train") for one in entries)
    labels = np.array([one.label for one in entries], dtype=np.int64)
    return Split(images=np.zeros((len(entries), 1, 1, 1), np.uint8), labels=labels, members=members)


def held_by(data: Split, count: int) -> list[set[str]]:
    folds = (Fold(number=number, count=count).split(data)[1] for number in range(1, count + 1))
    return [{member.entry.name for member in held.members or ()} for held in folds]


@pytest.mark.parametrize(
    ("groups", "count", "sizes"),
    [
        ([("ab", 5)], 5, [20] * 5),
        ([("ab", 10)], 5, [40] * 5),
        ([("ab", 8)], 4, [40] * 4),
        ([("a", 4), ("b", 4)], 5, [10, 10, 20, 20, 20]),  # 8 patients, each of one class
        ([("a", 2), ("b", 30)], 5, [60, 60, 60, 70, 70]),
    ],
)
def test_a_few_groups_are_dealt_evenly_and_leave_some_of_every_class_to_learn_from(
    groups: list[tuple[str, int]], count: int, sizes: list[int]
) -> None:
    data = of_groups(*groups)
    folds = held_by(data, count)
    assert sorted(map(len, folds)) == sizes
    assert set().union(*folds) == {member.entry.name for member in data.members or ()}
    for number in range(1, count + 1):
        learned, _ = Fold(number=number, count=count).split(data)
        assert set(learned.labels) == {0, 1}
    order = np.random.default_rng(1).permutation(len(data))
    assert held_by(data.take(order), count) == folds  # whatever the order of files


def test_a_group_that_is_all_of_its_class_is_in_no_fold_and_too_many_folds_say_how_many_there_are() -> None:
    data = of_groups(("a", 1), ("b", 4))
    assert [len(fold) for fold in held_by(data, 4)] == [10] * 4
    with pytest.raises(CnnkitError, match=r"fold 5 of 5 would be empty: of 50 .* 4 can be .*: take 4 folds"):
        held_by(data, 5)
    with pytest.raises(CnnkitError, match=r"none can be held out.*: take no folds"):
        held_by(of_groups(("a", 1), ("b", 1)), 2)


@pytest.mark.parametrize(
    ("images", "sizes", "before"), [(20, [4] * 5, [10, 10, 0]), (60, [12] * 5, [20, 10, 10])]
)
def test_folds_of_few_pictures_of_many_classes_are_even(
    images: int, sizes: list[int], before: list[int]
) -> None:
    labels = np.arange(images, dtype=np.int64) % 10
    data = Split(images=np.zeros((images, 1, 1, 1), np.uint8), labels=labels)
    assert [len(Fold(number=number, count=5).split(data)[1]) for number in range(1, 6)] == sizes
    # as releases dealt in which each class began at the first fold
    for number, size in enumerate(before, 1):
        fold = Fold(number=number, count=5)
        if size:
            assert len(fold.split(data, carries=False)[1]) == size
        else:
            with pytest.raises(CnnkitError, match="fold 3 of 5 would be empty"):
                fold.split(data, carries=False)


def test_a_few_groups_have_a_test_part(tmp_path: Path) -> None:
    entries = tuple(
        Entry(name=f"{kind}/p{at}-{of}", place=FileBytes(tmp_path / "none"), label=label, group=f"p{at}")
        for label, kind in enumerate(("cat", "dog"))
        for at in range(8)
        for of in range(4)
    )
    listing = Listing(word="folder:x", root=tmp_path, classes=("cat", "dog"), entries=entries)
    found = {one.entry.group for one in members(listing) if one.part == "test"}
    assert len(found) == 1  # none of p0 to p7 is in it by its hash alone
    backwards = dataclasses.replace(listing, entries=entries[::-1])
    assert {one.entry.group for one in members(backwards) if one.part == "test"} == found


def test_a_sweep_says_before_its_first_cell_that_groups_are_too_few(make_job: Any, tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        for at in range(20):
            (tmp_path / kind / f"p{at % 4}-{at}.png").write_bytes(b"\x89PNG\r\n never decoded")
    job = make_job(dataset=f"folder:{tmp_path}", group=r"p(\d)")
    folds = [f"{number}/5" for number in range(1, 6)]
    with pytest.raises(CnnkitError, match=r"fold 4 of 5 would be empty: .* take 3 folds at the most"):
        insist_on_what_cells_share(job, {"fold": folds})
    insist_on_what_cells_share(job, {"fold": ["1/3", "2/3", "3/3"]})
    alone = dataclasses.replace(job, group="(p)")
    with pytest.raises(CnnkitError, match=r"40 training and 0 test images .* a --group that finds more"):
        insist_on_what_cells_share(alone, {})


def write_parts(folder: Path) -> None:
    draw = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 4), ("test", 4)):
        for kind in ("cat", "dog"):
            (folder / part / kind).mkdir(parents=True)
            for at in range(count):
                pixels = draw.integers(0, 256, (28, 28), np.uint8)
                Image.fromarray(pixels).save(folder / part / kind / f"{at}.png")


@pytest.mark.parametrize(("fold", "instead"), [("1/3", "fold 1/3"), (None, "the source's validation part")])
def test_a_share_that_nothing_comes_of_is_refused(
    make_job: Any, tmp_path: Path, fold: str | None, instead: str
) -> None:
    write_parts(tmp_path)
    own: dict[str, Any] = {"dataset": f"folder:{tmp_path}", **({"fold": fold} if fold else {})}
    for look in (prepare, insist_on_data):
        with pytest.raises(
            CnnkitError, match=f"^validation-fraction 0.5 does nothing while {instead} is held"
        ):
            look(make_job(**own, changes={"validation_fraction": 0.5}))
    for same in (0, 0.1):  # nothing more is held out, or as much as the recipe has
        assert len(prepare(make_job(**own, changes={"validation_fraction": same})).held or ()) == 8
    with pytest.raises(
        CnnkitError, match=r"^validation-fraction 0\.1,0\.5 does nothing while .* is held out"
    ):
        sweep("lenet", root=tmp_path / "a", **own, validation_fraction=[0.1, 0.5])


def test_a_search_compares_on_a_validation_part_that_the_source_names(tmp_path: Path) -> None:
    write_parts(tmp_path)
    with pytest.raises(CnnkitError, match="no range for 'epochs'"):  # and not that nothing is held out
        sweep("lenet", dataset=f"folder:{tmp_path}", recipe="textbook", search=1, over=["epochs"])


def test_a_validation_part_that_the_source_names_is_folded_with_the_rest(
    make_job: Any, tmp_path: Path
) -> None:
    write_parts(tmp_path)
    said: list[str] = []

    class Hears(Watcher):
        def say(self, text: str) -> None:
            said.append(text)

    prepared = prepare(make_job(dataset=f"folder:{tmp_path}", fold="1/3"), Hears())
    assert prepared.held is not None
    assert len(prepared.learned) + len(prepared.held) == 24  # two classes of 8 and 4
    assert len(prepared.dataset.test) == 8
    assert any("validation part are in the folds, too" in line for line in said)


def test_a_data_sets_own_validation_part_is_padded_and_folded_as_the_other_parts(
    make_job: Any, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def part(count: int) -> Split:
        labels = np.arange(count, dtype=np.int64) % 2
        return Split(images=np.zeros((count, 1, 20, 28), np.uint8), labels=labels)

    data = Dataset(
        name="own",
        train=part(40),
        validation=part(20),
        test=part(10),
        classes=("a", "b"),
        source="here",
        fingerprint="x",
    )
    own = dataclasses.replace(dataset_of("fashion-mnist-sample"), read=lambda *_: data)
    monkeypatch.setattr(preparing, "dataset_of", lambda word: own)
    whole = prepare(make_job())
    assert whole.held is not None
    assert (whole.learned.images.shape, whole.held.images.shape) == ((40, 1, 28, 28), (20, 1, 28, 28))
    folded = prepare(make_job(fold="1/4"), listener)
    assert folded.held is not None
    assert len(folded.learned) + len(folded.held) == 60
    assert "--fold: the 20 pictures of the source's validation part are in the folds, too" in listener.said


def test_a_fold_takes_the_place_of_the_share_held_out(make_job: Any) -> None:
    same = {"validation_fraction": 0.1}  # as the recipe has it
    prepared = prepare(make_job(fold="2/4", changes=same))
    assert prepared.held is not None
    assert (len(prepared.learned), len(prepared.held)) == (1500, 500)


def test_the_suggested_rate_is_where_the_loss_falls_fastest() -> None:
    rates = [10 ** (-6 + step / 20) for step in range(140)]
    losses = [2.3 - 2 / (1 + math.exp(-4 * (math.log10(rate) + 2.5))) for rate in rates]
    suggested, lowest = suggest(rates, losses)
    # the average over the last steps lags behind by a third of a decade
    assert suggested == pytest.approx(10**-2.2, rel=0.3)
    assert lowest == rates[-1]
    assert suggest(rates, [2.3] * 140)[0] is None


@pytest.mark.parametrize(
    ("drop", "spread", "seeds"), [(0.15, 0.06, 20), (0.0, 0.06, 20), (0.0, 0.3, 20), (1.0, 0.1, 5)]
)
def test_what_differs_from_batch_to_batch_is_no_fall(drop: float, spread: float, seeds: int) -> None:
    rates = [1e-6 * 10 ** (7 * step / 199) for step in range(200)]
    for seed in range(seeds):
        noise = np.random.default_rng(seed).normal(0, spread, 200)
        noise[0] = 4 * spread  # the first average is of this batch alone
        falls = [
            2.45 - drop / (1 + math.exp(-4 * (math.log10(rate) + 2))) + max(0, rate - 0.3) for rate in rates
        ]
        singles = [float(loss + wobble) for loss, wobble in zip(falls, noise, strict=True)]
        suggested, _ = suggest(rates, singles)
        if drop:
            assert suggested is not None
            assert 10**-3 < suggested < 1
        else:
            assert suggested is None


def test_a_few_steps_before_the_loss_breaks_suggest_nothing() -> None:
    assert suggest([1e-6, 2e-6, 3e-6], [2.0, 1.0, 3.0]) == (None, 3e-6)
    assert averaged([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])


def test_finding_a_rate_trains_nothing_and_draws_its_curve(make_job: Any, listener: Any) -> None:
    job = make_job(threads=1)
    curve = find_rate(job, listener)
    assert curve.suggested is not None
    assert 1e-4 < curve.suggested < 0.1  # the recipe has 0.004
    assert curve.picture is not None
    assert Path(curve.picture).stat().st_size > 5000
    assert [path.name for path in job.root.rglob("*") if path.is_file()] == ["lenet-relu.rates.png"]
    assert find_rate(job).losses == curve.losses
    assert f"suggested --lr {curve.suggested:.2g}" in curve.sentence


def test_rates_are_tried_with_all_layers_where_the_body_is_to_learn(
    make_job: Any, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder, "_STEPS", 8)
    plain = {"layer_decay": 0.7}
    all_layers = find_rate(make_job(threads=1, changes=plain)).losses
    thawing = make_job(threads=1, freeze=True, changes={**plain, "epochs": 3, "unfreeze_at": 2})
    assert find_rate(thawing, listener).losses == all_layers
    assert "rates are tried with all layers learning, as they do from --unfreeze-at 2 on" in listener.said
    listener.said.clear()
    head_alone = find_rate(make_job(threads=1, freeze=True), listener).losses
    assert head_alone != all_layers
    assert any(line.startswith("only ") for line in listener.said)
    assert not any("all layers" in line for line in listener.said)


def test_a_curve_that_cannot_be_written_is_told_before_the_first_step(make_job: Any, listener: Any) -> None:
    job = make_job(threads=1)
    job.root.mkdir()
    (job.root / "lenet-relu").write_text("a file where the folder belongs")
    with pytest.raises(CnnkitError, match=r"cannot write .*rates\.png: .*; name another --artifacts folder"):
        find_rate(job, listener)
    assert not listener.said


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"metric": "loss"}, r"--metric loss chooses .*: --validation-fraction 0\.1, or leave"),
        ({"select": "best"}, r"chosen on held-out images and none .*: --validation-fraction 0\.1, or --s"),
        ({"patience_epochs": 2}, r"early stopping needs held-out images and none .*, or leave --patience-ep"),
    ],
)
def test_choosing_an_epoch_needs_pictures_that_are_held_out_by_whatever_way(
    make_job: Any, asked: dict[str, Any], words: str
) -> None:
    nothing = {"validation_fraction": 0, "select": "last", **asked}
    with pytest.raises(CnnkitError, match=words):
        prepare(make_job(changes=nothing))
    assert prepare(make_job(changes=nothing, fold="1/4")).held is not None


def test_the_rate_finder_passes_on_what_is_told_of_the_data(
    make_job: Any, listener: Any, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    draw = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 4)):
        for kind in ("cat", "dog"):
            (data / part / kind).mkdir(parents=True)
            for at in range(count):
                pixels = draw.integers(0, 256, (28, 28), np.uint8)
                Image.fromarray(pixels).save(data / part / kind / f"{at}.png")
    shutil.copy(data / "train" / "cat" / "0.png", data / "test" / "cat" / "0.png")
    reading: list[int] = []
    listener.read = lambda done, total: reading.append(total)
    find_rate(make_job(dataset=f"folder:{data}", changes={"batch": 8}, threads=1), listener)
    assert any("copies of ones trained on: 1" in line for line in listener.said)
    assert 48 in reading
    listener.said.clear()
    augmented("lenet-relu", dataset=f"folder:{data}", watcher=listener)
    assert any("copies of ones trained on: 1" in line for line in listener.said)


def test_thawing_only_goes_with_freezing(make_job: Any) -> None:
    with pytest.raises(CnnkitError, match="names no fold"):
        prepare(make_job(fold="7/4"))
