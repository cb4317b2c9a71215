"""A network that was trained before: its input and head are kept, its body waits, and then learns slowly."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.parametrizations import spectral_norm, weight_norm  # noqa: E402  (after the skip)

from toolkit import zoo  # noqa: E402  (after the skip)
from toolkit.checkpoints import load_state, new_passport, save_checkpoint  # noqa: E402
from toolkit.errors import CnnkitError  # noqa: E402
from toolkit.heads import depths, heads, weights_by_classes  # noqa: E402
from toolkit.models import Published, Recipe  # noqa: E402
from toolkit.modules import shadow  # noqa: E402
from toolkit.preprocessing import Preprocessing  # noqa: E402
from toolkit.training import Outcome, Watcher, jobs, recipes  # noqa: E402
from toolkit.training.data import features  # noqa: E402
from toolkit.training.data.prepare import prepare, pretrained_input  # noqa: E402
from toolkit.training.diagnostics import has_finite_weights  # noqa: E402
from toolkit.training.optimisation import optimizer_of  # noqa: E402
from toolkit.training.progress import Progress  # noqa: E402
from toolkit.training.readiness import make_ready  # noqa: E402
from toolkit.training.run import train  # noqa: E402

PLAIN = {"epochs": 1, "flip": False, "shift_pixels": 0, "batch": 50}


@pytest.fixture
def start(make_job: Any) -> Outcome:
    return train(make_job("lenet-relu", name="start", images=400, changes=PLAIN, threads=1))


def test_size_normalisation_and_head_are_those_of_the_pretrained_network(
    start: Outcome, make_job: Any, listener: Any
) -> None:
    still = {**PLAIN, "lr": 1e-30}
    job = make_job("lenet-relu", images=200, changes=still, pretrained=str(start.checkpoint.path), threads=1)
    outcome = train(job, listener)
    known, kept = start.checkpoint.passport.preprocessing, outcome.checkpoint.passport.preprocessing
    assert known is not None
    assert kept is not None
    # 200 other pictures have another mean of their own
    assert (kept.size, kept.mean, kept.std) == (known.size, known.mean, known.std)
    assert any("the pretrained network's mean and deviation" in line for line in listener.said)
    assert any("the head too, since the classes are the same" in line for line in listener.said)
    assert outcome.test_accuracy == start.test_accuracy
    asked = train(dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, pixels="unit")), listener)
    assert asked.checkpoint.passport.preprocessing.mean == (0.0,)  # type: ignore[union-attr]


def test_pretrained_weights_decide_size_and_pixels_unless_those_were_asked_for_or_the_stem_is_another(
    tmp_path: Path, make_job: Any
) -> None:
    known = Preprocessing(
        size=(20, 24), channels=3, scale=1.0, mean=(0.0, 63.75, 127.5), std=(63.75, 127.5, 191.25)
    )
    path = tmp_path / "start.safetensors"
    spec = zoo.model("lenet-relu")
    state = spec.build(3, 2).state_dict()
    passport = new_passport(spec, preprocessing=known, classes=("a", "b"), trained=True)
    save_checkpoint(path, state, passport)
    job = make_job("lenet-relu", images=40, pretrained=str(path))
    published = Published(
        preprocessing=Preprocessing(size=(28, 28), channels=1),
        classes=None,
        files=tuple,
        load=lambda _: torch.nn.Identity(),
    )

    def prepared(usual: str, **asked: str) -> Preprocessing:
        recipe = recipes.override(dataclasses.replace(job.recipe, pixels=usual), asked)
        model = dataclasses.replace(spec, published=published)
        return prepare(dataclasses.replace(job, recipe=recipe, model=model)).preprocessing

    kept = prepared("published")
    assert (kept.size, kept.mean, kept.std) == ((20, 24), (0.25,), (0.5,))
    # asked for, also where the recipe has them, and of a recipe with pixels of its own
    for found, mean in (
        (prepared("published", pixels="half"), 0.5),
        (prepared("published", pixels="published"), 0.0),
        (prepared("half"), 0.5),
    ):
        assert (found.size, found.mean) == ((20, 24), (mean,))
    assert prepared("published", pixels="standardise").mean[0] not in (0.0, 0.25)
    save_checkpoint(path, {**state, "conv1.weight": torch.zeros(6, 3, 3, 3)}, passport)
    other = prepared("published")
    assert (other.size, other.mean) == ((28, 28), (0.25,))


@pytest.mark.parametrize(("model", "side"), [("resnet18", 224), ("resnet18-cifar", 32)])
def test_imagenets_size_is_not_that_of_a_stem_for_small_pictures(
    model: str, side: int, make_job: Any
) -> None:
    job = make_job(model, "finetune", images=40, pretrained="imagenet")
    prepared = prepare(job)
    assert prepared.preprocessing.size == (side, side)
    said = pretrained_input(job, prepared)
    assert said is not None
    assert said.startswith(f"input: {side}×{side} ")
    assert ("its first convolution is its own" in said) == (side == 32)


def test_only_a_recipe_at_a_tenth_of_the_rate_is_told_as_one(tmp_path: Path, listener: Any) -> None:
    file = tmp_path / "finetune.toml"
    file.write_text("epochs = 1\n")
    fields: dict[str, Any] = {"dataset": "fashion-mnist-sample", "images": 40, "threads": 1, "root": tmp_path}
    for recipe, told in ((file, False), ("finetune", True)):
        listener.said.clear()
        jobs.train("lenet-relu", recipe=recipe, epochs=1, watcher=listener, **fields)
        assert any("its default one at a tenth of the rate" in line for line in listener.said) is told


def test_a_body_that_would_never_be_let_learn_is_refused(make_job: Any) -> None:
    job = make_job("lenet-relu", changes={**PLAIN, "epochs": 4, "unfreeze_at": 4}, freeze=True)
    with pytest.raises(CnnkitError, match="after 4 epochs, and there are 4: --epochs 5 or more, an earlier"):
        train(job)


def test_frozen_features_computed_once_give_the_weights_of_computing_them_each_time(
    start: Outcome, make_job: Any, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # its dropout before the head stays the head's own; the one before that is off, as a frozen body's is
    job = make_job(
        "lenet-dropout",
        images=400,
        changes={**PLAIN, "epochs": 3},
        pretrained=str(start.checkpoint.path),
        freeze=True,
        arithmetic="fp32",
        threads=1,
    )
    once = load_state(train(dataclasses.replace(job, loader="torch"), listener).checkpoint)
    assert any("were computed once" in line for line in listener.said)
    monkeypatch.setattr(features, "augmenting", lambda recipe: ("flip",))
    listener.said.clear()
    each = load_state(train(dataclasses.replace(job, name="each"), listener).checkpoint)
    assert any(
        "compute in each epoch, since flip would change the pictures" in line for line in listener.said
    )
    for key, value in once.items():
        torch.testing.assert_close(value, each[key], rtol=1e-5, atol=1e-6)


class Noisy(torch.nn.Module):
    """A network with noise that eval mode does not turn off."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.head = torch.nn.Linear(channels * 28 * 28, classes)

    def forward(self, x: Any) -> Any:
        return self.head((x + torch.rand_like(x)).flatten(1))


