"""The divergence guard, on made-up losses, on real gradients, and on runs that really diverge."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tests.toolkit.training.conftest import objective_for, operations_of, zoo_operations  # noqa: E402
from toolkit import zoo  # noqa: E402  (after the skip)
from toolkit.artifacts import open_artifact  # noqa: E402
from toolkit.errors import CnnkitError  # noqa: E402
from toolkit.modules.operations import FunctionCall  # noqa: E402
from toolkit.training import Watcher, readiness, session  # noqa: E402
from toolkit.training.data.prepare import prepare  # noqa: E402
from toolkit.training.diagnostics import dead_layers, heard_classes, rectifies_scores  # noqa: E402
from toolkit.training.guard import (  # noqa: E402
    CHECK_STEPS,
    WINDOW,
    Divergence,
    DivergenceGuard,
    GuardState,
    guard_for,
    plateau_steps,
)
from toolkit.training.loop import Loop  # noqa: E402
from toolkit.training.optimisation import Average  # noqa: E402
from toolkit.training.run import train  # noqa: E402
from toolkit.training.scoring import Score  # noqa: E402
from toolkit.training.starting import narrow_layers  # noqa: E402

LN10 = math.log(10)


def guard(
    model: str = "lenet-relu",
    *,
    classes: int = 10,
    warmup: float = 0,
    epochs: int = 10,
    epoch_steps: int = 500,
) -> DivergenceGuard:
    objective = objective_for(np.arange(1000) % classes, classes=classes)
    operations = zoo_operations(zoo.model(model))
    return guard_for(operations, objective, epochs=epochs, warmup_epochs=warmup, epoch_steps=epoch_steps)


def feed(
    watching: DivergenceGuard, losses: Sequence[float], dead: Sequence[str] = ()
) -> tuple[Divergence | None, int]:
    """Show losses to a guard as a run would; return its verdict and after how many steps it came."""
    watch = GuardState()
    for start in range(0, len(losses), CHECK_STEPS):
        divergence = watching.verdict(watch, losses[start : start + CHECK_STEPS], dead)
        if divergence:
            return divergence, watch.steps
    return None, len(losses)


def noise(level: float, steps: int, spread: float = 0.1) -> list[float]:
    return list(level + spread * np.random.default_rng(0).standard_normal(steps))


def test_a_run_that_learns_is_left_alone() -> None:
    assert feed(guard(), [2.3 * math.exp(-step / 400) + 0.3 for step in range(3000)])[0] is None


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_seen_at_once_even_in_warm_up(broken: float) -> None:
    divergence, steps = feed(guard(warmup=2), [*noise(2.0, 30), broken, *noise(2.0, 30)])
    assert divergence is not None
    assert f"the loss was {broken}" in divergence.what
    assert steps <= 2 * CHECK_STEPS


def test_a_relu_net_that_never_starts_is_given_up_and_a_sigmoid_net_on_its_plateau_is_not() -> None:
    plateau = noise(LN10, 5 * 937)
    divergence, _ = feed(guard("lenet-relu", epoch_steps=937), plateau)
    assert divergence is not None
    assert "the loss still sits at 2." in divergence.what
    assert feed(guard("lenet", epoch_steps=937), plateau)[0] is None


@pytest.mark.parametrize(
    ("epochs", "epoch_steps", "patience"),
    # NiN on 6,000 images, NiN on all of Fashion-MNIST, LeNet on all of it, a run of a few steps
    [(6, 94, 282), (10, 234, 1170), (10, 937, 2000), (2, 20, 200)],
)
def test_a_net_has_half_of_its_run_to_start(epochs: int, epoch_steps: int, patience: int) -> None:
    operations = zoo_operations(zoo.model("nin"))
    assert plateau_steps(operations, epochs=epochs, epoch_steps=epoch_steps) == patience


@given(epochs=st.integers(1, 300), epoch_steps=st.integers(1, 10_000))
def test_a_short_run_has_steps_left_and_a_sigmoid_net_is_never_hurried(epochs: int, epoch_steps: int) -> None:
    relu, sigmoid = [FunctionCall(name="relu")], [FunctionCall(name="sigmoid")]
    patience = plateau_steps(relu, epochs=epochs, epoch_steps=epoch_steps)
    # no verdict without two full windows, and none that waits past half of a run that has more than those
    assert patience >= 2 * WINDOW
    assert patience <= max(2 * WINDOW, math.ceil(epochs * epoch_steps / 2))
    slow = plateau_steps(sigmoid, epochs=epochs, epoch_steps=epoch_steps)
    assert slow >= max(patience, 8 * epoch_steps)


def test_a_short_run_that_never_starts_is_seen_before_it_ends() -> None:
    # NiN at 68 pixels on 6,000 images at 0.1 sat at ln 10 for all of its 564 steps
    divergence, steps = feed(guard("nin", epochs=6, epoch_steps=94), noise(LN10, 564, spread=0.01))
    assert divergence is not None
    assert divergence.idle
    assert steps < 564


@pytest.mark.parametrize("steps", [30, 125, 312, 564])
def test_a_sigmoid_net_on_a_small_sample_keeps_its_opening_plateau(steps: int) -> None:
    assert feed(guard("lenet", epochs=4, epoch_steps=steps // 4), noise(LN10, steps))[0] is None


def test_the_rate_is_sought_between_one_that_dies_and_one_that_does_not_start() -> None:
    died, idled = Divergence(what="dead", factor=0.1), Divergence(what="sits", factor=0.1, idle=True)
    watch = GuardState()
    assert watch.fresh_scale(1.0, died) == pytest.approx(0.1)
    assert watch.fresh_scale(0.1, idled) == pytest.approx(math.sqrt(0.1))
    assert watch.fresh_scale(math.sqrt(0.1), died) == pytest.approx(0.1**0.75)


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_a_fresh_start_is_always_slower_than_any_that_died(idle: list[bool]) -> None:
    watch, scale = GuardState(), 1.0
    for one in idle:
        scale = watch.fresh_scale(scale, Divergence(what="", factor=0.1, idle=one))
        assert scale < (watch.died_at or 1.0)
        assert scale <= 1.0


def test_a_plateau_that_still_falls_is_waited_for() -> None:
    slow = [LN10 - 0.000015 * step for step in range(3000)]
    assert feed(guard(), slow)[0] is None


def test_a_collapse_after_good_epochs_is_seen_within_a_window() -> None:
    good = [2.3 * math.exp(-step / 200) + 0.3 for step in range(1500)]
    divergence, steps = feed(guard(), [*good, *noise(2.5, 500)])
    assert divergence is not None
    assert "after it had been lower" in divergence.what
    assert steps <= 1500 + 120


def test_one_hard_batch_is_no_collapse() -> None:
    losses = [0.4] * 1000
    losses[500] = 9.0
    assert feed(guard(), losses)[0] is None


@pytest.mark.parametrize(("loss", "sound"), [(2.30, False), (2.23, False), (2.0, True)])
def test_only_an_epoch_that_learned_something_is_gone_back_to(loss: float, sound: bool) -> None:
    watching, watch = guard("nin"), GuardState()
    watch.take([loss] * WINDOW)
    assert watching.is_sound(watch) is sound


def test_dead_relus_are_named() -> None:
    divergence, steps = feed(guard(), noise(2.35, 400), dead=["conv1", "conv2"])
    assert divergence is not None
    assert "no gradient reaches conv1, conv2" in divergence.what
    assert steps <= 100


def test_nothing_is_judged_in_warm_up() -> None:
    assert feed(guard(warmup=4), noise(5.0, 1900), dead=["conv1"])[0] is None


def test_chance_is_what_the_labels_allow() -> None:
    objective = objective_for(np.array([0] * 90 + [1] * 10), classes=2)
    rare = guard_for((), objective, epochs=1, warmup_epochs=0, epoch_steps=10)
    assert rare.chance == pytest.approx(0.3251, abs=1e-4)
    # an honest 0.6 on two balanced classes is learning
    assert feed(guard(classes=2), [0.6] * 3000)[0] is None


def watch_classes(
    silent: Sequence[int], *, present: int = 10, steps: int = 1000
) -> tuple[Divergence | None, int]:
    """Show a guard a network that learns while some classes are silent, of those in the last batch."""
    watching, watch = guard("nin", epochs=6, epoch_steps=94), GuardState()
    heard = {label: label not in silent for label in range(present)}
    for step in range(0, steps, CHECK_STEPS):
        divergence = watching.verdict(watch, [1.5 * 0.999**step] * CHECK_STEPS, (), heard)
        if divergence:
            return divergence, watch.steps
    return None, steps


def test_classes_that_a_shut_relu_costs_are_named_once_the_network_has_learned_others() -> None:
    divergence, steps = watch_classes([0, 3])
    assert divergence is not None
    assert divergence.what.startswith("lost classes 0, 3: ")
    assert not divergence.idle
    assert 140 <= steps <= 160  # half of the plateau that so short a run is given
    divergence, _ = watch_classes([7])
    assert divergence is not None
    assert divergence.what.startswith("lost class 7: ")
    assert watch_classes([])[0] is None


def test_a_class_that_no_picture_was_of_is_not_lost() -> None:
    assert watch_classes([9], present=9)[0] is None


def test_a_class_that_is_heard_now_and_then_is_not_lost() -> None:
    watching, watch = guard("nin", epochs=6, epoch_steps=94), GuardState()
    for look in range(200):
        assert watching.verdict(watch, [1.0] * CHECK_STEPS, (), {0: look % 5 == 0, 1: True}) is None


def test_no_epoch_that_may_have_lost_a_class_is_gone_back_to() -> None:
    watching, watch = guard("nin"), GuardState()
    watch.take([1.0] * WINDOW)
    assert watching.is_sound(watch)
    watch.silent = {"3": 3}
    assert not watching.is_sound(watch)


def test_scores_can_be_shut_where_a_relu_follows_the_last_layer() -> None:
    for name, spec in zoo.models().items():
        assert rectifies_scores(zoo_operations(spec)) == (name == "nin")


class Written(torch.nn.Module):
    """Two narrow layers whose scores come out of a ReLU, written as layers, functions or methods."""

    def __init__(self, between: Any, last: Any, classes: int = 4) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 4, 1)
        self.third = torch.nn.Conv2d(4, classes, 1)
        self.between, self.last = between, last

    def forward(self, x: Any) -> Any:
        x = self.between(self.second(self.between(self.first(x))))
        return self.last(self.third(x)).mean((2, 3))


@pytest.mark.parametrize(
    "relu",
    [
        torch.nn.ReLU(),
        torch.nn.ReLU(inplace=True),
        torch.relu,
        torch.nn.functional.relu,
        torch.nn.functional.relu_,
        torch.Tensor.relu_,
    ],
)
def test_a_relu_is_one_however_it_is_written(relu: Any) -> None:
    found = operations_of(Written(relu, relu), 1, 8, 8)
    assert rectifies_scores(found)
    assert narrow_layers(found) == ("second", "third")
    assert not rectifies_scores(operations_of(Written(relu, lambda x: x), 1, 8, 8))


def test_scores_that_class_vectors_give_come_out_of_no_relu() -> None:
    class Cosine(torch.nn.Module):
        """A network that is one layer to a walk: all of its weights are its own."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(10, 9))

        def forward(self, x: Any) -> Any:
            return torch.nn.functional.linear(x.flatten(1).relu(), self.weight)

    found = operations_of(Cosine(), 1, 3, 3)
    assert not rectifies_scores(found)
    assert narrow_layers(found) == ()


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (torch.nn.Sigmoid, torch.sigmoid),
        (torch.nn.Tanh, torch.Tensor.tanh_),
        (torch.nn.Softsign, torch.nn.functional.softsign),
    ],
)
def test_a_saturating_network_has_its_time_however_it_is_written(
    layer: Any, function: Any, make_job: Any
) -> None:
    job = make_job("lenet-relu", images=100)
    patience = set()
    for act in (layer(), function):
        model = dataclasses.replace(job.model, build=lambda channels, classes, act=act: Squashed(act))
        one = dataclasses.replace(job, model=model)
        ready = readiness.make_ready(one, prepare(one), Watcher())
        patience.add(ready.guard.plateau_steps)
    assert len(patience) == 1
    assert patience.pop() >= 2000


