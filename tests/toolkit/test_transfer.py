"""Weights from elsewhere are a network's start; frozen layers stay exactly as they were."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cnnkit import front_door
from toolkit import zoo
from toolkit.artifacts import hash_file, open_artifact
from toolkit.checkpoints import load_state, new_passport, save_checkpoint
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.heads import heads
from toolkit.preprocessing import Preprocessing
from toolkit.transfer import Frozen, KnownInput, known_input, load_pretrained

torch = pytest.importorskip("torch")


def resnet(channels: int = 3, classes: int = 10, name: str = "resnet18") -> torch.nn.Module:
    return zoo.model(name).build(channels, classes)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Return a file as torchvision publishes it: 1,000 classes, three channels."""
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(7)
    path = tmp_path / "resnet18.pth"
    torch.save(models.resnet18(num_classes=1000).state_dict(), path)
    return path


def test_all_layers_but_the_head_take_the_weights(weights: Path) -> None:
    module, given = resnet(), torch.load(weights, weights_only=True)
    start = {key: value.clone() for key, value in module.state_dict().items()}
    said = load_pretrained("resnet18", module, str(weights))
    assert said.endswith("left at their start: fc.weight, fc.bias")
    for key, value in module.state_dict().items():
        assert torch.equal(value, start[key] if key.startswith("fc.") else given[key]), key


def test_a_grey_network_answers_as_the_colour_one_does_to_a_grey_picture(weights: Path) -> None:
    grey, colour = resnet(1).eval(), resnet(3).eval()
    for module in (grey, colour):
        load_pretrained("resnet18", module, str(weights))
    picture = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(grey.conv1(picture), colour.conv1(picture.expand(1, 3, 32, 32)))


def test_a_network_that_was_fed_with_blue_first_answers_alike_to_red_first(tmp_path: Path) -> None:
    spec, path = zoo.model("lenet-relu"), tmp_path / "start.safetensors"
    fed, module = spec.build(3, 2), spec.build(3, 2)
    known = Preprocessing(
        size=(28, 28), channels=3, order="bgr", scale=1.0, mean=(1.0, 2.0, 3.0), std=(51.0, 102.0, 255.0)
    )
    passport = new_passport(spec, preprocessing=known, classes=("a", "b"), trained=True)
    save_checkpoint(path, fed.state_dict(), passport)
    said = load_pretrained("lenet-relu", module, str(path), ("a", "b"))
    assert "takes red, green, blue in place of blue, green, red" in said
    found = known_input(str(path))
    assert found is not None
    assert (found.mean[0], found.std) == (pytest.approx(3 / 255), pytest.approx((1.0, 0.4, 0.2)))
    red = torch.rand(2, 3, 28, 28) * 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (known.mean, known.std))
    own = (red / 255 - torch.tensor(found.mean)[:, None, None]) / torch.tensor(found.std)[:, None, None]
    torch.testing.assert_close(module(own), fed((red.flip(1) - mean) / std))
    inverted = dataclasses.replace(passport, preprocessing=dataclasses.replace(known, invert=True))
    save_checkpoint(path, fed.state_dict(), inverted)
    with pytest.raises(CnnkitError, match=r"reads pictures inverted, .* take its passport \(start"):
        known_input(str(path))


def test_a_stem_of_another_shape_keeps_its_start_and_that_is_said(weights: Path) -> None:
    said = load_pretrained("resnet18-cifar", resnet(name="resnet18-cifar"), str(weights))
    assert "left at their start: conv1.weight, fc.weight, fc.bias" in said
    assert "--freeze" not in said


def test_freezing_what_the_weights_have_not_is_said(weights: Path) -> None:
    said = load_pretrained("resnet18-cifar", resnet(name="resnet18-cifar"), str(weights), freeze=True)
    assert "note: --freeze keeps conv1.weight at random figures, which those weights have no" in said
    assert "--freeze" not in load_pretrained("resnet18", resnet(), str(weights), freeze=True)


def test_a_weight_of_another_rank_keeps_its_start(weights: Path) -> None:
    given = torch.load(weights, weights_only=True)
    torch.save({**given, "bn1.weight": torch.ones(64, 3, 1, 1)}, weights)
    said = load_pretrained("resnet18", resnet(), str(weights))
    assert said.endswith("left at their start: bn1.weight, fc.weight, fc.bias")


def test_weights_of_another_network_are_refused(weights: Path) -> None:
    with pytest.raises(CnnkitError, match="none of alexnet28's layers but its head has weights"):
        load_pretrained("alexnet28", resnet(name="alexnet28", channels=1), str(weights))
    with pytest.raises(CnnkitError, match="no ImageNet weights for lenet"):
        load_pretrained("lenet", resnet(name="lenet", channels=1), "imagenet")