class Flattening(torch.nn.Module):
    """A network that flattens between its dropout and its head by a function, or pools there."""

    def __init__(self, *, pools: bool) -> None:
        super().__init__()
        self.drop, self.pools = torch.nn.Dropout(), pools
        self.head = torch.nn.Linear(28 if pools else 784, 10)

    def forward(self, x: Any) -> Any:
        x = self.drop(x)
        return self.head(x.mean(2).flatten(1) if self.pools else torch.flatten(x, 1))


class Distilled(torch.nn.Module):
    """A network that averages the answers of two heads, which it names as timm's networks name theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Conv2d(1, 4, 28)
        self.norm = torch.nn.BatchNorm2d(4)
        self.heads = torch.nn.ModuleList([torch.nn.Linear(4, 10)])
        self.drop = torch.nn.Dropout()
        self.head_dist = torch.nn.Linear(4, 10)
        self.after = torch.nn.Linear(10, 10)

    def get_classifier(self) -> Any:
        return self.heads, self.head_dist

    def forward(self, x: Any) -> Any:
        x = self.norm(self.body(x)).flatten(1)
        return self.after((self.heads[0](x) + self.head_dist(self.drop(x))) / 2)


@pytest.mark.parametrize(
    ("build", "wanted"),
    [
        (lambda: Flattening(pools=False), "were computed once"),
        (lambda: Flattening(pools=True), "or more than a layer comes after them"),
        (Distilled, "only heads.0 and head_dist learn: 100 parameters"),
        (Distilled, "the frozen layers compute in each epoch: 2 heads learn from what they answer"),
    ],
)
def test_what_heads_learn_from_is_computed_once_where_nothing_but_one_of_them_comes_after_it(
    build: Any, wanted: str, make_job: Any, listener: Any
) -> None:
    job = make_job(images=100, changes={**PLAIN, "guard": False}, freeze=True, threads=1)
    model = dataclasses.replace(job.model, build=lambda channels, classes: build())
    train(dataclasses.replace(job, model=model), listener)
    assert any(wanted in line for line in listener.said)


class Headed(torch.nn.Module):
    """A small network around a head, and perhaps with a layer that is registered behind it."""

    def __init__(self, head: torch.nn.Module, behind: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.drop, self.fc, self.behind = (
            torch.nn.Linear(784, 6),
            torch.nn.Dropout(0.2),
            head,
            behind,
        )

    def forward(self, x: Any) -> Any:
        return self.fc(self.drop(self.body(x.flatten(1)).relu()))


class Named(Headed):
    """A network that calls its head by keyword."""

    def forward(self, x: Any) -> Any:
        return self.fc(input=self.body(x.flatten(1)).relu())


class Recurrent(torch.nn.Module):
    """A network whose recurrent layer is registered behind its head."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.fc, self.rnn = torch.nn.Linear(8, classes), torch.nn.LSTM(28, 8, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.fc(self.rnn(x[:, 0])[0][:, -1])


