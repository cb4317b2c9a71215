"""Recipes: made from text and TOML, refused in words, and sensible for every model of the zoo."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit import zoo
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.models import Recipe
from toolkit.training.jobs import find_recipe
from toolkit.training.recipes import check, find, override, settings

PLAIN = Recipe(name="plain")


def test_every_field_but_the_descriptive_ones_can_be_set() -> None:
    fixed = {"name", "assumed", "changed", "source", "own_pixels"}
    assert set(settings()) == {field.name for field in dataclasses.fields(Recipe)} - fixed


@pytest.mark.parametrize("model", list(zoo.models()))
def test_every_recipe_of_the_zoo_makes_sense(model: str) -> None:
    spec = zoo.model(model)
    assert {"default", "textbook"} <= set(spec.recipes)
    for name, recipe in spec.recipes.items():
        assert recipe.name == name
        assert set(recipe.assumed) <= set(settings())
        check(recipe)
        if name.startswith("textbook"):
            assert recipe.source.endswith(".txt")
            assert not recipe.guard
            assert recipe.select == "last"


# the write-ups' runs, by model: rate, batch, epochs
STATED = {
    "lenet": (0.9, 64, 5),
    "lenet-relu": (0.1, 64, 10),
    "lenet-maxpool": (0.05, 64, 10),
    "lenet-dropout": (0.6, 128, 10),
    "alexnet": (0.01, 128, 10),
    "alexnet28": (0.01, 128, 10),
    "nin": (0.1, 256, 10),
    "lenet5": (0.001, 16, 50),
}


@pytest.mark.parametrize(("model", "stated"), STATED.items())
def test_textbook_recipes_are_the_write_ups(model: str, stated: tuple[float, int, int]) -> None:
    recipe = zoo.model(model).recipe("textbook")
    assert (recipe.lr, recipe.batch, recipe.epochs) == stated
    assert recipe.optimizer == "sgd"
    assert recipe.pixels == "unit"
    assert recipe.init == ("default" if model == "lenet5" else "xavier-uniform")


@pytest.mark.parametrize(
    ("model", "assumed"),
    [
        ("lenet", {"optimizer", "init"}),
        ("lenet-relu", {"batch", "optimizer", "init"}),
        ("lenet-maxpool", {"batch", "optimizer", "init"}),
        ("lenet-dropout", set()),
        ("lenet5", set()),
        ("alexnet", set()),
        ("alexnet28", set()),
        ("nin", set()),
        ("cifarnet", {"batch", "lr", "momentum", "pixels"}),
        ("resnet18", {"batch"}),
    ],
)
def test_textbook_recipes_name_what_the_write_ups_do_not_state(model: str, assumed: set[str]) -> None:
    assert set(zoo.model(model).recipe("textbook").assumed) == assumed


@pytest.mark.parametrize(
    ("field", "given_text", "value"),
    [
        ("epochs", "3", 3),
        ("lr", "1e-2", 0.01),
        ("label-smoothing", "0.1", 0.1),
        ("flip", "yes", True),
        ("guard", False, False),
        ("clip-norm", "none", None),
        ("ema_decay", 0.99, 0.99),
        ("optimizer", "SGD", "sgd"),
    ],
)
def test_a_field_is_set_from_text_or_a_value(field: str, given_text: Any, value: Any) -> None:
    changed = override(dataclasses.replace(PLAIN, clip_norm=1.0), {field: given_text})
    assert getattr(changed, field.replace("-", "_")) == value
    assert field.replace("-", "_") in changed.changed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": "0"}, "epochs cannot be '0'; it takes a whole number from 1"),
        ({"epochs": "2.5"}, "takes a whole number from 1"),
        ({"lr": "fast"}, "lr cannot be 'fast'; it takes a number"),
        ({"lr": "nan"}, "lr cannot be 'nan'"),
        ({"lr": 0}, "nothing would be learned"),
        ({"batch": True}, "batch cannot be True"),
        ({"flip": "maybe"}, "takes true or false"),
        ({"optimizer": "lion"}, "takes sgd or adam or adamw"),
        ({"augmix": 1.5}, "takes a number from 0 to 1"),
        ({"momentum": 1}, "momentum cannot be 1; it takes a number from 0 to below 1"),
        ({"label-smoothing": "1"}, "takes a number from 0 to below 1"),
        ({"ema-decay": 1.0}, "takes a number from 0 to below 1 or none"),
        ({"crop-padding": 5000}, "takes a whole number from 0 to 128"),
        ({"shift-pixels": 129}, "takes a whole number from 0 to 128"),
        ({"cutout-pixels": "500"}, "takes a whole number from 0 to 128"),
        ({"epochs": 1e300}, "takes a whole number from 1 to 100000"),
        ({"learning-rat": 1}, "no recipe field 'learning-rat'"),
        ({"epoch": 1}, "Did you mean 'epochs'"),
        ({"momentum": 0.9}, "momentum belongs to sgd"),
        ({"optimizer": "sgd", "nesterov": True}, "nesterov needs sgd and a momentum"),
        ({"schedule": "one-cycle", "warmup_epochs": 1}, "one-cycle warms up by itself"),
    ],
)
def test_nonsense_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CnnkitError) as caught:
        override(PLAIN, changes)
    assert words in str(caught.value)


@given(st.text(max_size=12) | st.floats() | st.integers() | st.booleans() | st.none())
def test_any_value_is_taken_or_refused_but_never_a_traceback(value: Any) -> None:
    for setting in settings().values():
        try:
            taken = setting.parse(value)
        except CnnkitError:
            continue
        assert taken is None or isinstance(taken, (str, bool, int, float))


def test_another_optimizer_drops_the_momentum_that_it_does_not_know() -> None:
    textbook = zoo.model("cifarnet").recipe("textbook")
    assert textbook.momentum > 0
    assert override(textbook, {"optimizer": "adam"}).momentum == 0


def test_a_toml_file_changes_its_base(tmp_path: Path) -> None:
    file = tmp_path / "slow.toml"
    file.write_text('base = "textbook"\nlr = 0.5\nflip = true\nclip-norm = 2.0\n')
    recipe = find(zoo.model("lenet"), str(file))
    assert (recipe.name, recipe.lr, recipe.flip, recipe.clip_norm) == ("slow", 0.5, True, 2.0)
    assert recipe.init == "xavier-uniform"  # the base's


def test_a_toml_file_without_a_base_changes_the_recipe_that_is_usual_for_the_start(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("epochs = 3\n")
    resnet, lenet = zoo.model("resnet18"), zoo.model("lenet")
    tuned = find_recipe(resnet, str(file), "imagenet")
    wanted, default = (
        dataclasses.replace(override(resnet.recipe(base), {"epochs": 3}), name="mine", source="mine.toml")
        for base in ("finetune", "default")
    )
    assert tuned == wanted
    assert find_recipe(resnet, str(file), None) == default
    assert find_recipe(lenet, str(file), "x.pth").lr == lenet.recipe("default").lr / 10
    file.write_text('base = "default"\nepochs = 3\n')
    assert find_recipe(resnet, str(file), "imagenet") == default


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr = ", "is no TOML file"),
        ("lr = 'x'", "lr cannot be 'x'"),
        ("rate = 1", "no recipe field 'rate'"),
        ("base = 'txtbook'", "Did you mean 'textbook'"),
        ("schedule = 'cosine'\nstep-gamma = 0.1", "step-gamma does nothing while schedule is cosine"),
        ("randaugment-level = 5", "randaugment-level does nothing while randaugment is 0"),
    ],
)
def test_a_bad_toml_file_is_named_and_explained(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(CnnkitError) as caught:
        find(zoo.model("lenet"), str(file))
    assert words in str(caught.value)


def test_a_missing_toml_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="cannot be read: No such file"):
        find(zoo.model("lenet"), str(tmp_path / "none.toml"))
