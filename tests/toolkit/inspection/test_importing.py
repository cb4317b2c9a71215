"""`cnnkit import`: weights come in whole, or it is said why not; nothing in a file is ever run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.toolkit.inspection.conftest import Run, read
from toolkit import zoo
from toolkit.artifacts import open_artifact
from toolkit.checkpoints import load_module, load_state
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.importing.weights import _renamed

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")
nn = torch.nn


class LeNet5(nn.Module):
    """The write-up's own class, so that its attribute names are the keys."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.conv3 = nn.Conv2d(16, 120, 5)
        self.fc1 = nn.Linear(120, 84)
        self.output = nn.Linear(84, 10)


class CifarNet(nn.Module):
    """The CIFAR write-up's net with batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 5), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16)
        self.fc1, self.bn3 = nn.Linear(400, 120), nn.BatchNorm1d(120)
        self.fc2, self.fc3 = nn.Linear(120, 84), nn.Linear(84, 10)


@pytest.mark.parametrize(("model", "module"), [("lenet5", LeNet5), ("cifarnet-bn", CifarNet)])
def test_the_write_ups_checkpoints_come_in_without_renames(
    run: Run, tmp_path: Path, model: str, module: type[nn.Module]
) -> None:
    state = module().state_dict()
    torch.save(state, tmp_path / "best_model.pth")
    found = read(
        run("import", tmp_path / "best_model.pth", "--model", model, "--artifacts", tmp_path, "--json")
    )
    artifact = open_artifact(Path(found["checkpoint"]))
    kept = load_state(artifact)
    assert set(kept) == set(state)
    assert all(torch.equal(kept[key], value) for key, value in state.items())
    assert artifact.passport.trained is True
    assert artifact.passport.metrics.test_accuracy is None
    assert len(found["assumed"]) == 2  # classes and pixels, both said


def test_wrapped_half_precision_weights_are_unwrapped_and_that_is_said(run: Run, tmp_path: Path) -> None:
    state = {f"module.{key}": value.half() for key, value in LeNet5().state_dict().items()}
    torch.save({"epoch": 3, "model_state_dict": state}, tmp_path / "last.pt")
    result = run("import", tmp_path / "last.pt", "--model", "lenet5", "--artifacts", tmp_path)
    assert result.exit_code == 0
    for said in ("under 'model_state_dict'", "'module.' is taken off", "float16 weights become float32"):
        assert said in result.stderr
    assert "`cnnkit eval lenet5` measures it" in result.stderr


def test_renames_that_would_fit_are_suggested_and_work(run: Run, tmp_path: Path) -> None:
    state = {key.replace("output", "fc2"): value for key, value in LeNet5().state_dict().items()}
    torch.save(state, tmp_path / "other.pth")
    words = ("import", tmp_path / "other.pth", "--model", "lenet5", "--artifacts", tmp_path)
    refused = run(*words)
    assert refused.exit_code == 1
    assert "missing: output.weight, output.bias; left over: fc2.weight, fc2.bias" in refused.stderr
    assert "try --rename fc2=output" in refused.stderr
    assert not (tmp_path / "lenet5").exists()
    assert run(*words, "--rename", "fc2=output").exit_code == 0
    assert "has not: fc9" in run(*words, "--rename", "fc9=output", "--replace").stderr
    assert run(*words, "--rename", "fc9").exit_code == 2


PARTS = st.text("abc1", min_size=1, max_size=2)
PATHS = st.lists(PARTS, min_size=1, max_size=3).map(".".join)


@settings(max_examples=200, deadline=None)
@given(st.sets(PATHS, min_size=1, max_size=6), st.dictionaries(PATHS, PATHS, max_size=3))
def test_renames_lose_no_weight_and_move_only_what_they_name(keys: set[str], renames: dict[str, str]) -> None:
    state = {key: torch.tensor(float(index)) for index, key in enumerate(sorted(keys))}

    def named(key: str) -> list[str]:
        return [old for old in renames if f"{key}.".startswith(f"{old}.")]

    try:
        made = _renamed(state, renames)
    except NotFoundError:
        # a rename that an earlier one leaves nothing to do counts as unused, too
        first = {named(key)[0] for key in keys if named(key)}
        assert set(renames) - first
        return
    except CnnkitError:
        # two weights would get one name
        wanted = [next((renames[old] + key[len(old) :] for old in named(key)), key) for key in keys]
        assert len(set(wanted)) < len(wanted)
        return
    assert sorted(map(float, made.values())) == sorted(map(float, state.values()))
    back = {float(value): key for key, value in made.items()}
    for key, value in state.items():
        new = back[float(value)]
        if named(key):
            old = named(key)[0]
            assert new == renames[old] + key[len(old) :]
        else:
            assert new == key


def test_channels_and_classes_are_read_off_the_weights(run: Run, tmp_path: Path) -> None:
    module = nn.ModuleDict(LeNet5()._modules)
    module["conv1"], module["output"] = nn.Conv2d(3, 6, 5, padding=2), nn.Linear(84, 3)
    torch.save(module.state_dict(), tmp_path / "three.pth")
    words = ("import", tmp_path / "three.pth", "--model", "lenet5", "--artifacts", tmp_path, "--replace")
    options = ("--classes", "cat, dog,cow", "--mean", "0.5,0.4,0.3", "--std", "0.2")
    found = read(run(*words, *options, "--json"))
    assert found["classes"] == ["cat", "dog", "cow"]
    assert found["preprocessing"]["mean"] == [0.5, 0.4, 0.3]
    assert found["preprocessing"]["std"] == [0.2, 0.2, 0.2]
    artifact = open_artifact(Path(found["checkpoint"]))
    assert load_module(artifact)(torch.zeros(1, 3, 28, 28)).shape == (1, 3)
    assert "names 2 and the network answers with 3" in run(*words, "--classes", "a,b").stderr
    assert "called by their numbers" in run(*words).stderr
    assert "one figure, or one for each of the 3 channels" in run(*words, "--mean", "0.1,0.2").stderr


def test_an_artifact_of_that_name_is_never_written_over_unasked(run: Run, tmp_path: Path) -> None:
    torch.save(LeNet5().state_dict(), tmp_path / "a.pth")
    words = ("import", tmp_path / "a.pth", "--model", "lenet5", "--artifacts", tmp_path)
    assert run(*words).exit_code == 0
    assert run(*words).exit_code == 0  # the same file is no other
    torch.save({key: value + 1 for key, value in LeNet5().state_dict().items()}, tmp_path / "a.pth")
    refused = run(*words)
    assert refused.exit_code == 1
    assert "--name OTHER to keep both, or --replace" in refused.stderr
    assert run(*words, "--name", "mine").exit_code == 0
    assert (tmp_path / "mine" / "mine.safetensors").exists()


def test_cnnkits_own_weights_come_in_as_their_passport_says(run: Run, trained: Path, tmp_path: Path) -> None:
    own = trained / "lenet-maxpool" / "lenet-maxpool.safetensors"
    words = ("import", own, "--model", "lenet-maxpool", "--artifacts", tmp_path)
    assert "as its passport says" in run(*words).stderr
    then, now = open_artifact(own).passport, open_artifact(tmp_path / "lenet-maxpool" / own.name).passport
    assert (now.preprocessing, now.classes) == (then.preprocessing, then.classes)
    assert (now.dataset, now.trained) == (then.dataset, then.trained)
    other = tmp_path / "other.safetensors"
    shutil.copyfile(own.with_name(own.name + ".json"), tmp_path / "other.safetensors.json")
    safetensors_torch.save_file(
        {key: value + 1 for key, value in load_state(open_artifact(own)).items()}, other
    )
    said = run("import", other, *words[2:], "--name", "other").stderr
    assert "it is the passport of other weights" in said
    assert "as in the write-up" in said


def test_a_missing_file_is_named_before_what_is_there_already(run: Run, tmp_path: Path) -> None:
    torch.save(LeNet5().state_dict(), tmp_path / "a.pth")
    words = ("--model", "lenet5", "--artifacts", tmp_path)
    assert run("import", tmp_path / "a.pth", *words).exit_code == 0
    assert "is there already" not in run("import", tmp_path / "none.pth", *words).stderr


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def test_code_in_a_file_is_never_run(run: Run, tmp_path: Path) -> None:
    torch.save({"conv1.weight": Bomb(tmp_path / "ran")}, tmp_path / "evil.pth")
    refused = run("import", tmp_path / "evil.pth", "--model", "lenet5", "--artifacts", tmp_path)
    assert refused.exit_code == 1
    assert "opening those runs code" in refused.stderr
    assert not (tmp_path / "ran").exists()


def test_files_that_hold_no_usable_weights_are_told_in_one_line(run: Run, tmp_path: Path) -> None:
    good = tmp_path / "good.pth"
    state = LeNet5().state_dict()
    torch.save(state, good)
    cases: dict[str, str] = {}
    for name, data in (("cut.pth", good.read_bytes()[:3000]), ("text.pth", b"hello")):
        (tmp_path / name).write_bytes(data)
        cases[name] = "is a text file" if name == "text.pth" else "no file of weights, or damaged"
    (tmp_path / "junk.safetensors").write_bytes(b"\xff" * 64)
    cases["junk.safetensors"] = "no file of weights, or damaged"
    torch.save([1, 2], tmp_path / "list.pth")
    cases["list.pth"] = "holds a list and no named weights"
    torch.save({"epoch": 3}, tmp_path / "number.pth")
    cases["number.pth"] = "holds no weights"
    torch.save({**state, "fc1.bias": torch.full((84,), float("nan"))}, tmp_path / "nan.pth")
    cases["nan.pth"] = "NaN or infinity: fc1.bias"
    torch.save({**state, "fc1.bias": torch.zeros(83)}, tmp_path / "shape.pth")
    cases["shape.pth"] = "fc1.bias is 83 and should be 84"
    cases["missing.pth"] = "no file"
    for name, message in cases.items():
        result = run("import", tmp_path / name, "--model", "lenet5", "--artifacts", tmp_path / "a")
        assert (name, result.exit_code) == (name, 1)
        assert message in result.stderr, result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "a").exists()


def test_an_import_evaluates_and_says_where_it_is_from(run: Run, trained: Path, tmp_path: Path) -> None:
    source = trained / "lenet-maxpool" / "lenet-maxpool.safetensors"
    passport = open_artifact(source).passport
    assert passport.preprocessing is not None
    assert passport.metrics.test_accuracy is not None
    torch.save(load_state(open_artifact(source)), tmp_path / "w.pth")
    mean, std = passport.preprocessing.mean[0], passport.preprocessing.std[0]
    words = ("--mean", mean, "--std", std, "--dataset", "fashion-mnist-sample", "--artifacts", tmp_path)
    found = read(run("import", tmp_path / "w.pth", "--model", "lenet-maxpool", *words, "--json"))
    assert found["assumed"] == []
    beside = json.loads(Path(f"{found['checkpoint']}.json").read_text())
    assert beside["imported_from"] == "w.pth"
    measured = read(run("eval", "lenet-maxpool", "--artifacts", tmp_path, "--json"))
    assert measured["accuracy"] == pytest.approx(passport.metrics.test_accuracy)


def test_a_lightning_checkpoint_comes_in_by_itself_and_by_one_rename(run: Run, tmp_path: Path) -> None:
    state = LeNet5().state_dict()
    inside = {f"model.{key}": value for key, value in state.items()}
    torch.save({"state_dict": inside, "epoch": 3, "pytorch-lightning_version": "2.5"}, tmp_path / "a.ckpt")
    words = ("import", tmp_path / "a.ckpt", "--model", "lenet5", "--artifacts", tmp_path, "--replace")
    itself, renamed = run(*words), run(*words, "--rename", "model.=")
    assert "'model.' is taken off every name" in itself.stderr
    assert renamed.exit_code == 0, renamed.stderr
    kept = load_state(open_artifact(tmp_path / "lenet5" / "lenet5.safetensors"))
    assert all(torch.equal(kept[key], value) for key, value in state.items())
    assert run(*words, "--rename", "model=").exit_code == 2


def test_a_part_of_a_larger_file_is_taken_by_its_name(run: Run, tmp_path: Path) -> None:
    plain, averaged = LeNet5().state_dict(), LeNet5().state_dict()
    torch.save({"network": plain, "state_dict_ema": averaged}, tmp_path / "a.pth")
    words = ("import", tmp_path / "a.pth", "--model", "lenet5", "--artifacts", tmp_path, "--replace")
    for options, wanted in (((), averaged), (("--key", "network"), plain)):
        assert run(*words, *options).exit_code == 0
        kept = load_state(open_artifact(tmp_path / "lenet5" / "lenet5.safetensors"))
        assert torch.equal(kept["conv1.weight"], wanted["conv1.weight"])
    assert run(*words[:-1], "--key", "network").exit_code == 0
    assert "holds other weights than these options take from a.pth: add --name" in run(*words[:-1]).stderr


def test_the_size_that_weights_were_trained_at_is_kept(run: Run, tmp_path: Path) -> None:
    torch.save(zoo.model("resnet18").build(3, 10).state_dict(), tmp_path / "a.pth")
    words = ("import", tmp_path / "a.pth", "--model", "resnet18", "--artifacts", tmp_path, "--json")
    found = read(run(*words, "--size", "96x128"))
    passport = open_artifact(Path(found["checkpoint"])).passport
    assert found["preprocessing"]["size"] == [96, 128]
    assert passport.input.shape == (None, 3, 96, 128)
    assert run(*words, "--size", "96x").exit_code == 2
    torch.save(LeNet5().state_dict(), tmp_path / "b.pth")
    other = run("import", tmp_path / "b.pth", "--model", "lenet5", "--artifacts", tmp_path, "--size", "64")
    assert other.exit_code == 1
    assert "does not pass through the network" in other.stderr
