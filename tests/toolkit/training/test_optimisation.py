"""Rates are torch's own schedulers' rates; starting weights and averages are what they are called."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from tests.toolkit.training.conftest import operations_of, zoo_operations  # noqa: E402
from toolkit import zoo  # noqa: E402  (after the skip)
from toolkit.models import Recipe  # noqa: E402
from toolkit.training.compute.norms import renew_running_figures  # noqa: E402
from toolkit.training.optimisation import (  # noqa: E402
    Average,
    Optimizer,
    average_share,
    judged_anew,
    rate_at,
)
from toolkit.training.starting import initialise, narrow_layers, open_start  # noqa: E402

EPOCHS, STEPS = 12, 7


def rates(recipe: Recipe) -> list[float]:
    return [rate_at(recipe, step, STEPS) for step in range(recipe.epochs * STEPS)]


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


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "step"])
def test_where_layers_are_let_learn_the_schedule_begins_anew(schedule: str) -> None:
    whole = Recipe(name="x", epochs=EPOCHS, lr=0.4, schedule=schedule, unfreeze_at=4, step_epochs=3)  # type: ignore[arg-type]
    head, all_layers = (
        [
            rate_at(replace(whole, epochs=epochs, unfreeze_at=None), step, STEPS)
            for step in range(epochs * STEPS)
        ]
        for epochs in (4, EPOCHS - 4)
    )
    assert rates(whole) == head + all_layers


OPTIMIZERS = [
    ({"optimizer": "sgd"}, torch.optim.SGD, {}),
    (
        {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        torch.optim.SGD,
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    ({"optimizer": "adam", "weight_decay": 0.1}, torch.optim.Adam, {"weight_decay": 0.1}),
    ({"optimizer": "adamw", "weight_decay": 0.1}, torch.optim.AdamW, {"weight_decay": 0.1}),
]


@pytest.mark.parametrize(("fields", "theirs", "options"), OPTIMIZERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_optimizers_step_bit_for_bit_as_torchs(
    fields: dict[str, object], theirs: type, options: dict[str, object], layout: torch.memory_format
) -> None:
    def trained(ours: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.Flatten(), torch.nn.Linear(5 * 36, 4))
        net = net.to(memory_format=layout)
        recipe = Recipe(name="x", **fields)  # type: ignore[arg-type]
        mine = Optimizer(recipe, net.parameters())
        other = theirs(net.parameters(), lr=0.01, fused=True, **options)
        for step in range(5):
            net.zero_grad()
            net(torch.rand(2, 3, 8, 8).contiguous(memory_format=layout)).square().mean().backward()
            mine.rate = other.param_groups[0]["lr"] = 0.01 * (step + 1)
            (mine if ours else other).step()
        return [p.detach() for p in net.parameters()]

    for mine, wanted in zip(trained(True), trained(False), strict=True):
        assert torch.equal(mine, wanted)


def test_what_is_frozen_or_has_no_gradient_stays() -> None:
    module = torch.nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    before = module.bias.clone()
    optimizer = Optimizer(Recipe(name="x"), module.parameters())
    optimizer.rate = 0.1
    optimizer.step()  # no gradient at all yet
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert [p is module.weight for p in optimizer.param_groups[0]["params"]] == [True]
    assert torch.equal(module.bias, before)


def test_a_gradient_scaler_works_with_it_and_skips_overflows() -> None:
    module = torch.nn.Linear(3, 2)
    optimizer = Optimizer(Recipe(name="x", optimizer="sgd", lr=1.0), module.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = module.bias.detach().clone()
    for factor, moved in ((1.0, 1.0), (math.inf, 1.0)):
        optimizer.zero_grad()
        scaler.scale(module(torch.ones(1, 3)).sum() * factor).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        assert torch.allclose(module.bias.detach(), before - moved)
    assert scaler.get_scale() < 8.0


def test_making_an_optimizer_imports_no_compiler() -> None:
    code = """
import sys
import torch
from toolkit.models import Recipe
from toolkit.training.optimisation import Optimizer
module = torch.nn.Linear(2, 2)
optimizer = Optimizer(Recipe(name="x"), module.parameters())
module(torch.ones(1, 2)).sum().backward()
optimizer.step()
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_starting_weights_keep_within_their_bounds() -> None:
    layer = torch.nn.Conv2d(8, 16, 3)
    fan_in, fan_out = 8 * 9, 16 * 9
    for init, bound in (
        ("xavier-uniform", math.sqrt(6 / (fan_in + fan_out))),
        ("kaiming-uniform", math.sqrt(6 / fan_in)),
    ):
        initialise(layer, init)  # type: ignore[arg-type]
        assert 0.95 * bound < layer.weight.abs().max() <= bound
    kept = layer.weight.clone()
    initialise(layer, "default")
    assert torch.equal(layer.weight, kept)


def test_the_decaying_average_begins_short() -> None:
    recipe = Recipe(name="x", epochs=EPOCHS, ema_decay=0.9)
    found = [1 - average_share(recipe, step, STEPS) for step in (0, 2, 1000)]
    assert found == pytest.approx([0.1, 0.25, 0.9])


def test_the_average_follows_weights_by_shares_and_copies_counters() -> None:
    module = torch.nn.BatchNorm1d(2)
    average = Average(module)
    with torch.no_grad():
        module.weight.fill_(2.0)
        module.num_batches_tracked.fill_(7)
    for share, wanted in ((0.0, 1.0), (0.5, 1.5), (1.0, 2.0)):
        average.update(module, share)
        assert average.state["weight"].tolist() == [wanted, wanted]
    assert average.state["num_batches_tracked"].item() == 7


