"""Cells are trained as planned, all on the same pictures, or fail and say why, and then begin anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.toolkit.training.record.test_run_files import REPORT
from tests.toolkit.training.test_search import Falls
from toolkit import schema
from toolkit.artifacts import hash_file, shipped_root
from toolkit.clusters import Ended, LostWorkError, Work
from toolkit.clusters.local import LocalWorkplace
from toolkit.errors import CnnkitError
from toolkit.models import Recipe
from toolkit.training.cell_results import CellResult
from toolkit.training.cells import run_cell
from toolkit.training.recipes import override
from toolkit.training.record.facts import RunFacts
from toolkit.training.record.folder import RunFolder
from toolkit.training.sweep import run_sweep
from toolkit.training.sweep_plan import SweepPlan, begin_folder

MINE = Recipe(name="mine", lr=0.1, epochs=3)
FACTS = RunFacts(model="lenet", recipe=MINE, dataset="folder:x", fingerprint="these", trained_on="as here")


class Trains(LocalWorkplace):
    """Begins a run with `facts`, does what it is told, and reports a recipe."""

    def __init__(self) -> None:
        self.facts, self.settings = FACTS, MINE
        self.does: Callable[[Path], object] = lambda run: None
        self.words: list[Sequence[str]] = []
        self.ended_early: list[bool] = []

    def run(self, work: Work) -> Ended:
        self.words.append(work.words(""))
        work.log.write_text("error: it failed by itself")
        folder = RunFolder.new(work.folder / "lenet" / "runs")
        folder.begin(self.facts)
        assert work.enough is not None
        self.ended_early.append(work.enough())
        try:
            done = self.does(folder.path)
        finally:
            folder.close()
        if done == "failed":
            return Ended(status=1, output=b"", where="here", wall_s=0.0)
        report = replace(REPORT, settings=self.settings)
        folder.finish(report)
        output = json.dumps(schema.plain(report)).encode()
        return Ended(status=0, output=output, where="here", wall_s=0.0)


def results(plan: SweepPlan, folder: Path, place: LocalWorkplace) -> list[CellResult]:
    return [result for result, _ in run_sweep(plan, folder, plan.on(place))]


BATCHES = SweepPlan(model="lenet", axes={"batch": ("8", "16", "32")})


@pytest.mark.parametrize("edit", [{"fingerprint": "others"}, {"trained_on": "otherwise"}])
def test_cells_of_other_pictures_than_the_first_ones_are_ended_and_fail(
    tmp_path: Path, edit: dict[str, str]
) -> None:
    folder, place = begin_folder(tmp_path, BATCHES), Trains()

    def runs_out(run: Path) -> str | None:
        return "failed" if "batch-8" not in str(run) else None

    place.does = runs_out
    assert [one.status for one in results(BATCHES, folder, place)] == ["done", "failed", "failed"]
    place.facts, place.does, place.ended_early = replace(FACTS, **edit), lambda run: None, []
    known, *odd = results(BATCHES, folder, place)
    assert known.status == "done"
    for one in odd:
        assert one.status == "failed"
        assert "were edited since batch-8 was trained: put them back and --resume, or" in str(one.error)
    assert place.ended_early == [True, True]
    place.facts = FACTS
    assert [one.status for one in results(BATCHES, folder, place)] == ["done"] * 3


def test_other_parts_of_the_pictures_are_what_another_fold_means(tmp_path: Path) -> None:
    plan = SweepPlan(model="lenet", axes={"fold": ("1/2", "2/2")})
    folder, place = begin_folder(tmp_path, plan), Trains()
    place.does = lambda run: setattr(place, "facts", replace(FACTS, trained_on="the second"))
    assert [one.status for one in results(plan, folder, place)] == ["done", "done"]


@pytest.mark.parametrize("runs", [True, False], ids=["runs", "passports"])
def test_a_sweep_whose_cells_were_trained_on_different_pictures_is_not_gone_on_with(
    tmp_path: Path, runs: bool
) -> None:
    folder, place = begin_folder(tmp_path, BATCHES), Trains()
    results(BATCHES, folder, place)
    (run,) = folder.glob("cells/batch-16/lenet/runs/*/run.json")
    if runs:
        run.write_text(run.read_text().replace("these", "others"))
    else:
        (passport,) = shipped_root().glob("lenet-maxpool/*.safetensors.json")
        for batch in ("8", "16", "32"):
            told = json.loads(passport.read_text())
            told["dataset"]["fingerprint"] = "others" if batch == "16" else "these"
            cell = folder / "cells" / f"batch-{batch}" / "lenet"
            shutil.rmtree(cell / "runs")
            (cell / "lenet.safetensors").touch()
            (cell / "lenet.safetensors.json").write_text(json.dumps(told))
    with pytest.raises(
        CnnkitError, match=r"batch-16 was trained on other pictures than .*batch-8: .* remove"
    ):
        results(BATCHES, folder, place)


def test_files_that_are_edited_while_the_sweep_runs_fail_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net = Path("net.py")
    net.write_text("first")
    plan = SweepPlan(model="lenet", axes={"batch": ("8", "16")}, hashes={"net.py": hash_file(net)})
    folder, place = begin_folder(tmp_path, plan), Trains()
    place.does = lambda run: net.write_text("second") if "batch-16" in str(run) else None
    good, odd = results(plan, folder, place)
    assert (good.status, odd.status, odd.report) == ("done", "failed", None)
    assert "net.py was edited while the sweep ran, maybe before this cell read it; put it" in str(odd.error)
    net.write_text("first")
    place.does = lambda run: net.unlink()
    assert "net.py was removed while the sweep ran" in str(results(plan, folder, place)[1].error)
    net.write_text("first")
    place.does = lambda run: None
    assert [one.status for one in results(plan, folder, place)] == ["done", "done"]


def test_a_trial_that_was_given_up_is_held_to_the_recipe_that_its_run_was_begun_with(tmp_path: Path) -> None:
    plan = SweepPlan(model="lenet", axes={"batch": ("32",)}, recipes={"default": MINE})
    place = Trains()
    place.does = lambda run: (run / "epochs.csv").write_text("val_accuracy\n0.1\n")
    for number, (recipe, status) in enumerate(((MINE, "pruned"), (replace(MINE, lr=0.2), "failed"))):
        place.facts = replace(FACTS, recipe=override(recipe, {"batch": 32}))
        place.settings = override(MINE, {"batch": 32})
        cell = tmp_path / str(number)
        result = run_cell(plan.on(place), {"batch": "32"}, cell, label="x", trial=Falls())
        assert (result.status, result.report) == (status, None)
    assert "this cell was trained by the new one (lr 0.2, planned 0.1)" in str(result.error)
    assert place.ended_early == [False, True]


def test_class_weights_of_a_relative_path_are_those_that_another_machine_names_from_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.json").write_text("{}")
    axes = {"class-weights": ("w.json",)}
    plan, place = SweepPlan(model="lenet", axes=axes, recipes={"default": MINE}), Trains()
    for told, status in ((f"{tmp_path}/w.json", "done"), (f"{tmp_path}/v.json", "failed")):
        place.settings = override(MINE, {"class-weights": told})
        place.facts = replace(FACTS, recipe=place.settings)
        (result,) = results(plan, begin_folder(tmp_path, plan), place)
        assert result.status == status, result.error


def test_a_cell_that_failed_begins_anew_and_goes_on_within_that_try(tmp_path: Path) -> None:
    plan = SweepPlan(model="lenet", axes={"batch": ("8",)})
    folder, place = begin_folder(tmp_path, plan), Trains()

    def tables() -> int:
        return len(list(folder.glob("cells/*/lenet/runs/*/epochs.csv")))

    def fails(run: Path) -> str:
        (run / "epochs.csv").write_text("val_accuracy\n0.1\n")
        return "failed"

    def stops(run: Path) -> None:
        assert tables() == 0  # of the try that failed nothing is left that this one could be judged by
        raise KeyboardInterrupt

    def loses(run: Path) -> None:
        raise LostWorkError("lost 5 times")

    place.does = fails
    assert results(plan, folder, place)[0].error == "it failed by itself"
    for does in (stops, stops):
        place.does = does
        with pytest.raises(KeyboardInterrupt):
            results(plan, folder, place)
    place.does = loses
    assert results(plan, folder, place)[0].error == "lost 5 times"
    place.does = lambda run: None
    assert results(plan, folder, place)[0].status == "done"
    assert ["--resume" in words for words in place.words] == [False, False, True, True, True]


def test_a_run_whose_result_nobody_wrote_down_is_in_no_later_ones_way(tmp_path: Path) -> None:
    plan = SweepPlan(model="lenet", axes={"batch": ("8",)})
    folder, place = begin_folder(tmp_path, plan), Trains()
    results(plan, folder, place)
    (result,) = folder.glob("cells/*/result.json")
    result.unlink()
    results(plan, folder, place)
    assert len(list(folder.glob("cells/*/lenet/runs/*/run.json"))) == 1
    assert "--resume" not in place.words[-1]
