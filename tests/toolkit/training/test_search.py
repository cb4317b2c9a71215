"""A search: where it looks, what it draws, that it gives up the poor and goes on with the same trials."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from safetensors.numpy import save_file

from toolkit import schema, zoo
from toolkit.clusters.local import LocalWorkplace
from toolkit.commands.sweep import show_table
from toolkit.errors import CnnkitError, DivergedError
from toolkit.models import Recipe
from toolkit.splits import Fold
from toolkit.training import TrainingReport
from toolkit.training import search as searching
from toolkit.training.cell_results import CellResult
from toolkit.training.cells import CellPlan
from toolkit.training.record.charts import best_so_far
from toolkit.training.search import run_search
from toolkit.training.search_plan import SearchPlan, SearchRange, plan_search, searchable
from toolkit.training.sweep import sweep
from toolkit.training.table import Setting, Table, varied
from toolkit.training.trials import TrialJudge, given_up, judged

pytest.importorskip("optuna")
pytest.importorskip("torch")


REPORT = {
    "model": "lenet",
    "recipe": "default",
    "dataset": "x",
    "epochs": 1,
    "seed": 0,
    "checkpoint": "x",
    "sha256": "x",
    "run": "x",
    "settings": {"name": "x"},
    "history": [
        {
            "epoch": 1,
            "attempt": 0,
            "rate": 0.1,
            "train_loss": 1.0,
            "train_accuracy": 0.5,
            "val_loss": 1.0,
            "val_accuracy": 0.5,
            "seconds": 1.0,
        }
    ],
    "selected_epoch": 1,
    "test_accuracy": 0.5,
    "test_accuracy_ci95": [0.4, 0.6],
    "test_images": 10,
    "val_accuracy": 0.5,
    "class_accuracy": [],
    "confusion": [],
    "flip_test_accuracy": None,
    "seconds": 1.0,
    "images_per_second": 1.0,
    "arithmetic": "fp32",
    "layout": "contiguous",
    "threads": 1,
    "peak_memory_bytes": 1,
    "device_peak_memory_bytes": None,
    "device_utilisation": None,
}


def reported(*epochs: dict[str, float], selected: int = 1, **settings: str) -> TrainingReport:
    """Return a report of these epochs, of which one was kept."""
    (like,) = REPORT["history"]  # type: ignore[misc]
    history = [{**like, "epoch": number, **figures} for number, figures in enumerate(epochs, 1)]  # type: ignore[dict-item]
    found = {"history": history, "selected_epoch": selected, "settings": {"name": "x", **settings}}
    return schema.convert(TrainingReport, {**REPORT, **found}, what="x")


def plan(trials: int = 12, epochs: int = 9, **fixed: tuple[str, ...]) -> SearchPlan:
    recipe = Recipe(name="x", lr=0.9, batch=64, optimizer="sgd", epochs=epochs)
    over = tuple(word for word in ("lr", "batch") if len(fixed.get(word, ())) != 1)
    return plan_search(trials, recipe, fixed, over, seed=0)


def test_ranges_come_from_the_recipes_declarations_around_its_own_values() -> None:
    lr, batch = plan().ranges
    assert (lr.low, lr.high, lr.log) == (pytest.approx(0.9 / 16), pytest.approx(0.9 * 16), True)
    assert (batch.low, batch.high, batch.whole) == (16, 256, True)
    given = plan(optimizer=("sgd", "adam")).ranges
    assert given[0].choices == ("sgd", "adam")
    with pytest.raises(CnnkitError, match="no range for 'epochs'; it knows batch"):
        plan_search(3, Recipe(name="x"), {}, ("epochs",), seed=0)
    with pytest.raises(CnnkitError, match="holds none out: --validation-fraction"):
        plan_search(3, zoo.model("lenet").recipe("textbook"), {}, (), seed=0)


@pytest.mark.parametrize(
    ("fixed", "over", "said"),
    [
        (
            {"lr": ("0.01",)},
            ("lr", "batch"),
            "--over lr draws values, and --lr 0.01 is a single one: leave one",
        ),
        ({}, ("lr", "momentum"), "draw --lr 0.001, --momentum 0.475, which .* the optimizer is adamw"),
        ({}, ("momentum", "optimizer"), "--momentum 0.475, --optimizer adam, which no"),
        ({"optimizer": ("sgd", "adam")}, ("momentum",), "draw --optimizer adam, --momentum 0.475, "),
        ({"warmup-epochs": ("1",)}, ("schedule",), "--schedule one-cycle, .*one-cycle warms up by itself"),
    ],
)
def test_what_no_trial_would_draw_or_take_is_refused_when_planned(
    fixed: dict[str, tuple[str, ...]], over: tuple[str, ...], said: str
) -> None:
    with pytest.raises(CnnkitError, match=said):
        plan_search(3, Recipe(name="x"), fixed, over, seed=0)


def test_every_range_that_a_field_declares_lies_within_what_the_field_may_be() -> None:
    words = tuple(word for word in searchable() if word != "optimizer")  # others have no momentum
    found = plan_search(3, Recipe(name="x", optimizer="sgd"), {}, words, seed=0)
    for one in found.ranges:
        distribution = one.distribution()
        if not one.choices:
            low, high = (one.text(getattr(distribution, end)) for end in ("low", "high"))
            assert one.value(low) <= one.value(high)


class Bowl:
    """A made-up training, best at a rate of 0.1, that counts what was trained."""

    def __init__(self) -> None:
        self.trained: list[dict[str, str]] = []

    def __call__(
        self, cells: CellPlan, values: dict[str, str], cell: Path, *, label: str, trial: TrialJudge
    ) -> CellResult:
        self.trained.append(dict(values))
        figure = 1 / (1 + abs(float(values["lr"]) - 0.1)) - int(values["batch"]) / 10_000
        run = cell / "lenet" / "runs" / "1"
        run.mkdir(parents=True)
        rows = "".join(f"{figure * epoch / 9}\n" for epoch in range(1, 10))
        (run / "epochs.csv").write_text(f"val_accuracy\n{rows}")
        report = reported(*({"val_accuracy": figure * epoch / 9} for epoch in range(1, 10)), selected=9)
        done = CellResult(values=values, status="done", wall_s=1.0, report=report)
        return judged(done, cell, trial)


def run(plan: SearchPlan, folder: Path, bowl: Bowl, monkeypatch: pytest.MonkeyPatch) -> list[CellResult]:
    known: dict[Path, CellResult] = {}

    def remember(*args: object, **more: object) -> CellResult:
        result = bowl(*args, **more)  # type: ignore[arg-type]
        (args[2] / "kept.json").write_text(json.dumps({"status": result.status}))  # type: ignore[operator]
        kept[args[2]] = result  # type: ignore[index]
        return result

    monkeypatch.setattr(searching, "run_cell", remember)
    monkeypatch.setattr(searching, "known_result", lambda cell: kept.get(cell) or known.get(cell))
    return [result for result, _ in run_search(HERE, {}, plan, folder)]


kept: dict[Path, CellResult] = {}
HERE = CellPlan(model="lenet", arguments=(), place=LocalWorkplace())


def test_the_same_seed_draws_the_same_trials_and_a_stopped_search_goes_on_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.clear()
    whole = run(plan(), tmp_path / "whole", Bowl(), monkeypatch)
    short, rest = Bowl(), Bowl()
    run(SearchPlan(trials=5, ranges=plan().ranges, epochs=9), tmp_path / "again", short, monkeypatch)
    # what is drawn after the first trials depends on how many are planned, so the plan stays the same
    kept.clear()
    first = run(plan(), tmp_path / "stopped", short, monkeypatch)[:5]
    for cell in sorted(kept)[5:]:
        del kept[cell]
    for cell in list((tmp_path / "stopped" / "cells").iterdir()):
        if cell not in kept:
            (cell / "lenet" / "runs" / "1" / "epochs.csv").unlink()
            (cell / "lenet" / "runs" / "1").rmdir()
    resumed = run(plan(), tmp_path / "stopped", rest, monkeypatch)
    assert [one.values for one in resumed] == [one.values for one in whole]
    assert [one.status for one in resumed] == [one.status for one in whole]
    assert resumed[:5] == first
    assert len(rest.trained) == 7


def test_a_search_finds_the_bottom_of_a_bowl_and_gives_up_the_poor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.clear()
    results = run(plan(30), tmp_path, Bowl(), monkeypatch)
    assert {len(one.by_epoch) for one in results if one.status == "pruned"} == {1, 3}
    assert sum(len(one.by_epoch) for one in results) < 0.4 * 25 * 9  # of a grid's 25 cells
    best = max((one for one in results if one.status == "done"), key=lambda one: max(one.by_epoch))
    assert float(best.values["lr"]) == pytest.approx(0.1, abs=0.1)


def test_a_real_search_leaves_a_table_a_history_and_the_same_trials_again(tmp_path: Path) -> None:
    options = {
        "dataset": "fashion-mnist-sample",
        "root": tmp_path,
        "images": 200,
        "epochs": 1,
        "threads": 1,
        "search": 3,
        "over": ("lr",),
    }
    said: list[str] = []
    table = sweep("lenet-relu", tell=said.append, **options)  # type: ignore[arg-type]
    assert [result.status for result in table.results] == ["done"] * 3
    assert len({result.values["lr"] for result in table.results}) == 3
    assert table.best is not None
    assert table.to_json()["best"]["lr"] == table.best.values["lr"]
    assert table.best.mean == max(r.report.val_accuracy for r in table.results if r.report)
    assert table.files["history"].stat().st_size > 5000
    assert any(line.startswith("lr: 0.00025 to 0.064") for line in said)
    again = sweep("lenet-relu", resume=True, **options)  # type: ignore[arg-type]
    assert [result.values for result in again.results] == [result.values for result in table.results]
    assert again.results == table.results


def cells_of(folder: Path, axis: str, figures: Mapping[str, Sequence[float | None]]) -> Table:
    """Return a table of rates, each with so many folds or seeds; None is a cell that failed."""
    count = max(map(len, figures.values()))
    axes = {"lr": tuple(figures), axis: tuple(f"{number}/{count}" for number in range(1, count + 1))}
    results = []
    for lr, those in figures.items():
        for repeat, figure in zip(axes[axis], those, strict=True):
            report = None if figure is None else reported({"val_accuracy": figure})
            status: Literal["done", "failed"] = "failed" if report is None else "done"
            values = {"lr": lr, axis: repeat}
            results.append(CellResult(values=values, status=status, wall_s=1.0, report=report))
    return Table(model="lenet", folder=folder, axes=axes, results=tuple(results))


@pytest.mark.parametrize("axis", ["fold", "seed"])
def test_folds_and_seeds_of_one_setting_are_compared_as_one(tmp_path: Path, axis: str) -> None:
    table = cells_of(tmp_path, axis, {"0.1": (0.5, 0.9), "0.2": (0.75, 0.8)})
    assert table.best is not None
    assert table.best.sentence(table.varied) == f"0.7750 ± 0.0354 over 2 {axis}s: --lr 0.2"
    told = table.to_json()
    assert told["best"] == {"lr": "0.2"}
    assert told["cells"][3]["settings"] == {"lr": "0.2", axis: table.axes[axis][1]}
    assert (told["cells"][3]["lr"], told["cells"][3]["status"]) == ("0.2", "done")
    figures = {
        "metric": "accuracy",
        "mean": pytest.approx(0.775),
        "deviation": pytest.approx(0.0354, abs=1e-4),
    }
    assert told["best_held_out"] == {**figures, "trained": 2, "cells": 2}
    # a search that drew a setting twice has no folds of it
    twice = [replace(table.results[2], values={"lr": "0.2"})] * 2
    drawn = Table(model="lenet", folder=tmp_path, axes={"lr": ("0.1", "0.2")}, results=tuple(twice))
    assert drawn.best is not None
    assert drawn.best.sentence(drawn.varied) == "0.7500: --lr 0.2"


def test_a_setting_that_lacks_folds_is_no_rival_of_those_that_have_them_all(tmp_path: Path) -> None:
    table = cells_of(tmp_path, "fold", {"0.1": (0.95, None, None), "0.2": (0.75, 0.8, 0.85)})
    assert table.best is not None
    assert table.best.sentence(table.varied) == "0.8000 ± 0.0500 over 3 folds: --lr 0.2"
    holes = cells_of(tmp_path, "fold", {"0.1": (0.95, None, None), "0.2": (0.75, 0.8, None)})
    assert holes.best is not None
    assert holes.best.sentence(holes.varied) == "0.9500 over 1 of 3 folds: --lr 0.1"
    assert holes.settings[1].sentence(holes.varied) == "0.7750 ± 0.0354 over 2 of 3 folds: --lr 0.2"
    both = {"lr": ("1",), "fold": ("1/2", "2/2"), "seed": ("0", "1")}
    some = Setting(values={"lr": "1"}, figures=(0.5, 0.5, 0.8), cells=4)
    assert some.sentence(varied(both)) == "0.6000 ± 0.1732 over 3 of 4 cells (2 folds × 2 seeds)"
    assert replace(some, cells=3).sentence(varied(both)) == "0.6000 ± 0.1732 over 2 folds × 2 seeds"


def test_seeds_alone_are_no_rivals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = cells_of(tmp_path, "seed", {"0.1": (0.5, 0.9)})
    show_table(table)
    assert "\non held-out images: 0.7000 ± 0.2828 over 2 seeds\n" in capsys.readouterr().out


def test_trials_that_failed_are_in_no_history_of_what_was_reached(tmp_path: Path) -> None:
    by_epoch = (0.9, 0.95)
    slow = CellResult(values={"lr": "1"}, status="timeout", wall_s=1.0, by_epoch=by_epoch)
    broken, poor = replace(slow, status="failed"), replace(slow, status="pruned")
    axes = {"lr": ("1",)}
    table = Table(model="lenet", folder=tmp_path, axes=axes, results=(slow, broken, poor), metric="accuracy")
    assert table.history() == [None, None, 0.95]


def test_a_loss_is_shown_as_it_is_and_the_best_is_the_least(tmp_path: Path) -> None:
    poor = CellResult(values={"lr": "0"}, status="pruned", wall_s=1.0, by_epoch=(-2.5, -1.5))
    assert poor.sentence == "given up after epoch 2, at 1.5000"
    report = reported({"val_loss": 0.5}, metric="loss")
    good = CellResult(values={"lr": "1"}, status="done", wall_s=1.0, report=report)
    wild = CellResult(values={"lr": "9"}, status="diverged", wall_s=1.0, by_epoch=(-9.0,))
    axes = {"lr": ("0", "1", "9")}
    table = Table(model="lenet", folder=tmp_path, axes=axes, results=(poor, good, wild), metric="loss")
    assert table.history() == [1.5, 0.5, None]
    values = np.array([np.nan, 2.0, 3.0, 1.0])
    assert best_so_far(values, falls=True).tolist() == [np.inf, 2.0, 2.0, 1.0]
    assert best_so_far(values, falls=False).tolist() == [-np.inf, 2.0, 3.0, 3.0]


def table_of(folder: Path, *reports: TrainingReport) -> Table:
    results = tuple(
        CellResult(values={"lr": str(number)}, status="done", wall_s=1.0, report=report)
        for number, report in enumerate(reports)
    )
    return Table(model="lenet", folder=folder, axes={"lr": ("0", "1")}, results=results)


def test_the_best_cell_is_best_in_what_its_epochs_were_chosen_by(tmp_path: Path) -> None:
    often, fair = (
        {"val_accuracy": 0.9, "val_balanced_accuracy": 0.4, "val_loss": 0.5},
        {"val_accuracy": 0.8, "val_balanced_accuracy": 0.7, "val_loss": 0.25},
    )
    for metric, best in (
        ("accuracy", "0.9000: --lr 0"),
        ("balanced-accuracy", "balanced accuracy 0.7000: --lr 1"),
        ("loss", "loss 0.2500: --lr 1"),
    ):
        table = table_of(tmp_path, reported(often, metric=metric), reported(fair, metric=metric))
        assert table.best is not None
        assert table.best.sentence(table.varied) == best
    mixed = table_of(tmp_path, reported(often, metric="loss"), reported(fair, metric="accuracy"))
    assert mixed.best is not None
    assert mixed.best.sentence(mixed.varied) == "0.9000: --lr 0"


def test_trials_that_run_along_are_judged_by_those_that_would_have_come_before(tmp_path: Path) -> None:
    def trial(figure: float) -> CellResult:
        by_epoch = tuple(figure * epoch / 9 for epoch in range(1, 10))
        return CellResult(values={}, status="done", wall_s=1.0, by_epoch=by_epoch)

    poor, good = trial(0.1), trial(0.9)
    alone = searching._Halving(plan(), 1, [good])
    assert alone.settled(poor).by_epoch == poor.by_epoch[:1]
    results: list[CellResult] = []
    beside = searching._Halving(plan(), 1, results)
    assert not beside.gives_up(poor.by_epoch[:1])  # its judge is at work
    results.append(good)
    assert beside.settled(poor) == alone.settled(poor)
    assert beside.settled(trial(0.91)).status == "done"


def test_what_diverged_is_no_rival_of_later_trials() -> None:
    wild = CellResult(values={}, status="diverged", wall_s=1.0, by_epoch=(0.9,) * 9)
    steady, better = (replace(wild, status="done", by_epoch=(figure,) * 9) for figure in (0.5, 0.6))
    assert not searching._Halving(plan(), 2, [wild, steady]).gives_up(better.by_epoch[:1])
    assert searching._Halving(plan(), 2, [better, steady]).gives_up(steady.by_epoch[:1])


def test_where_the_rate_is_sought_a_trial_is_judged_by_its_first_attempt_seen_in_time_or_late(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "lenet" / "runs" / "1"
    folder.mkdir(parents=True)
    good = CellResult(values={}, status="done", wall_s=1.0, by_epoch=(0.9,) * 9)
    judge = searching._Halving(plan(), 1, [good])
    (folder / "epochs.csv").write_text("attempt,val_accuracy\n0,0.1\n")
    assert given_up(tmp_path, judge)  # there is no good epoch to go back to
    fixed = plan(lr=("9",), batch=("1", "2"))
    assert not given_up(tmp_path, searching._Halving(fixed, 1, [good]))  # which the guard may take back
    ended = CellResult(values={}, status="done", wall_s=1.0)
    in_time = judged(ended, tmp_path, judge)
    assert (in_time.status, in_time.by_epoch) == ("pruned", (0.1,))
    (folder / "first-attempt.csv").write_text("attempt,val_accuracy\n0,0.1\n0,0.1\n")
    (folder / "epochs.csv").write_text("attempt,val_accuracy\n1,0.8\n")
    assert judged(ended, tmp_path, judge) == in_time
    (folder / "first-attempt.csv").write_text("attempt,val_accuracy\n0,0.9\n0,0.9\n")
    assert judged(ended, tmp_path, judge).status == "diverged"


def test_a_draw_that_comes_again_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.clear()
    few = (SearchRange(word="lr", choices=("0.1", "0.3")), SearchRange(word="batch", choices=("32", "64")))
    bowl = Bowl()
    results = run(replace(plan(), ranges=few), tmp_path, bowl, monkeypatch)
    assert len(results) == 12
    trained = {tuple(values.items()) for values in bowl.trained}
    assert len(bowl.trained) == len(trained) <= 4
    first: dict[tuple[tuple[str, str], ...], CellResult] = {}
    for one in results:
        assert first.setdefault(tuple(one.values.items()), one) == one
    again = Bowl()
    assert run(replace(plan(), ranges=few), tmp_path, again, monkeypatch) == results
    assert not again.trained


def test_a_trial_that_diverged_is_the_worst_and_no_failure_of_its_search(tmp_path: Path) -> None:
    folder = tmp_path / "lenet" / "runs" / "1"
    folder.mkdir(parents=True)
    given = plan()
    judge = searching._Halving(given, 0, [])
    (folder / "epochs.csv").write_text("attempt,val_accuracy\n0,0.5\n1,0.8\n1,0.9\n")
    # the guard went on at a tenth of the rate that was drawn
    values = {"lr": "9", "batch": "64"}
    kept = CellResult(values=values, status="done", wall_s=1.0, report=reported({"val_accuracy": 0.9}))
    lowered = judged(kept, tmp_path, judge)
    assert (lowered.status, lowered.by_epoch, lowered.report) == ("diverged", (0.5,), None)
    save_file({}, folder / "good.state", metadata={"progress": json.dumps({"epoch": 1})})
    assert given_up(tmp_path, judge)  # no later epoch makes up for it
    assert judged(kept, tmp_path, searching._Halving(plan(lr=("9",), batch=("1", "2")), 0, [])) == replace(
        kept, by_epoch=(0.5, 0.8, 0.9)
    )
    (folder / "epochs.csv").unlink()
    status = DivergedError.exit_status
    broken = CellResult(values=values, status="failed", wall_s=1.0, error="nan", exit_status=status)
    broken = judged(broken, tmp_path, judge)
    assert broken.status == "diverged"

    poor = CellResult(
        values={"lr": "1", "batch": "64"}, status="done", wall_s=1.0, report=reported({"val_accuracy": 0.2})
    )
    told = searching._study(given, 9, [broken, poor, lowered]).trials
    assert [trial.state.name for trial in told] == ["PRUNED", "COMPLETE", "PRUNED"]
    assert [trial.intermediate_values for trial in told] == [{}, {}, {}]
    table = Table(
        model="lenet",
        folder=tmp_path,
        axes={word: (value,) for word, value in values.items()},
        results=(broken, poor, lowered),
        metric="accuracy",
    )
    assert table.require() is table
    with pytest.raises(DivergedError, match="all 2 trials diverged"):
        replace(table, results=(broken, lowered)).require()


class Falls:
    """Gives up what falls below a half."""

    first_alone = False

    def figure(self, epoch: Mapping[str, str]) -> float | None:
        return float(epoch["val_accuracy"])

    def gives_up(self, by_epoch: Sequence[float]) -> bool:
        return by_epoch[-1] < 0.5


def test_epochs_that_the_guard_may_take_back_give_no_trial_up(tmp_path: Path) -> None:
    folder = tmp_path / "lenet" / "runs" / "1"
    folder.mkdir(parents=True)

    def told(*figures: float, good: int | None = None) -> bool:
        (folder / "epochs.csv").write_text("val_accuracy\n" + "".join(f"{one}\n" for one in figures))
        if good is not None:
            save_file({}, folder / "good.state", metadata={"progress": json.dumps({"epoch": good})})
        return given_up(tmp_path, Falls())

    assert not told(0.7, 0.2)
    assert not told(0.7, 0.2, good=1)
    done = CellResult(values={}, status="done", wall_s=1.0)
    assert judged(done, tmp_path, Falls()).status == "pruned"  # no more epochs come
    assert not told(0.7, 0.6, 0.3, good=2)
    assert told(0.7, 0.6, 0.3, good=3)


def test_a_trial_counts_as_the_epoch_that_was_kept(tmp_path: Path) -> None:
    fell = reported({"val_accuracy": 0.9}, {"val_accuracy": 0.2}, selected=2, select="last")
    rose = reported({"val_accuracy": 0.3}, {"val_accuracy": 0.5}, selected=2, select="last")
    table = table_of(tmp_path, fell, rose)
    assert table.best is not None
    assert table.best.values == {"lr": "1"}
    given = replace(plan(), ranges=(SearchRange(word="lr", choices=("0", "1")),))
    results = [
        replace(one, values={**one.values, "batch": "64"}, by_epoch=(0.9, 0.2)) for one in table.results
    ]
    study = searching._study(given, 9, results)
    assert [trial.value for trial in study.trials] == [0.2, 0.5]


@pytest.mark.parametrize(
    ("word", "values", "said"),
    [
        ("fold", ("1/2", "2/2"), "the luckiest fold for the best: search with one fold, then"),
        ("seed", ("0", "1", "2"), "the luckiest seed for the best: search with one seed, then"),
        ("recipe", ("default", "fast"), "its ranges lie around .*: search with --recipe default, then with"),
        ("epochs", ("3", "9"), "one --epochs, since its trials are judged after shares of them"),
        ("metric", ("accuracy", "loss"), "one --metric, since its trials are compared in it"),
    ],
)
def test_what_a_search_has_one_of_is_no_choice_of_it(word: str, values: tuple[str, ...], said: str) -> None:
    recipe = Recipe(name="x")
    with pytest.raises(CnnkitError, match=said):
        plan_search(3, recipe, {word: values}, ("lr",), seed=0)
    assert plan_search(3, recipe, {word: values[:1]}, ("lr",), seed=0).ranges


@pytest.mark.parametrize("text", ["", "0/5", "6/5", "1/1", "1/101", "a/b", "1-5"])
def test_what_is_no_fold_is_refused(text: str) -> None:
    with pytest.raises(CnnkitError, match="names no fold"):
        Fold.parse(text)
