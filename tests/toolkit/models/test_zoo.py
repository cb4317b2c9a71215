"""Every network of the zoo takes any classes and channels; those of write-ups have the published numbers."""

from __future__ import annotations

import pytest
import torch

from toolkit import zoo
from toolkit.datasets import dataset_names
from toolkit.models import ModelSpec

# Counted from the write-ups' and papers' layer sizes; with 10 classes and each net's own channels.
PARAMETERS = {
    "lenet": 61_706,
    "lenet-relu": 61_706,
    "lenet-maxpool": 61_706,
    "lenet-dropout": 61_706,
    "lenet5": 61_706,
    "alexnet": 46_764_746,
    "alexnet28": 2_466_250,
    "nin": 1_992_166,
    "cifarnet": 62_006,
    "cifarnet-bn": 62_290,
    "cifarnet-kaiming": 62_006,
    "cifarnet-wide": 117_678,
    "cifarnet-best": 2_438_510,
    "resnet18": 11_181_642,
    "resnet18-cifar": 11_173_962,
}
ZOO = list(zoo.models().values())


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_number(name: str) -> None:
    spec = zoo.model(name)
    module = spec.build(spec.input_shape[0], 10)
    assert sum(p.numel() for p in module.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("spec", ZOO, ids=lambda spec: spec.name)
def test_any_classes_and_one_or_three_channels(spec: ModelSpec, channels: int) -> None:
    module = spec.build(channels, 7).eval()
    with torch.inference_mode():
        assert module(torch.zeros(2, channels, *spec.input_shape[1:])).shape == (2, 7)


@pytest.mark.parametrize("spec", ZOO, ids=lambda spec: spec.name)
def test_every_model_has_its_recipes_and_its_data(spec: ModelSpec) -> None:
    assert "default" in spec.recipes
    assert all(name == recipe.name for name, recipe in spec.recipes.items())
    assert spec.dataset in dataset_names()
    assert spec.summary
    assert spec.source


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_model_of_a_write_up_is_trained_as_it_says(name: str) -> None:
    recipe = zoo.model(name).recipe("textbook")
    assert recipe.source.endswith(".txt")
    assert recipe.guard is False


@pytest.mark.parametrize(
    ("name", "lr", "batch", "epochs"),
    [
        ("lenet", 0.9, 64, 5),
        ("lenet-relu", 0.1, 64, 10),
        ("lenet-maxpool", 0.05, 64, 10),
        ("lenet-dropout", 0.6, 128, 10),
        ("alexnet", 0.01, 128, 10),
        ("alexnet28", 0.01, 128, 10),
        ("nin", 0.1, 256, 10),
        ("lenet5", 0.001, 16, 50),
        ("cifarnet-best", 0.002, 64, 12),
    ],
)
def test_textbook_recipes_are_the_write_ups(name: str, lr: float, batch: int, epochs: int) -> None:
    recipe = zoo.model(name).recipe("textbook")
    assert (recipe.lr, recipe.batch, recipe.epochs) == (lr, batch, epochs)


def test_nin_never_answers_below_zero() -> None:
    module = zoo.model("nin").build(1, 10).eval()
    with torch.inference_mode():
        assert module(torch.randn(2, 1, 224, 224)).min() >= 0