@pytest.mark.parametrize(("cycles", "unfreeze_at"), [(1, None), (4, None), (1, 4)])
def test_an_equal_average_holds_the_last_epochs_or_cycles_alike(cycles: int, unfreeze_at: int | None) -> None:
    recipe = Recipe(
        name="x", epochs=EPOCHS, schedule="cosine", cycles=cycles, unfreeze_at=unfreeze_at, average_from=0.5
    )
    average = 0.0
    for step in range(EPOCHS * STEPS):
        # an epoch's end weighs its number
        average += average_share(recipe, step, STEPS) * (step + 1 - average)
    ends = {(1, None): range(7, 13), (4, None): (9, 12), (1, 4): range(9, 13)}[cycles, unfreeze_at]
    assert average == pytest.approx(STEPS * sum(ends) / len(ends))


def test_what_is_judged_changes_each_epoch_until_an_average_over_cycles_begins_and_then_with_them() -> None:
    plain = Recipe(name="x", epochs=EPOCHS)
    cyclic = replace(plain, schedule="cosine", cycles=4, average_from=0.5)
    for recipe in (plain, replace(plain, average_from=0.5), replace(plain, ema_decay=0.9)):
        assert all(judged_anew(recipe, epoch) for epoch in range(1, EPOCHS + 1))
    # cycles end with epochs 3, 6, 9 and 12, and the first end that is averaged is that of 9
    assert [epoch for epoch in range(1, EPOCHS + 1) if not judged_anew(cyclic, epoch)] == [10, 11]


def test_cycles_run_the_schedule_again_and_only_the_first_one_warms_up() -> None:
    cyclic = Recipe(name="x", epochs=EPOCHS, lr=0.4, schedule="cosine", cycles=5, warmup_epochs=1)
    short, long = (rates(replace(cyclic, epochs=epochs, cycles=1, warmup_epochs=0)) for epochs in (2, 3))
    assert rates(cyclic)[2 * STEPS :] == pytest.approx([*short, *long, *short, *long])
    assert rates(cyclic)[:STEPS] == pytest.approx([0.4 * (i + 1) / STEPS for i in range(STEPS)])


def test_running_figures_made_anew_are_those_of_the_weights_own_answers() -> None:
    pictures = torch.randn(6, 2, 3, 3) * 5 + 1
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(2), torch.nn.Dropout(0.5))
    renew_running_figures(module, [(pictures, torch.zeros(6))] * 2, lambda: None)
    torch.testing.assert_close(module[0].running_mean, pictures.mean((0, 2, 3)))
    torch.testing.assert_close(module[0].running_var, pictures.transpose(0, 1).flatten(1).var(1))
    assert (module[0].momentum, module.training, module[0].training) == (0.1, False, False)


def test_running_figures_of_single_pictures_are_made_anew_in_pairs_and_kept_where_there_is_none() -> None:
    pictures = torch.randn(7, 2, 3, 3) * 5 + 1
    pairs, singles = (torch.nn.BatchNorm2d(2) for _ in range(2))
    renew_running_figures(pairs, [(pictures[at : at + 2], torch.zeros(2)) for at in (0, 2, 4)], lambda: None)
    renew_running_figures(singles, [(picture[None], torch.zeros(1)) for picture in pictures], lambda: None)
    assert torch.equal(singles.running_mean, pairs.running_mean)
    assert torch.equal(singles.running_var, pairs.running_var)
    renew_running_figures(singles, [(pictures[:1], torch.zeros(1))], lambda: None)
    assert torch.equal(singles.running_mean, pairs.running_mean)
    assert not singles.training


def test_narrow_layers_are_those_whose_relu_can_cost_a_class() -> None:
    assert narrow_layers(zoo_operations(zoo.model("nin"))) == (
        "block4.conv1",
        "block4.conv2",
        "block4.conv3",
    )
    for name in ("lenet", "lenet-relu", "alexnet28", "cifarnet-bn", "resnet18"):
        assert narrow_layers(zoo_operations(zoo.model(name))) == ()


@pytest.mark.parametrize("seed", range(3))
def test_an_open_start_leaves_no_channel_shut(seed: int) -> None:
    torch.manual_seed(seed)
    network = torch.nn.Sequential(
        *(torch.nn.Conv2d(64, 64, 1), torch.nn.ReLU()),
        *(
            torch.nn.Conv2d(64, 10, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(10, 10, 1),
            torch.nn.ReLU(),
        ),
    )
    narrow = network[2:]
    initialise(network, "kaiming-uniform")
    # as behind a ReLU: positive, and much alike from picture to picture
    pictures = 5 + torch.rand(200, 64, 1, 1)
    shut = (narrow(pictures).amax((0, 2, 3)) == 0).sum()
    opened = narrow_layers(operations_of(network, 64, 3, 3))
    assert opened == ("2", "4")
    open_start(network, opened)
    assert shut > 0
    assert (narrow(pictures).amax((0, 2, 3)) > 0).all()


def test_an_open_start_leaves_networks_alone_that_need_none() -> None:
    torch.manual_seed(0)
    network = zoo.model("lenet-relu").build(1, 10)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    open_start(network, narrow_layers(operations_of(network, 1, 28, 28)))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