WRITTEN: list[tuple[Any, tuple[str, ...]]] = [
    (lambda head: Headed(weight_norm(head)), ("only fc learns: 80 parameters", "were computed once")),
    (lambda head: Headed(spectral_norm(head)), ("only fc learns: 70 parameters", "were computed once")),
    (Named, ("only fc learns: 70 parameters", "the head takes more than one tensor")),
    (lambda head: Recurrent(head.out_features), ("only fc learns: 90 parameters", "were computed once")),
    # built for ten classes alone, so that its last layer is taken for the head
    (lambda head: Recurrent(), ("compute in each epoch: something in them is random, the head takes",)),
]


@pytest.mark.parametrize(("build", "wanted"), WRITTEN)
def test_a_body_freezes_however_its_head_is_written(
    build: Any, wanted: tuple[str, ...], make_job: Any, listener: Any
) -> None:
    job = make_job(images=100, changes={**PLAIN, "guard": False}, freeze=True, threads=1)
    model = dataclasses.replace(job.model, build=lambda channels, classes: build(torch.nn.Linear(6, classes)))
    train(dataclasses.replace(job, model=model), listener)
    assert all(any(words in line for line in listener.said) for words in wanted)


def test_a_head_that_takes_no_part_in_the_answers_is_refused_where_it_alone_would_learn(
    make_job: Any,
) -> None:
    job = make_job(images=100, changes={**PLAIN, "guard": False}, freeze=True, threads=1)
    network = Headed(torch.nn.Linear(6, 10), torch.nn.Linear(6, 4))
    model = dataclasses.replace(job.model, build=lambda channels, classes: network)
    job = dataclasses.replace(job, model=model)
    with pytest.raises(
        CnnkitError, match="only behind learns, and the answers do not come of that: leave out"
    ):
        train(job)


class ClassVectors(torch.nn.Module):
    """A network whose classifier is a weight of its own, with a scale behind it."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(channels, 8, 5, stride=2), torch.nn.Conv2d(8, 16, 3, stride=2)
        self.w, self.scale = (
            torch.nn.Parameter(torch.randn(classes, 16)),
            torch.nn.Parameter(torch.tensor(5.0)),
        )

    def forward(self, x: Any) -> Any:
        x = self.b(self.a(x).relu()).relu().mean((2, 3))
        return self.scale * torch.nn.functional.linear(x, torch.nn.functional.normalize(self.w))


class Normed(torch.nn.Module):
    """A network with a norm behind its head, and a layer that is registered later and comes before."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.fc, self.norm = torch.nn.Linear(6, classes), torch.nn.BatchNorm1d(classes)
        self.body = torch.nn.Linear(784 * channels, 6)

    def forward(self, x: Any) -> Any:
        return self.norm(self.fc(self.body(x.flatten(1)).relu()))


@pytest.mark.parametrize(("build", "wanted"), [(ClassVectors, ["w"]), (Normed, ["fc", "norm"])])
def test_heads_are_what_goes_by_the_number_of_classes(build: Any, wanted: list[str]) -> None:
    by_classes = weights_by_classes(build(1, 10), build(1, 11))
    module = build(1, 10)
    assert list(heads(module, by_classes)) == wanted
    found = depths(module, by_classes)
    assert {name for name, depth in found.items() if depth == 0} == by_classes
    assert found.keys() == dict(module.named_parameters()).keys()


