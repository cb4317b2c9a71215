"""`cnnkit eval`: the same figures from every backend, and nothing claimed that was not measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.toolkit.inspection.conftest import Run, read
from toolkit.artifacts import open_artifact
from toolkit.backends import Engine, EngineOptions
from toolkit.checkpoints import load_state, save_checkpoint
from toolkit.datasets import Dataset
from toolkit.errors import CorruptError
from toolkit.inspection.evaluation import MISTAKES_OF_A_CLASS, evaluate
from toolkit.training.scoring import confused

SAMPLE = ("--dataset", "fashion-mnist-sample", "--json")


class Fixed(Engine):
    """Answers every picture with the same row."""

    backend = "fixed"
    row: tuple[float, ...] = (0.0, 1.0) + (0.0,) * 8

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        return [np.repeat(np.array([self.row], np.float32), len(batch), axis=0)]


def fixed(root: Path) -> Fixed:
    artifact = open_artifact(root / "lenet-maxpool" / "lenet-maxpool.safetensors")
    return Fixed(artifact, EngineOptions())


def test_a_network_that_always_says_one_class_is_right_for_that_class_only(
    trained: Path, sample: Dataset
) -> None:
    score = evaluate(fixed(trained), sample.test, batch=7).score
    assert score.images == 500
    assert score.accuracy == 0.1
    assert score.interval == pytest.approx((0.0766, 0.1295), abs=1e-4)  # Wilson, 50 of 500
    assert score.class_accuracy == (0.0, 1.0) + (0.0,) * 8
    assert score.confusion.sum() == 500
    assert confused(score.confusion, 2) == [(0, 1, 50), (2, 1, 50)]


class Sure(Fixed):
    """Takes every picture for class 1, the more surely the more of them were asked before."""

    asked = 0

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        rows = super().run(batch)[0]
        rows[:, 1] += np.arange(self.asked, self.asked + len(batch)) / 100
        self.asked += len(batch)
        return [rows]


def test_the_surest_mistakes_of_each_class_are_kept_surest_first(trained: Path, sample: Dataset) -> None:
    engine = Sure(fixed(trained).artifact, EngineOptions())
    found = evaluate(engine, sample.test, batch=64)
    assert len(found.mistakes) == 9 * MISTAKES_OF_A_CLASS
    labels = sample.test.labels
    for truth in (0, 2, 9):
        shown = [one for one in found.mistakes if one.truth == truth]
        last = np.flatnonzero(labels == truth)[::-1][:MISTAKES_OF_A_CLASS]
        assert [one.index for one in shown] == last.tolist()
        assert shown[0].answer == 1
        assert shown[0].probability > shown[-1].probability > shown[-1].likelihood
        assert (shown[0].pixels == sample.test.images[shown[0].index]).all()
    assert not [one for one in found.mistakes if one.truth == 1]


def test_eval_writes_a_page_of_mistakes_and_tells_precision_and_recall(
    run: Run, trained: Path, tmp_path: Path
) -> None:
    page = tmp_path / "mistakes.html"
    result = run("eval", "lenet-maxpool", "--artifacts", trained, "--html", page, *SAMPLE)
    found = read(result)
    confusion = np.array(found["confusion"])
    assert found["class_precision"] == pytest.approx(confusion.diagonal() / confusion.sum(axis=0))
    assert found["balanced_accuracy"] == pytest.approx(np.mean(found["class_accuracy"]))
    assert found["class_f1"][3] == pytest.approx(
        2 * confusion[3, 3] / (confusion[3].sum() + confusion[:, 3].sum())
    )
    one = found["mistakes"][0]
    assert one["truth"] != one["answer"]
    assert one["probability"] > one["truth_probability"]
    text = page.read_text("utf-8")
    assert text.count("<img ") == len(found["mistakes"])
    assert "Surest mistakes of each class" in text
    assert "<script" not in text
    shown = run("eval", "lenet-maxpool", "--artifacts", trained, "--dataset", "fashion-mnist-sample")
    assert "surest mistakes" in shown.stdout
    assert "precision" in shown.stdout


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_not_counted_as_the_first_class(
    trained: Path, sample: Dataset, bad: float
) -> None:
    engine = fixed(trained)
    engine.row = (bad,) + (0.0,) * 9
    with pytest.raises(CorruptError, match="500 of 500 pictures with NaN or infinity"):
        evaluate(engine, sample.test)


def test_eval_repeats_what_training_measured(run: Run, trained: Path) -> None:
    found = read(run("eval", "lenet-maxpool", "--artifacts", trained, *SAMPLE))
    passport = open_artifact(trained / "lenet-maxpool" / "lenet-maxpool.safetensors").passport
    assert found["accuracy"] == passport.metrics.test_accuracy
    assert found["accuracy_ci95"] == pytest.approx(passport.metrics.test_accuracy_ci95)
    assert (found["backend"], found["images"]) == ("pytorch", 500)
    assert np.trace(found["confusion"]) == round(found["accuracy"] * 500)
    assert Path(found["artifact"]).is_absolute()


def test_onnx_is_asked_when_it_is_there_and_answers_alike(run: Run, exported: Path) -> None:
    by_default = run("eval", "lenet-maxpool", "--artifacts", exported, *SAMPLE)
    assert "backend ort: an ONNX is here" in by_default.stderr
    ort = read(by_default)
    torch = read(run("eval", "lenet-maxpool", "--artifacts", exported, "--backend", "pytorch", *SAMPLE))
    assert (ort["backend"], torch["backend"]) == ("ort", "pytorch")
    assert ort["confusion"] == torch["confusion"]


def test_first_n_pictures_and_the_models_own_data_set(run: Run, trained: Path) -> None:
    found = read(run("eval", "lenet-maxpool", "--artifacts", trained, "--first", "20", "--json"))
    assert (found["images"], found["dataset"]) == (20, "fashion-mnist-sample")
    assert sum(map(sum, found["confusion"])) == 20


def test_a_gate_that_is_missed_exits_with_4_and_still_prints_the_figures(run: Run, trained: Path) -> None:
    missed = run("eval", "lenet-maxpool", "--artifacts", trained, "--at-least", "0.999", *SAMPLE)
    assert missed.exit_code == 4
    assert "below --at-least 0.999" in missed.stderr
    assert 0 < json.loads(missed.stdout)["accuracy"] < 0.999
    assert run("eval", "lenet-maxpool", "--artifacts", trained, "--at-least", "0.1", *SAMPLE).exit_code == 0


def test_another_data_sets_classes_are_refused(run: Run, trained: Path, mnist_dir: Path) -> None:
    words = ("eval", "lenet-maxpool", "--artifacts", trained, "--dataset", "mnist", "--data-dir", mnist_dir)
    refused = run(*words)
    assert refused.exit_code == 1
    assert "lenet-maxpool answers with 10 classes (T-shirt/top" in refused.stderr


def test_untrained_weights_have_no_accuracy(run: Run, tmp_path: Path) -> None:
    run("predict", "lenet", "--untrained", "--dataset", "fashion-mnist-sample", "--artifacts", tmp_path)
    path = tmp_path / "lenet-untrained" / "lenet-untrained.safetensors"
    refused = run("eval", path, *SAMPLE)
    assert refused.exit_code == 1
    assert "is untrained, so it has no accuracy" in refused.stderr


def test_a_backend_that_cannot_open_the_file_is_told(run: Run, trained: Path) -> None:
    path = trained / "lenet-maxpool" / "lenet-maxpool.safetensors"
    refused = run("eval", path, "--backend", "ort")
    assert refused.exit_code == 1
    assert "`--backend pytorch` does" in refused.stderr
    assert "Did you mean 'ort'" in run("eval", path, "--backend", "or").stderr


def test_an_export_of_older_weights_never_answers_for_newer_ones(
    run: Run, exported: Path, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    shutil.copytree(exported / "lenet-maxpool", tmp_path / "lenet-maxpool")
    checkpoint = open_artifact(tmp_path / "lenet-maxpool" / "lenet-maxpool.safetensors")
    state = {key: torch.zeros_like(value) for key, value in load_state(checkpoint).items()}
    save_checkpoint(checkpoint.path, state, checkpoint.passport)
    result = run("eval", "lenet-maxpool", "--artifacts", tmp_path, *SAMPLE)
    assert read(result)["backend"] == "pytorch"
    assert read(result)["accuracy"] == 0.1
    assert "the ONNX here is of other weights: `cnnkit export lenet-maxpool` makes it anew" in result.stderr


def test_first_pictures_that_leave_classes_out_are_named_as_such(run: Run, trained: Path) -> None:
    few = run("eval", "lenet-maxpool", "--artifacts", trained, "--first", "3")
    assert "note: they are of 3 of the 10 classes only" in few.stderr
    assert "note:" not in run("eval", "lenet-maxpool", "--artifacts", trained, "--first", "60").stderr
