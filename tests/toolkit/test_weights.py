"""Files of weights as training scripts leave them; what is no such file is called what it is."""

from __future__ import annotations

import argparse
import os
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.weights import INSIDE, give, read_weights, unshared, unwrap, without_prefix

torch = pytest.importorskip("torch")
nn = torch.nn


def network() -> Any:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4), fc=nn.Linear(4, 2)))


def saved(path: Path, content: Any) -> tuple[dict[str, Any], list[str]]:
    """Save as a script does, read it back, and return the weights and what was said."""
    torch.save(content, path)
    said: list[str] = []
    return unwrap(read_weights(path), said), said


@pytest.mark.parametrize("key", INSIDE)
def test_the_usual_places_of_weights_are_found_and_said(tmp_path: Path, key: str) -> None:
    state = network().state_dict()
    found, said = saved(tmp_path / "a.pth", {"epoch": 3, key: state, "optimizer": {"state": {0: state}}})
    assert found.keys() == state.keys()
    assert said == [f"weights are under {key!r} in the file"]


def test_averaged_weights_come_first_and_the_others_are_named_and_can_be_asked_for(tmp_path: Path) -> None:
    plain, averaged = network().state_dict(), network().state_dict()
    content = {
        "model": plain,
        "ema": {"decay": 0.999, "module": averaged},
        "args": argparse.Namespace(lr=0.1),
    }
    found, said = saved(tmp_path / "a.pth", content)
    assert torch.equal(found["conv.weight"], averaged["conv.weight"])
    assert said == [
        "weights are under 'ema' in the file (also in it: model; --key NAME takes another)",
        "weights are under 'ema/module' in the file",
    ]
    asked = unwrap(read_weights(tmp_path / "a.pth"), [], key="model")
    assert torch.equal(asked["conv.weight"], plain["conv.weight"])
    with pytest.raises(NotFoundError, match=r"no part of the file 'mdel'; known: ema, model\. Did you mean"):
        unwrap(read_weights(tmp_path / "a.pth"), [], key="mdel")


def test_weights_under_a_word_of_ones_own_are_found_where_they_are_the_only_ones(tmp_path: Path) -> None:
    state = network().state_dict()
    found, said = saved(tmp_path / "a.pth", {"my_net": state, "optim": {"m": {"conv": torch.zeros(1)}}})
    assert found.keys() == state.keys()
    assert said == ["weights are under 'my_net' in the file"]
    with pytest.raises(CnnkitError, match="in several parts: generator, critic; --key NAME takes one"):
        saved(tmp_path / "b.pth", {"generator": state, "critic": state})


def test_averaged_and_parallel_models_lose_their_wrappers(tmp_path: Path) -> None:
    net = network()
    averaged = torch.optim.swa_utils.AveragedModel(nn.DataParallel(net))
    found, said = saved(tmp_path / "a.pth", averaged.state_dict())
    assert found.keys() == net.state_dict().keys()
    assert said == [
        "n_averaged is a count of the averaging and left out",
        "'module.' is taken off every name",
        "'module.' is taken off every name",
    ]


@pytest.mark.parametrize("prefix", ["model.", "net.", "model.backbone.", "_forward_module.module."])
def test_lightnings_prefix_comes_off_where_every_weight_is_behind_it(prefix: str) -> None:
    wanted = network().state_dict()
    state = {f"{prefix}{key}": value for key, value in wanted.items()}
    said: list[str] = []
    found = without_prefix({**state, "loss.weight": torch.ones(2)}, wanted, said)
    assert found.keys() == wanted.keys()
    assert said == [f"{prefix!r} is taken off every name; left out: loss.weight"]
    short = {key: value for key, value in state.items() if not key.endswith("fc.bias")}
    assert without_prefix(short, wanted, []) == short


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("ab.", min_size=1, max_size=6), st.just(torch.zeros(1)), max_size=5))
def test_no_weight_is_lost_or_renamed_without_a_word(state: dict[str, Any]) -> None:
    said: list[str] = []
    found = without_prefix(state, {"a": torch.zeros(1), "b.a": torch.zeros(1)}, said)
    assert found == state or said


def test_what_scripts_keep_beside_the_weights_is_read(tmp_path: Path) -> None:
    content = {
        "state_dict": network().state_dict(),
        "args": argparse.Namespace(lr=0.1, out=Path("runs/1")),
        "more": types.SimpleNamespace(a=1),
        "best": np.float64(0.9),
        "epoch": np.int64(3),
        "history": np.arange(3.0),
        "flags": np.array([True]),
        "hyper_parameters": OrderedDict(name="x"),
    }
    found, _ = saved(tmp_path / "a.ckpt", content)
    assert found.keys() == network().state_dict().keys()
    read = read_weights(tmp_path / "a.ckpt")
    assert read["best"] == 0.9
    assert read["args"].lr == 0.1
    assert read["history"].tolist() == [0.0, 1.0, 2.0]
    # nothing stays admitted: what others read with torch afterwards is as strict as before
    with pytest.raises(Exception, match="Namespace"):
        torch.load(tmp_path / "a.ckpt", weights_only=True)


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


class Config:
    """A class of somebody's training script."""


def bombs(mark: Path) -> dict[str, Any]:
    state = network().state_dict()
    return {
        "weight": {"conv.weight": Bomb(mark)},
        "beside": {"state_dict": state, "args": argparse.Namespace(deep=[Bomb(mark)])},
        "array": {"state_dict": state, "history": np.array([Bomb(mark)], dtype=object)},
        "config": {"state_dict": state, "config": Config()},
        "network": network(),
    }