class Squashed(torch.nn.Module):
    """A dense network with one activation, a layer or a function."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.hidden, self.out, self.act = torch.nn.Linear(784, 8), torch.nn.Linear(8, 10), act

    def forward(self, x: Any) -> Any:
        return self.out(self.act(self.hidden(x.flatten(1))))


def test_a_class_is_heard_when_one_of_its_own_pictures_has_a_score() -> None:
    # class 0 fires on a picture of class 1 only, class 1 on one of its two pictures, class 3 has no picture
    scores = torch.tensor(
        [[0.0, 0.0, 2.0, 0.0], [3.0, 0.0, 0.0, 1.0], [0.0, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    )
    assert heard_classes(scores, torch.tensor([0, 1, 1, 2])) == {0: False, 1: True, 2: True}


def test_a_class_of_weight_0_is_neither_missed_nor_asked_for(tmp_path: Path, make_job: Any) -> None:
    weights = tmp_path / "weights.json"
    classes = prepare(make_job(images=100)).dataset.classes
    weights.write_text(json.dumps({name: 0 if label == 6 else 1 for label, name in enumerate(classes)}))
    fields = {"epochs": 1, "batch": 300, "guard": True, "class_weights": str(weights)}
    job = make_job(images=300, changes=fields, threads=1)
    relu = torch.nn.ReLU()
    model = dataclasses.replace(job.model, build=lambda channels, classes: Written(relu, relu, classes))
    job = dataclasses.replace(job, model=model)
    loop = readiness.make_ready(job, prepare(job), Watcher()).loop
    assert loop.epoch(lambda: None) is None
    watch = loop.progress.watch
    assert set(watch.silent) == set("012345789")
    assert set(watch.answers.seen) == set("012345789")
    objective, watching = loop.setup.objective, loop.setup.guard
    assert watching is not None
    assert (len(objective.present), len(objective.counted)) == (10, 9)
    # all that is asked for is right
    watch.answers.take(dict.fromkeys(watch.answers.seen, 10**6), dict.fromkeys(watch.answers.seen, 10**6))
    assert watching._skill(watch) == pytest.approx(1, abs=0.01)


def test_dead_layers_are_those_with_exactly_no_gradient() -> None:
    module = zoo.model("lenet-relu").build(1, 10)
    images, labels = torch.rand(8, 1, 28, 28), torch.arange(8)
    torch.nn.functional.cross_entropy(module(images), labels).backward()
    assert dead_layers(module) == ()
    with torch.no_grad():
        module.get_submodule("conv2").bias.fill_(-1e6)  # type: ignore[union-attr, operator]
    module.zero_grad()
    torch.nn.functional.cross_entropy(module(images), labels).backward()
    # conv2 is silent, so nothing before it and no weight that multiplies its output learns
    assert dead_layers(module) == ("conv1", "conv2", "fc1")


def test_a_run_that_dies_starts_afresh_at_a_lower_rate(make_job: Any, listener: Any) -> None:
    fields = {"lr": 0.9, "epochs": 6, "batch": 32, "guard": True}
    outcome = train(make_job(recipe="textbook", changes=fields), listener)
    assert outcome.test_accuracy > 0.3  # unguarded it ends at 0.1
    assert any("started afresh, rate lowered to" in event for event in outcome.events)
    assert {record.attempt for record in outcome.records} != {0}
    assert max(record.rate for record in outcome.records) < 0.9


def test_unguarded_the_same_run_ends_at_chance(make_job: Any, listener: Any) -> None:
    fields = {"lr": 0.9, "epochs": 3, "batch": 32, "guard": False}
    outcome = train(make_job(recipe="textbook", changes=fields), listener)
    assert outcome.test_accuracy < 0.2
    (event,) = outcome.events
    assert "and guessing gives 2.303; try more --epochs" in event
    assert "--guard watches for this" in event


def test_a_guarded_run_too_short_to_judge_says_that_it_ended_at_chance(make_job: Any, listener: Any) -> None:
    fields = {"lr": 0.9, "epochs": 1, "guard": True}
    outcome = train(make_job(recipe="textbook", changes=fields), listener)
    (event,) = outcome.events
    assert "and guessing gives 2.303" in event
    assert "--guard" not in event


def test_kept_weights_that_guess_are_told_though_the_loss_has_fallen(
    make_job: Any, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Average, "update", lambda *of: None)  # stays at the random start
    (event,) = train(make_job(changes={"ema_decay": 0.9}), listener).events
    assert "about as guessing does" in event
    assert "--ema-decay 0.9 lower, or none" in event


def test_a_collapse_goes_back_to_the_last_good_epoch(
    make_job: Any, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fragile(Loop):
        """Loses its first layer once, as too large a step would; real rates do so on some machines only."""

        def epoch(self, after_step: Any) -> Any:
            if (self.progress.epoch, self.progress.attempt) == (2, 0):
                with torch.no_grad():
                    self.module.get_submodule("conv1").bias.fill_(-1e6)  # type: ignore[union-attr, operator]
            return super().epoch(after_step)

    monkeypatch.setattr(readiness, "Loop", Fragile)
    job = make_job("lenet-relu", changes={"epochs": 6, "batch": 16, "lr": 0.01, "guard": True})
    outcome = train(job, listener)
    (event,) = outcome.events
    assert "after it had been lower; back to the end of epoch 2, rate lowered to 0.003" in event
    assert [record.attempt for record in outcome.records] == [0, 0, 1, 1, 1, 1]
    assert outcome.test_accuracy > 0.6


def test_a_better_epoch_that_is_undone_is_not_what_is_kept(
    make_job: Any, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Undone(Loop):
        """Loses a class in its third epoch, and falls apart in its fourth."""

        def epoch(self, after_step: Any) -> Any:
            number, first = self.progress.epoch + 1, not self.progress.attempt
            if first and number == 4:
                return Divergence(what="it fell apart", factor=0.3)
            divergence = super().epoch(after_step)
            if first and number == 3:
                self.progress.watch.silent = {"3": 3}
            return divergence

    right = iter([50, 90, 100, *[10] * 9])  # of 100 pictures: the third epoch scores best

    def score(*args: Any, **more: Any) -> Score:
        return Score(images=100, loss=1.0, confusion=np.diag([next(right)] + [0] * 9))

    monkeypatch.setattr(readiness, "Loop", Undone)
    monkeypatch.setattr(session, "score", score)
    outcome = train(make_job("lenet-relu", changes={"epochs": 5, "guard": True}), listener)
    assert "back to the end of epoch 2" in outcome.events[0]
    assert (outcome.selected_epoch, outcome.val_accuracy) == (2, 0.9)
    kept = open_artifact(outcome.folder / "best.safetensors").passport
    assert kept.metrics is not None
    assert kept.metrics.val_accuracy == 0.9
    assert kept.sha256 == outcome.checkpoint.passport.sha256
    # a head, and the third epoch, too: a search judges by it
    assert len((outcome.folder / "first-attempt.csv").read_text().splitlines()) == 4
    assert not list(outcome.folder.glob("good.*"))


def test_after_three_lower_rates_it_says_what_to_try(make_job: Any, listener: Any) -> None:
    with pytest.raises(CnnkitError, match=r"again .* after 3 lower rates; try --lr 0\.1$"):
        train(make_job(recipe="textbook", changes={"lr": 1e9, "epochs": 3, "guard": True}), listener)


@pytest.mark.slow
def test_relu_lenet_at_rate_0_9_ends_above_0_8_for_ten_seeds_of_ten(
    make_job: Any, listener: Any, fashion_mnist_dir: Any
) -> None:
    for seed in range(10):
        fields = {"lr": 0.9, "epochs": 4, "guard": True}
        job = make_job(
            recipe="textbook", changes=fields, seed=seed, dataset="fashion-mnist", data_dir=fashion_mnist_dir
        )
        assert train(job, listener).test_accuracy > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.15])
@pytest.mark.parametrize("seed", range(10))
def test_nin_at_the_rates_it_collapsed_at_ends_above_0_8_on_a_small_input(
    make_job: Any, listener: Any, fashion_mnist_dir: Any, rate: float, seed: int
) -> None:
    job = make_job(
        "nin",
        recipe="textbook",
        changes={"lr": rate, "epochs": 12, "batch": 16, "guard": True},
        seed=seed,
        size=(68, 68),
        images=6000,
        dataset="fashion-mnist",
        data_dir=fashion_mnist_dir,
    )
    assert train(job, listener).test_accuracy > 0.8
