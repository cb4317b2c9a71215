"""Weights by class and the order that draws every class equally often."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from toolkit.errors import CnnkitError, NotFoundError  # noqa: E402  (after the skip)
from toolkit.models import Recipe  # noqa: E402
from toolkit.recipes import Metric  # noqa: E402
from toolkit.training import EpochRecord, recipes  # noqa: E402
from toolkit.training.data.balance import balanced_order, objective_of  # noqa: E402
from toolkit.training.scoring import Score  # noqa: E402

LABELS = np.array([0] * 900 + [1] * 90 + [2] * 10)
CLASSES = ("often", "seldom", "rare")


def test_balanced_weights_give_every_class_the_same_say() -> None:
    objective = objective_of(Recipe(name="x", class_weights="balanced"), LABELS, CLASSES)
    assert objective.weights == pytest.approx((1000 / 2700, 1000 / 270, 1000 / 30))
    assert objective.chance == pytest.approx(np.log(3))


def test_effective_weights_lie_between_none_and_balanced() -> None:
    objective = objective_of(Recipe(name="x", class_weights="effective"), LABELS, CLASSES)
    effective = [(1 - 0.999**count) / 0.001 for count in (900, 90, 10)]
    weights = objective.weights or ()
    assert weights[2] / weights[0] == pytest.approx(effective[0] / effective[2])
    assert 1 < weights[2] / weights[0] < 90


def test_weights_of_a_file_are_checked_by_class(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    recipe = Recipe(name="x", class_weights=str(path))
    with pytest.raises(NotFoundError, match=r"cannot be read .* balanced, effective or a JSON file"):
        objective_of(recipe, LABELS, CLASSES)
    for text, words in (
        ("{", "is no JSON"),
        ("[1, 2, 3]", "holds no object of weights by class"),
        ('{"often": 1, "seldom": 2}', "lacks rare; the classes are often, seldom, rare"),
        ('{"often": 1, "seldom": 2, "rare": 3, "cat": 1}', "names no class by cat"),
        ('{"often": 1, "seldom": 2, "rare": "many"}', "the weight of rare is 'many'"),
        ('{"often": 0, "seldom": 0, "rare": 0}', "no class with training pictures has a weight above 0"),
    ):
        path.write_text(text)
        with pytest.raises(CnnkitError, match=words):
            objective_of(recipe, LABELS, CLASSES)
    path.write_text(json.dumps({"rare": 4, "often": 1, "seldom": 2}))
    weights = objective_of(recipe, LABELS, CLASSES).weights or ()
    assert weights[2] / weights[0] == pytest.approx(4)
    assert float(np.dot(weights, (0.9, 0.09, 0.01))) == pytest.approx(1)


def test_evening_out_twice_is_refused() -> None:
    with pytest.raises(CnnkitError, match="even them out once more"):
        recipes.check(Recipe(name="x", sampling="balanced", class_weights="balanced"))


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 60), min_size=2, max_size=6).filter(lambda c: sum(c) > 1),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 50),
)
def test_a_balanced_epoch_is_as_long_and_draws_every_class_equally_often(
    counts: list[int], seed: int, epoch: int
) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    order = balanced_order(labels, seed, epoch)
    assert torch.equal(order, balanced_order(labels, seed, epoch))
    assert len(order) == len(labels)
    drawn = torch.bincount(labels[order], minlength=len(counts))
    present = [int(drawn[label]) for label, count in enumerate(counts) if count]
    assert max(present) - min(present) <= 1
    for label, count in enumerate(counts):  # within a class no picture comes twice before all came once
        often = torch.bincount(order[labels[order] == label], minlength=len(labels))[labels == label]
        assert count == 0 or int(often.max() - often.min()) <= 1


def test_balanced_accuracy_and_macro_f1_of_known_answers() -> None:
    score = Score(images=100, loss=1.0, confusion=np.array([[88, 2], [5, 5]]))
    assert score.accuracy == pytest.approx(0.93)
    assert score.balanced_accuracy == pytest.approx((88 / 90 + 0.5) / 2)
    assert score.macro_f1 == pytest.approx((2 * 88 / 183 + 2 * 5 / 17) / 2)


def test_the_better_epoch_is_that_of_the_metric_and_ties_go_to_the_lower_loss() -> None:
    often = EpochRecord(
        epoch=1,
        attempt=0,
        rate=0.1,
        train_loss=1.0,
        train_accuracy=0.9,
        val_loss=0.4,
        val_accuracy=0.95,
        val_balanced_accuracy=0.5,
        val_macro_f1=0.49,
        seconds=1.0,
    )
    fair = dataclasses.replace(
        often, epoch=2, val_accuracy=0.9, val_balanced_accuracy=0.8, val_macro_f1=0.7, val_loss=0.5
    )
    better = {metric: fair.better_than(often, metric) for metric in get_args(Metric)}
    assert better == {"accuracy": False, "balanced-accuracy": True, "macro-f1": True, "loss": False}
    calmer = dataclasses.replace(often, val_loss=0.3)
    assert all(calmer.better_than(often, metric) for metric in get_args(Metric))
    assert not often.better_than(calmer, "accuracy")
    for broken in (math.nan, math.inf, None):  # None is what a resumed run reads of the others
        lost = dataclasses.replace(often, val_loss=broken)
        assert all(often.better_than(lost, metric) for metric in get_args(Metric))
        assert not any(lost.better_than(often, metric) for metric in get_args(Metric))
        assert lost.figure("loss") is None
    unheld = dataclasses.replace(often, val_accuracy=None, val_loss=None)
    assert unheld.better_than(unheld, "accuracy")  # the later, where nothing is held out