def test_the_head_of_the_zoo_is_the_last_layer_by_classes_too() -> None:
    for spec in zoo.models().values():
        module, other = (shadow(spec.build, 3, count) for count in (5, 6))
        assert list(heads(module, weights_by_classes(module, other))) == list(heads(module))


def test_a_classifier_that_is_a_weight_of_the_network_itself_learns_alone(
    tmp_path: Path, make_job: Any, listener: Any
) -> None:
    path = tmp_path / "start.safetensors"
    given = ClassVectors(1, 7).state_dict()
    job = make_job(
        images=100, changes={**PLAIN, "guard": False}, freeze=True, threads=1, pretrained=str(path)
    )
    model = dataclasses.replace(job.model, build=ClassVectors)
    known = Preprocessing(size=(28, 28), channels=1)
    passport = new_passport(model, preprocessing=known, classes=tuple("abcdefg"), trained=True)
    save_checkpoint(path, given, passport)
    kept = load_state(train(dataclasses.replace(job, model=model), listener).checkpoint)
    assert any("5 of 6 tensors" in line and line.endswith("left at their start: w") for line in listener.said)
    assert "only w learns: 160 parameters" in listener.said
    assert any(
        "what learns is no layer, but a weight of the network itself" in line for line in listener.said
    )
    assert all(torch.equal(kept[name], given[name]) for name in ("a.weight", "b.weight", "b.bias", "scale"))


class FirstOfMany(torch.nn.Module):
    """A network whose head is given the first of many tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = torch.nn.Linear(28, 8), torch.nn.Linear(8, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x[:, 0])[:, 0])


def test_what_is_kept_of_frozen_layers_takes_what_it_holds_and_not_what_it_is_a_part_of(
    make_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[torch.Tensor] = []
    joined = torch.cat
    monkeypatch.setattr(torch, "cat", lambda parts, *more: (kept.extend(parts), joined(parts, *more))[1])
    job = make_job(images=100, changes=PLAIN, freeze=True, arithmetic="fp32", threads=1)
    spec = dataclasses.replace(job.model, build=lambda channels, classes: FirstOfMany())
    job = dataclasses.replace(job, model=spec)
    loop = make_ready(job, prepare(job), Watcher()).loop
    loop.epoch(lambda: None)
    features = [part for part in kept if part.shape[1:] == (8,)]
    assert features
    assert all(part.untyped_storage().nbytes() == part.numel() * 4 for part in features)


def test_every_head_is_at_the_end_whatever_is_registered_behind_it() -> None:
    found = depths(Distilled())
    assert [name for name, depth in found.items() if depth == 0] == [
        *("heads.0.weight", "heads.0.bias", "head_dist.weight", "head_dist.bias")
    ]
    assert (found["after.weight"], found["norm.weight"], found["body.weight"]) == (1, 2, 2)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("deit_tiny_distilled_patch16_224", {"head", "head_dist"}),
        ("crossvit_tiny_240", {"head.0", "head.1"}),
        ("test_resnet", {"fc"}),
        ("volo_d1_224", {"head", "aux_head"}),  # names the first alone, and adds half of the other's scores
    ],
)
def test_heads_are_those_that_timm_names_and_that_score_beside_them(name: str, wanted: set[str]) -> None:
    pytest.importorskip("timm", reason="timm is not installed (extra timm)")
    module, other = (shadow(zoo.model(f"timm:{name}").build, 3, count) for count in (5, 6))
    assert set(heads(module, weights_by_classes(module, other))) == wanted


def test_what_is_random_before_the_head_is_drawn_anew_each_time(make_job: Any, listener: Any) -> None:
    job = make_job(images=100, changes={**PLAIN, "guard": False}, freeze=True, threads=1)
    train(dataclasses.replace(job, model=dataclasses.replace(job.model, build=Noisy)), listener)
    assert any("compute in each epoch: something in them is random" in line for line in listener.said)


def test_a_body_is_frozen_and_then_learns(start: Outcome, make_job: Any, listener: Any) -> None:
    job = make_job(
        "lenet-relu",
        images=400,
        changes={**PLAIN, "epochs": 3, "unfreeze_at": 2, "validation_fraction": 0, "select": "last"},
        pretrained=str(start.checkpoint.path),
        freeze=True,
        threads=1,
    )
    frozen = dataclasses.replace(job.recipe, epochs=2, unfreeze_at=None)
    short = dataclasses.replace(job, name="two", recipe=frozen)
    two = load_state(train(short).checkpoint)
    given, three = load_state(start.checkpoint), load_state(train(job, listener).checkpoint)
    assert torch.equal(two["conv1.weight"], given["conv1.weight"])
    assert not torch.equal(three["conv1.weight"], given["conv1.weight"])
    assert "all layers learn from here on: 61,706 parameters" in listener.said


def test_patience_does_not_count_epochs_that_leave_an_average_over_cycles_as_it_was(
    make_job: Any, listener: Any
) -> None:
    fields = {**PLAIN, "epochs": 8, "schedule": "cosine", "cycles": 2, "average_from": 0.4, "lr": 1e-30}
    # nothing is ever better than the first epoch, and the second cycle's end is the second average
    job = make_job("lenet-relu", images=60, changes={**fields, "patience_epochs": 4}, threads=1)
    assert len(train(job, listener).records) == 8
    assert any(line.startswith("stopped early: no better epoch for 4 that") for line in listener.said)


def test_patience_counts_from_where_the_body_begins_to_learn(make_job: Any, listener: Any) -> None:
    changes = {**PLAIN, "epochs": 9, "unfreeze_at": 3, "patience_epochs": 2, "lr": 1e-30, "guard": False}
    train(make_job("lenet-relu", images=100, changes=changes, freeze=True, threads=1), listener)
    assert len(listener.records) == 5
    stopped = "stopped early: no better epoch for 2 since all layers learn, the best was 1"
    assert listener.said.count(stopped) == 1


def test_thawing_what_was_not_frozen_is_refused(make_job: Any) -> None:
    with pytest.raises(CnnkitError, match="--unfreeze-at needs --freeze"):
        train(make_job(changes={"unfreeze_at": 1}))


def test_back_in_the_frozen_phase_no_gradient_of_the_body_is_left(make_job: Any) -> None:
    changes = {**PLAIN, "epochs": 3, "unfreeze_at": 1, "clip_norm": 1.0}
    job = make_job("lenet-relu", images=200, changes=changes, freeze=True, threads=1)
    loop = make_ready(job, prepare(job), Watcher()).loop
    loop.progress.epoch = 1
    loop.enter_phase()
    loop.epoch(lambda: None)
    loop.module.get_parameter("conv1.weight").grad = torch.full((6, 1, 5, 5), torch.nan)
    loop.progress = Progress()
    loop.enter_phase()
    loop.epoch(lambda: None)
    assert has_finite_weights(loop.module)


def test_rates_fall_with_the_depth_of_a_block() -> None:
    module = zoo.model("lenet-relu").build(1, 10)
    assert set(depths(module).values()) == {0, 1, 2, 3, 4}
    assert depths(module)["fc3.weight"] == 0
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    recipe = Recipe(name="x", optimizer="sgd", lr=1.0, layer_decay=0.5)
    optimizer = optimizer_of(recipe, module)
    optimizer.rate = 1.0
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, value in module.named_parameters():
        moved = float((before[name] - value.detach()).mean())
        assert moved == pytest.approx(0.5 ** depths(module)[name], rel=1e-4)


class Backboned(torch.nn.Module):
    """A network of one's own around another one."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = torch.nn.Sequential(*(torch.nn.Conv2d(4, 4, 3) for _ in range(3)))
        self.head = torch.nn.Linear(4, 2)


