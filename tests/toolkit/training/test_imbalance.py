"""Rare classes: what the guard makes of them, on objectives, on made-up answers and on real runs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tests.toolkit.training.conftest import objective_for  # noqa: E402
from toolkit.datasets import Dataset, Split, split_off  # noqa: E402  (after the skip)
from toolkit.training import Job, Outcome, run  # noqa: E402
from toolkit.training.data.prepare import PreparedData, preprocessing_for  # noqa: E402
from toolkit.training.guard import CHECK_STEPS, ClassAnswers, GuardState, guard_for  # noqa: E402
from toolkit.training.objective import Objective, right_answers  # noqa: E402
from toolkit.training.run import train  # noqa: E402


def uneven(common: int, rare: int, *, seed: int = 0) -> Split:
    """Return noise with a bright bar, upright in the common class and lying in the rare one."""
    random = np.random.default_rng(seed)
    labels = np.array([0] * common + [1] * rare)
    images = random.integers(0, 60, (len(labels), 1, 28, 28), dtype=np.uint8)
    for image, label, place in zip(images, labels, random.integers(4, 20, len(labels)), strict=True):
        image[0, :, place : place + 4] += 150
        if label:
            image[0] = image[0].T.copy()
    return Split(images=images, labels=labels)


def train_unevenly(job: Job, monkeypatch: pytest.MonkeyPatch, common: int, rare: int) -> Outcome:
    data = Dataset(
        name="uneven",
        train=uneven(common, rare),
        test=uneven(50, 50, seed=1),
        classes=("upright", "lying"),
        source="memory",
        fingerprint=f"{common}-{rare}",
    )
    learned, held = split_off(data.train, job.recipe.validation_fraction)
    prepared = PreparedData(
        dataset=data,
        learned=learned,
        held=held,
        preprocessing=preprocessing_for(job.recipe, learned, (28, 28)),
    )
    monkeypatch.setattr(run, "prepare", lambda job, tell: prepared)
    return train(job)


RATIOS = (5, 10, 20, 50, 100, 200, 300, 500)


def changes(smoothing: float, **more: Any) -> dict[str, Any]:
    return {"epochs": 30, "label_smoothing": smoothing, "flip": False, "shift_pixels": 0, **more}


def test_a_network_that_is_right_about_a_hundredth_is_not_called_diverged(
    make_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job("lenet-relu", changes=changes(0.1))
    outcome = train_unevenly(job, monkeypatch, 1000, 10)
    assert outcome.events == ()
    assert outcome.val_accuracy == 1.0
    assert min(outcome.class_accuracy[0] or 0, outcome.class_accuracy[1] or 0) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ratio", [*RATIOS, 150, 400])
def test_no_imbalance_makes_the_guard_start_a_run_again(
    make_job: Any, monkeypatch: pytest.MonkeyPatch, ratio: int, smoothing: float
) -> None:
    job = make_job("lenet-maxpool", changes=changes(smoothing, epochs=15), seed=ratio)
    outcome = train_unevenly(job, monkeypatch, 2000, 2000 // ratio)
    assert {record.attempt for record in outcome.records} == {0}
    assert not any("diverged" in event for event in outcome.events)


@pytest.mark.slow
def test_a_run_that_dies_on_uneven_classes_is_still_seen(
    make_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"lr": 3.0, "epochs": 15, "batch": 32, "guard": True, "label_smoothing": 0.1}
    outcome = train_unevenly(make_job(recipe="textbook", changes=fields), monkeypatch, 1000, 300)
    assert any("started afresh, rate lowered to" in event for event in outcome.events)


def test_chance_takes_smoothing_weights_and_the_classes_shares_into_account() -> None:
    plain = objective_for(np.array([0] * 1000 + [1] * 10), classes=2)
    assert plain.chance == pytest.approx(0.0555, abs=1e-4)
    assert plain.floor == 0
    smoothed = dataclasses.replace(plain, smoothing=0.1)
    assert smoothed.chance == pytest.approx(0.2239, abs=1e-4)
    assert smoothed.floor == pytest.approx(0.1985, abs=1e-4)
    even = dataclasses.replace(plain, weights=(1010 / 2000, 1010 / 20))
    assert even.chance == pytest.approx(math.log(2))
    assert even.evenness == pytest.approx(1)


@given(
    counts=st.lists(st.integers(1, 50), min_size=2, max_size=5),
    smoothing=st.floats(0, 0.9),
    weighted=st.booleans(),
)
def test_guessing_costs_chance_and_being_right_the_floor(
    counts: list[int], smoothing: float, weighted: bool
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    objective = objective_for(labels, classes=len(counts), smoothing=smoothing)
    if weighted:
        even = len(labels) / len(counts)
        objective = dataclasses.replace(objective, weights=tuple(even / count for count in counts))
    asked = np.array(objective.shares) * np.array(objective.weights or 1)
    guess = (1 - smoothing) * asked + smoothing / len(counts)
    logits = torch.tensor(np.log(guess)).expand(len(labels), -1)
    truth = torch.from_numpy(labels)
    assert float(objective.loss(logits, truth)) == pytest.approx(objective.chance, abs=1e-6)
    sure = torch.full((len(labels), len(counts)), smoothing / len(counts), dtype=torch.float64)
    sure[torch.arange(len(labels)), truth] += 1 - smoothing
    best = sure.clamp(min=1e-300).log()
    assert float(objective.loss(best, truth)) == pytest.approx(objective.floor, abs=1e-6)
    shares = torch.nn.functional.one_hot(truth, len(counts)).double()
    assert float(objective.loss(logits, shares)) == pytest.approx(objective.chance, abs=1e-6)


def test_a_mixed_pictures_loss_and_accuracy_are_shared_out() -> None:
    objective = Objective(shares=(0.5, 0.5), weights=(0.5, 1.5))
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    first, second = -logits.log_softmax(1).T
    mixed = torch.tensor([[0.25, 0.75], [1.0, 0.0]], dtype=torch.float64)
    wanted = (0.25 * 0.5 * first[0] + 0.75 * 1.5 * second[0] + 0.5 * first[1]) / 2
    assert float(objective.loss(logits, mixed)) == pytest.approx(float(wanted))
    assert right_answers(logits, mixed).tolist() == [0.25, 0.0]


def test_answers_that_ignore_the_picture_show_no_skill() -> None:
    answers = ClassAnswers()
    for _ in range(50):
        answers.take({"0": 1270, "1": 10}, {"0": 1270, "1": 0})
    assert (answers.skill(2) or 0) <= 0
    answers.take({"0": 1270, "1": 10}, {"0": 1270, "1": 10})
    assert (answers.skill(2) or 0) > 0.1
    assert ClassAnswers().skill(2) is None


def test_a_network_that_fell_back_to_one_answer_loses_its_skill_within_a_few_looks() -> None:
    answers = ClassAnswers()
    labels = [str(label) for label in range(10)]
    for right in [*[110] * 20, *[0] * 5]:
        answers.take(dict.fromkeys(labels, 128), {**dict.fromkeys(labels, right), "0": 128})
    assert (answers.skill(10) or 0) < 0.1


def test_a_right_network_whose_loss_is_above_chance_is_left_alone() -> None:
    labels = np.array([0] * 998 + [1] * 2)
    objective = objective_for(labels, classes=2, smoothing=0.1)
    watching = guard_for((), objective, epochs=50, warmup_epochs=0, epoch_steps=500)
    watch = GuardState()
    for look in range(200):
        watch.answers.take({"0": 1278, "1": 2}, {"0": 1275, "1": 2})
        loss = objective.chance + (0.01 if look > 50 else -0.001)
        assert watching.verdict(watch, [loss] * CHECK_STEPS, ()) is None