@pytest.mark.parametrize("name", ["weight", "beside", "array", "config", "network"])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_would_run_code_is_refused_and_never_run(tmp_path: Path, name: str, zipped: bool) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "ran"
    torch.save(bombs(mark)[name], path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CnnkitError, match=r"Python objects.* opening those runs code") as refused:
        read_weights(path)
    assert not mark.exists()
    assert "weights_only" not in str(refused.value)
    assert "safe_globals" not in str(refused.value)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 5\n"
IMPOSTORS = {
    "page": (b"\n<!DOCTYPE html><html><head>", "an HTML page .*download link"),
    "upper": (b"<HTML><BODY>not found</BODY></HTML>", "an HTML page"),
    "lfs": (LFS, "a Git LFS pointer .*git lfs pull"),
    "annex": (b"/annex/objects/MD5E-s5--0a.pth\n", "a git-annex pointer"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML message"),
    "json": (b'{"error": "Repository not found"}', "a message of a web server"),
}


@pytest.mark.parametrize("name", IMPOSTORS)
@pytest.mark.parametrize("ending", [".pth", ".safetensors", ".ckpt"])
def test_a_page_or_a_pointer_is_called_one(tmp_path: Path, name: str, ending: str) -> None:
    content, said = IMPOSTORS[name]
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    with pytest.raises(CorruptError, match=said):
        read_weights(path)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_torchs_advice_to_run_the_file_never_reaches_anybody(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.pth"
    path.write_bytes(content)
    with pytest.raises(CnnkitError) as refused:
        read_weights(path)
    assert "weights_only" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_programs_and_archives_are_called_what_they_are(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "program.pt"))
    with pytest.raises(CnnkitError, match="a TorchScript program, and opening it runs code"):
        read_weights(tmp_path / "program.pt")
    with zipfile.ZipFile(tmp_path / "packed.pth", "w") as archive:
        archive.writestr("run/best.pth", b"x")
    with pytest.raises(CnnkitError, match=r"a zip archive: unpack it, weights seem to be in run/best\.pth"):
        read_weights(tmp_path / "packed.pth")
    whole = (tmp_path / "packed.pth").read_bytes()
    (tmp_path / "packed.pth").write_bytes(whole.replace(b"PK\x01\x02", bytes(4)))  # its list of contents
    with pytest.raises(CorruptError, match=r"packed\.pth is no file of weights, or damaged \(BadZipFile\)"):
        read_weights(tmp_path / "packed.pth")


def test_tied_weights_are_written_under_both_names() -> None:
    shared = torch.arange(4.0)
    found = unshared({"a": shared, "b": shared, "c": shared[:2], "d": torch.zeros(2)})
    places = [value.untyped_storage().data_ptr() for value in found.values()]
    assert len(set(places)) == 4
    assert torch.equal(found["a"], found["b"])


def test_layers_that_ask_for_the_form_of_their_weights_are_told_it() -> None:
    """A safetensors file does not say it, and MNASNet takes a state that does not for one it cannot read."""
    models = pytest.importorskip("torchvision").models
    net = models.mnasnet0_5(num_classes=3)
    state = {key: value + 1 for key, value in net.state_dict().items()}
    give(net, state)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    with pytest.raises(RuntimeError, match="Missing key"):
        give(net, {})


@pytest.mark.filterwarnings("ignore:torch.quantize", "ignore:TypedStorage")
def test_weights_in_other_forms_are_read_as_the_floats_that_they_are(tmp_path: Path) -> None:
    state = network().state_dict()
    coded = torch.quantize_per_tensor(state["fc.weight"], 0.01, 0, torch.qint8)
    forms = {
        "fc.weight": (coded, coded.dequantize()),
        "fc.bias": (state["fc.bias"].to_sparse(), state["fc.bias"]),
    }
    found, said = saved(tmp_path / "a.pth", {**state, **{name: given for name, (given, _) in forms.items()}})
    assert all(torch.equal(found[name], wanted) for name, (_, wanted) in forms.items())
    assert "quantised weights are read as the floats that they stand for" in said
    arrays, _ = saved(tmp_path / "b.pth", {name.encode(): value.numpy() for name, value in state.items()})
    assert arrays.keys() == state.keys()
    with pytest.raises(CnnkitError, match="complex numbers"):
        saved(tmp_path / "c.pth", {"fc.weight": torch.ones(2, dtype=torch.complex64)})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "net.pth",
            (64).to_bytes(8, "little") + b'{"a": 1}',
            r"is a safetensors file .*name it \.safetensors",
        ),
        ("net.safetensors", b"PK\x03\x04" + bytes(40), r"is a zip archive, .* name it \.pth"),
        ("net.pth", b"\x08\x08\x12\x07pytorch:" + bytes(40), r"is an ONNX file: name it \.onnx"),
        ("net.bin", b"\x89HDF\r\n\x1a\n" + bytes(40), "is an HDF5 file, as Keras saves"),
        ("net.safetensors", (64).to_bytes(8, "little") + b'{"a": ', "is no file of weights, or damaged"),
    ],
)
def test_weights_of_another_format_are_called_by_it(
    name: str, content: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptError, match=told):
        read_weights(tmp_path / name)


def test_numpys_archive_is_told_how_to_become_weights(tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz", weight=np.ones(3))
    with pytest.raises(CnnkitError, match=r"holds numpy arrays \(\.npz\)"):
        read_weights(tmp_path / "net.npz")