def test_a_network_that_is_its_head_alone_goes_on_where_the_classes_are_the_same(tmp_path: Path) -> None:
    spec, path = zoo.model("lenet-relu"), tmp_path / "plain.safetensors"
    fed, module = (torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)) for _ in range(2))
    known = Preprocessing(size=(2, 2), channels=1)
    passport = new_passport(spec, preprocessing=known, classes=("a", "b"), trained=True)
    save_checkpoint(path, fed.state_dict(), passport)
    said = load_pretrained("plain", module, str(path), ("a", "b"))
    assert said.endswith("the head too, since the classes are the same")
    assert torch.equal(module[1].weight, fed[1].weight)
    with pytest.raises(
        CnnkitError, match=r"plain is its head alone, .* weights of the same classes: .* tells"
    ):
        load_pretrained("plain", module, str(path), ("c", "d"))
    # under a body of random figures a head of such classes is worth nothing
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    body.add_module("0", torch.nn.Conv2d(1, 1, 1))
    with pytest.raises(CnnkitError, match="none of plain's layers but its head has weights"):
        load_pretrained("plain", body, str(path), ("a", "b"))


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5,), (0.2, 0.3, 0.4)), ((0.1, 0.2, 0.3), (0.3,)), ((0.5,), (0.3,))]
)
def test_mean_and_deviation_become_those_of_other_channels_each_by_its_own_length(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    known = KnownInput(size=(28, 28), mean=mean, std=std)
    grey, colour = known.of_channels(1), known.of_channels(3)
    assert colour.mean == (mean if len(mean) == 3 else mean * 3)
    assert colour.std == (std if len(std) == 3 else std * 3)
    assert (grey.mean, grey.std) == ((pytest.approx(sum(mean) / len(mean)),), (pytest.approx(0.3),))


def test_imagenet_without_a_network_says_which_file_to_bring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchvision")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(
        NotFoundError, match=r"resnet18-f37072fd\.pth and cannot be fetched .*--pretrained FILE"
    ):
        load_pretrained("resnet18", resnet(), "imagenet")
    kept = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(b"another file")
    with pytest.raises(CorruptError, match="not the published file"):
        load_pretrained("resnet18", resnet(), "imagenet")


def test_frozen_layers_stay_exactly_as_they_were_while_the_head_learns() -> None:
    module = resnet()
    assert list(heads(module)) == ["fc"]
    frozen = Frozen(module)
    assert frozen.sentence == "only fc learns: 5,130 parameters"
    before = {key: value.clone() for key, value in module.state_dict().items()}
    optimizer = torch.optim.AdamW((p for p in module.parameters() if p.requires_grad), lr=0.1)
    module.train()
    for _ in range(2):
        torch.nn.functional.cross_entropy(module(torch.rand(4, 3, 32, 32)), torch.arange(4)).backward()
        optimizer.step()
    changed = {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"fc.weight", "fc.bias"}
    assert module.fc.training
    assert not module.layer1.training
    assert frozen.thaw() == "all layers learn from here on: 11,181,642 parameters"
    module.train()
    module(torch.rand(4, 3, 32, 32))
    assert not torch.equal(module.bn1.running_mean, before["bn1.running_mean"])


def test_train_starts_from_the_weights_and_changes_only_the_head(weights: Path, tmp_path: Path) -> None:
    words = ["train", "resnet18", "--dataset", "fashion-mnist-sample", "--images", "40", "--epochs", "1"]
    words += [
        "--batch",
        "16",
        "--pretrained",
        str(weights),
        "--freeze",
        "--artifacts",
        str(tmp_path),
        "--json",
    ]
    result = CliRunner().invoke(front_door.main, words)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("only fc learns: 5,130 parameters") == 1
    artifact = open_artifact(Path(json.loads(result.stdout)["checkpoint"]))
    assert artifact.passport.pretrained == str(weights)
    assert (artifact.passport.recipe.name, artifact.passport.recipe.lr) == ("finetune", 3e-4)
    assert artifact.passport.options.pretrained_sha256 == hash_file(weights)
    kept, given = load_state(artifact), torch.load(weights, weights_only=True)
    given["conv1.weight"] = given["conv1.weight"].sum(dim=1, keepdim=True)  # the data is grey
    assert all(torch.equal(kept[key], given[key]) for key in given if not key.startswith("fc."))
