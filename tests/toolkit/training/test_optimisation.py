"""Rates are torch's own schedulers' rates; starting weights and averages are what they are called."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from toolkit.models import Recipe  # noqa: E402  (after the skip)
from toolkit.training.optimisation import Average, initialise, make_optimizer, rate_at  # noqa: E402

EPOCHS, STEPS = 12, 7


def rates(recipe: Recipe) -> list[float]:
    return [rate_at(recipe, step, STEPS) for step in range(EPOCHS * STEPS)]


def rates_of(make: object, each: str) -> list[float]:
    """Return what a scheduler of torch sets when it is stepped after every step or epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = make(optimizer)  # type: ignore[operator]
    found = []
    for _ in range(EPOCHS):
        for _ in range(STEPS):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if each == "step":
                scheduler.step()
        if each == "epoch":
            scheduler.step()
    return found


def test_step_is_steplr() -> None:
    recipe = Recipe(name="x", epochs=EPOCHS, lr=0.4, schedule="step", step_epochs=5, step_gamma=0.5)
    theirs = rates_of(lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5), "epoch")
    assert rates(recipe) == pytest.approx(theirs)
    assert len(set(rates(recipe))) == 3  # it really drops, twice


def test_cosine_is_cosine_annealing() -> None:
    recipe = Recipe(name="x", epochs=EPOCHS, lr=0.4, schedule="cosine")
    theirs = rates_of(
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * STEPS), "step"
    )
    assert rates(recipe) == pytest.approx(theirs)


def test_one_cycle_is_onecyclelr() -> None:
    recipe = Recipe(name="x", epochs=EPOCHS, lr=0.4, schedule="one-cycle")
    theirs = rates_of(
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.4, total_steps=EPOCHS * STEPS),
        "step",
    )
    assert rates(recipe) == pytest.approx(theirs)


def test_constant_is_constant_and_warm_up_is_linear() -> None:
    assert set(rates(Recipe(name="x", epochs=EPOCHS, lr=0.4))) == {0.4}
    rising = rates(Recipe(name="x", epochs=EPOCHS, lr=0.4, warmup_epochs=2))
    assert rising[: 2 * STEPS] == pytest.approx([0.4 * (i + 1) / (2 * STEPS) for i in range(2 * STEPS)])
    assert set(rising[2 * STEPS :]) == {0.4}


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, "SGD"),
        ({"optimizer": "adam"}, "Adam"),
        ({"optimizer": "adamw", "weight_decay": 0.1}, "AdamW"),
    ],
)
def test_optimizers_are_torchs_with_the_recipes_figures(fields: dict[str, object], kind: str) -> None:
    module = torch.nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    recipe = Recipe(name="x", lr=0.01, **fields)  # type: ignore[arg-type]
    optimizer = make_optimizer(recipe, module.parameters())
    assert type(optimizer).__name__ == kind
    (group,) = optimizer.param_groups
    assert [p is module.weight for p in group["params"]] == [True]  # what is frozen is left out
    assert (group["lr"], group["weight_decay"]) == (0.01, recipe.weight_decay)
    if kind == "SGD":
        assert (group["momentum"], group["nesterov"]) == (0.9, True)


def test_starting_weights_keep_within_their_bounds() -> None:
    layer = torch.nn.Conv2d(8, 16, 3)
    fan_in, fan_out = 8 * 9, 16 * 9
    for init, bound in (
        ("xavier-uniform", math.sqrt(6 / (fan_in + fan_out))),
        ("kaiming-uniform", math.sqrt(6 / fan_in)),
    ):
        initialise(layer, Recipe(name="x", init=init))  # type: ignore[arg-type]
        assert 0.95 * bound < layer.weight.abs().max() <= bound
    kept = layer.weight.clone()
    initialise(layer, Recipe(name="x"))
    assert torch.equal(layer.weight, kept)


def test_the_average_follows_weights_and_copies_counters() -> None:
    module = torch.nn.BatchNorm1d(2)
    average = Average(module, 0.9)
    with torch.no_grad():
        module.weight.fill_(2.0)
        module.num_batches_tracked.fill_(7)
    average.update(module)
    assert average.state["weight"].tolist() == pytest.approx([1.1, 1.1])
    assert average.state["num_batches_tracked"].item() == 7