BLOCKS = {
    "resnet18": {"fc.bias": 0, "layer4.1.conv1.weight": 1, "layer4.1.bn2.bias": 1, "bn1.weight": 9},
    # a stem with its norm, four blocks with three transitions between them, the last norm
    "densenet121": {
        "classifier.weight": 0,
        "features.norm5.weight": 1,
        "features.denseblock4.denselayer1.norm1.weight": 1,
        "features.conv0.weight": 8,
        "features.norm0.weight": 8,
    },
    "regnet_y_400mf": {"fc.weight": 0, "stem.1.weight": 5, "trunk_output.block4.block4-0.proj.0.weight": 1},
    "vit_b_16": {
        "heads.head.weight": 0,
        "encoder.ln.weight": 1,
        "encoder.layers.encoder_layer_11.ln_1.bias": 1,
        "encoder.pos_embedding": 13,
        "class_token": 13,
        "conv_proj.weight": 13,
    },
    "efficientnet_b0": {"classifier.1.weight": 0, "features.8.0.weight": 1, "features.0.0.weight": 9},
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_found_however_a_network_holds_them(name: str) -> None:
    models = pytest.importorskip("torchvision").models
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # a RegNet computes its widths
        found = depths(models.get_model(name, weights=None))
    assert {path: found[path] for path in BLOCKS[name]} == BLOCKS[name]
    assert len(set(found.values())) == max(BLOCKS[name].values()) + 1
    assert depths(Backboned())["backbone.0.weight"] == 3
