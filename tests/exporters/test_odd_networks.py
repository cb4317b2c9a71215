"""Odd networks from elsewhere, exported as people do: each is made, or refused in one line, never wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from exporters.proving.further import carried
from tests import odd_graphs as odd
from tests.exporters.conftest import cnnkit_json, cnnkit_run
from toolkit.artifacts import open_artifact
from toolkit.backends import BACKENDS
from toolkit.errors import GateError
from toolkit.exporting.further import Further

FEW = ("--images", "64", "--calibration-images", "16")
ALL = ("--precision", "fp32,fp16,int8")


def exported(model: Any, folder: Path, *more: object, status: int = 0) -> Path:
    """Export a model to ONNX files under a folder; return the folder of what was made."""
    path = odd.save(model, folder / "net.onnx")
    result = cnnkit_run("export", path, "--format", "onnx", *FEW, *more, "--artifacts", folder / "out")
    assert result.exit_code == status, result.stderr
    (folder / "said.txt").write_text(" ".join(result.stderr.split()))
    return folder / "out" / "net"


def said(folder: Path) -> str:
    return (folder / "said.txt").read_text()


def ran(path: Path) -> list[Any]:
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: odd.seeded()}))


def behind(*nodes: Any, outputs: list[str]) -> Any:
    kinds = [odd.end(name, None) for name in outputs]
    zero, one = odd.stored("zero", 0.0), odd.stored("one", 1.0)
    return odd.network(
        [*odd.layers(out="raw"), *nodes], outputs=kinds, constants=[*odd.plain_weights(), zero, one]
    )


@pytest.mark.parametrize(
    "model",
    [
        behind(odd.node("Relu", ["raw"], "y"), outputs=["y"]),
        behind(odd.node("Clip", ["raw", "zero", "one"], "y"), outputs=["y"]),
        behind(outputs=["raw", "act"]),
    ],
    ids=["relu", "clip", "features"],
)
def test_int8_keeps_what_makes_an_output(tmp_path: Path, model: Any) -> None:
    made = exported(model, tmp_path, "--int8")
    whole, small = ran(made / "net.onnx"), ran(made / "net.int8.onnx")
    assert len(whole) == len(small)
    for right, found in zip(whole, small, strict=True):
        assert float(np.abs(found - right).max()) < 0.1 * float(np.abs(right).max())
    parity = open_artifact(made / "net.int8.onnx").passport.parity
    assert parity is not None
    assert len(parity.further) == len(whole) - 1
    assert cnnkit_json("verify", made / "net.int8.onnx")["ok"] is True


def test_openvino_compares_every_output_and_carries_it_in_its_proof(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
    path = odd.save(behind(outputs=["raw", "act"]), tmp_path / "net.onnx")
    asked = ("export", path, "--format", "openvino", *FEW, "--artifacts", tmp_path / "out")
    (row,) = [one for one in cnnkit_json(*asked)["artifacts"] if one["format"] == "openvino"]
    artifact = open_artifact(Path(row["path"]))
    assert artifact.passport.parity is not None
    assert [one.name for one in artifact.passport.parity.further] == ["act"]
    assert cnnkit_json("verify", artifact.path)["ok"]


def test_a_further_output_that_is_wrong_fails_its_proof(tmp_path: Path) -> None:
    made = exported(behind(outputs=["raw", "act"]), tmp_path)
    path = made / "net.onnx"
    graph = onnx.load(path)
    for one in graph.graph.node:  # the features double, the scores stay
        one.input[:] = ["kept" if name == "act" else name for name in one.input]
        one.output[:] = ["kept" if name == "act" else name for name in one.output]
    graph.graph.node.insert(2, odd.node("Add", ["kept", "kept"], "act"))
    path.write_bytes(graph.SerializeToString())
    passport = json.loads(Path(f"{path}.json").read_text())
    import hashlib

    passport["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    Path(f"{path}.json").write_text(json.dumps(passport))
    assert cnnkit_json("verify", path, status=4)["agree"] < 64


@pytest.mark.parametrize(("precision", "form"), [("fp16", "onnx"), ("bf16", "trt")])
def test_a_further_output_that_a_gpu_would_round_away_is_refused(
    tmp_path: Path, precision: str, form: str
) -> None:
    if form == "trt":
        pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra export)")
    model = behind(
        odd.node("Add", ["act", "much"], "sum"), odd.node("Sub", ["sum", "much"], "z"), outputs=["raw", "z"]
    )
    model.graph.initializer.append(odd.stored("much", 3000.0))
    exported(model, tmp_path, "--precision", precision, "--format", form, status=4)
    assert "the output 'z' of net" in said(tmp_path)


def test_a_proof_that_would_allow_for_anything_is_none() -> None:
    right, other = (Further(names=("z",), values=(np.full((2, 3), value),)) for value in (1.0, 0.4))
    with pytest.raises(GateError, match=r"'z' of net differs by 0\.6 of its size on a picture of its proof"):
        carried((right, other), "int8", "net")
    near = Further(names=("z",), values=(np.full((2, 3), 0.7),))
    assert carried((right, near), "int8", "net")["further.allowed"] == [0.5]


def test_answers_that_depend_on_their_batch_are_exported_one_by_one_or_not_at_all(tmp_path: Path) -> None:
    model = behind(odd.node("Softmax", ["raw"], "y", axis=0), outputs=["y"])
    exported(model, tmp_path, status=1)
    assert "with what else is in its batch, by its node 'y/Softmax'" in said(tmp_path)
    assert "add `--batch 1`" in said(tmp_path)
    made = exported(model, tmp_path, "--batch", 1, "--format", "triton")
    assert open_artifact(made / "net.onnx").passport.input.shape == (1, 3, 8, 8)
    config = next(made.rglob("config.pbtxt")).read_text()
    assert "max_batch_size: 0" in config
    assert "dynamic_batching" not in config


def test_answers_that_change_from_call_to_call_are_refused(tmp_path: Path) -> None:
    noise = odd.node("RandomNormalLike", ["raw"], "noise")
    exported(behind(noise, odd.node("Add", ["raw", "noise"], "y"), outputs=["y"]), tmp_path, status=1)
    assert "answers the same input differently from call to call, by its node" in said(tmp_path)


def test_an_operator_without_fp16_stays_in_fp32_and_is_named(tmp_path: Path) -> None:
    nodes = odd.layers()
    nodes[1] = odd.node("Celu", ["conv"], "act")
    made = exported(odd.network(nodes), tmp_path, "--precision", "fp16")
    assert "kept in fp32, as their operators have no fp16: act/Celu" in said(tmp_path)
    assert open_artifact(made / "net.fp16.onnx").passport.kept_fp32 == ("act/Celu",)


def single(last: str | None) -> Any:
    """Return a network of one score."""
    table = [odd.stored("table", odd.weights()["table"][:, :1]), odd.stored("offset", [0.05])]
    nodes = odd.layers(out="raw" if last else "y")
    more = [odd.node(last, ["raw"], "y")] if last else []
    return odd.network(
        [*nodes, *more], outputs=[odd.end("y", None)], constants=[*odd.plain_weights()[:2], *table]
    )


@pytest.mark.parametrize("last", ["Sigmoid", None])
def test_a_single_score_is_judged_by_its_threshold(tmp_path: Path, last: str | None) -> None:
    made = exported(single(last), tmp_path, *ALL)
    for name in ("net.onnx", "net.fp16.onnx", "net.int8.onnx"):
        passport = open_artifact(made / name).passport
        assert passport.softmax is (last is not None)
        assert passport.parity is not None
        assert passport.parity.max_softmax_shift > 0 or name == "net.onnx"
        assert cnnkit_json("verify", made / name)["ok"] is True
    exported(single(last), tmp_path, "--softmax", "--fresh", status=1)
    assert "would be 1 for every input, as it has one score" in said(tmp_path)


@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic", "half"])
def test_a_file_that_came_halved_or_quantised_keeps_its_precision(tmp_path: Path, form: str) -> None:
    plain = odd.save(odd.network(), tmp_path / "plain.onnx")
    path = tmp_path / "net.onnx"
    if form == "half":
        odd.save(odd.halved(odd.network()), path)
    else:
        odd.quantised(plain, path, form=form)
    own = "fp16" if form == "half" else "int8"
    payload = cnnkit_json("export", path, "--format", "onnx", *FEW, "--artifacts", tmp_path / "out")
    (made,) = payload["artifacts"]
    assert (made["precision"], Path(made["path"]).name) == (own, f"net.{own}.onnx")
    assert open_artifact(Path(made["path"])).passport.quantised_by == "source"
    refused = cnnkit_run("export", path, "--int8", "--format", "onnx", "--artifacts", tmp_path / "out")
    assert refused.exit_code == 1
    assert "already by its source" in refused.stderr
    opened = cnnkit_run("profile", "net", "--backend", "ort", "--artifacts", tmp_path / "out", "--json")
    assert opened.exit_code == 0, opened.stderr


def test_agreement_on_noise_is_never_called_agreement_on_images(tmp_path: Path) -> None:
    made = exported(odd.network(), tmp_path, "--int8")
    passport = open_artifact(made / "net.int8.onnx").passport
    assert passport.calibration is not None
    assert passport.calibration.warning == (
        "calibrated on noise: expect worse, `--dataset` calibrates on pictures"
    )
    assert passport.calibration.warning in said(tmp_path)
    assert passport.parity is not None
    assert passport.parity.random_inputs is True
    result = cnnkit_run(
        *("export", tmp_path / "net.onnx", "--format", "onnx", *FEW, "--artifacts", tmp_path / "out")
    )
    assert "on 64 random inputs: 100.0% agree" in " ".join(result.stdout.split())
    assert "images" not in result.stdout


def test_operators_that_int8_has_no_form_for_are_named_and_stay_in_float(tmp_path: Path) -> None:
    nodes = odd.layers()
    nodes[1:2] = [
        odd.node("Gelu", ["conv"], "gelu", domain="com.microsoft"),
        odd.node("ConvTranspose", ["gelu", "up"], "act", group=3, strides=[2, 2]),
    ]
    up = odd.stored("up", np.random.default_rng(1).standard_normal((6, 2, 2, 2)) * 0.3)
    made = exported(
        odd.network(nodes, constants=[*odd.plain_weights(), up], domains=("com.microsoft",)), tmp_path, *ALL
    )
    for named in ("gelu/Gelu (Gelu of com.microsoft)", "act/ConvTranspose (ConvTranspose of 3 groups)"):
        assert named in said(tmp_path)
    whole, small = ran(made / "net.onnx")[0], ran(made / "net.int8.onnx")[0]
    assert float(np.abs(small - whole).max()) < 0.1 * float(np.abs(whole).max())


def test_what_is_made_of_an_unjudged_int8_graph_says_so_and_may_have_layers_in_float(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra export)")
    nodes = odd.layers()
    nodes[1:2] = [odd.node("ConvTranspose", ["conv", "up"], "act", group=3, strides=[2, 2])]
    up = odd.stored("up", np.random.default_rng(1).standard_normal((6, 2, 2, 2)) * 0.3)
    model = odd.network(nodes, constants=[*odd.plain_weights(), up])
    made = exported(model, tmp_path, "--int8", "--format", "trt,triton")
    for name in ("net.int8.engine", "net.int8.triton"):
        known = open_artifact(made / name).passport
        assert known.kept_float == ("act/ConvTranspose",)
        assert known.accuracy_drop_why == "its passport names no data set"
        assert known.calibration is not None
        assert known.calibration.warning is not None


def test_a_drop_that_is_asked_for_in_bf16_and_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
    if why := BACKENDS.load("openvino").lacks("bf16"):
        pytest.skip(why)
    model = behind(outputs=["raw"])
    asked = ("--precision", "bf16", "--format", "openvino")
    exported(model, tmp_path, *asked, "--max-accuracy-drop", "0.1", status=1)
    assert "cannot be judged: its passport names no data set; without the option bf16 is" in said(tmp_path)
    made = exported(model, tmp_path, *asked)
    assert "bf16 is NOT judged, no accuracy gate was applied" in said(tmp_path)
    known = open_artifact(made / "net.bf16.openvino").passport
    assert known.accuracy_drop_why == "its passport names no data set"


def test_inputs_of_any_type_and_layout_are_proven(tmp_path: Path) -> None:
    nodes = [
        odd.node("Cast", ["pictures"], "floats", to=TensorProto.FLOAT),
        odd.node("Transpose", ["floats"], "turned", perm=[0, 3, 1, 2]),
        odd.node("Div", ["turned", "most"], "ready"),
        *odd.layers("ready"),
    ]
    given = [odd.end("pictures", ["n", 8, 8, 3], TensorProto.UINT8)]
    constants = [*odd.plain_weights(), odd.stored("most", 255.0)]
    made = exported(odd.network(nodes, inputs=given, constants=constants), tmp_path, *ALL)
    taken = open_artifact(made / "net.int8.onnx").passport.input
    assert (taken.dtype, taken.layout, taken.shape) == ("uint8", "NHWC", (None, 8, 8, 3))


def test_a_file_from_elsewhere_is_shown_and_predict_says_what_to_type(tmp_path: Path) -> None:
    path = odd.save(odd.network(), tmp_path / "net.onnx")
    shown = cnnkit_json("show", path)
    assert [row["type"] for row in shown["rows"]] == [n.op_type for n in odd.layers()]
    assert shown["parameters"] == sum(values.size for values in odd.weights().values())
    refused = cnnkit_run("predict", path, "--dataset", "fashion-mnist-sample")
    assert refused.exit_code == 1
    assert f"`cnnkit import {path}` makes one" in " ".join(refused.stderr.split())


def test_a_row_that_loses_its_batch_is_exported_for_one_picture(tmp_path: Path) -> None:
    zero = odd.stored("zero", [0], np.int64)
    model = odd.network(
        [*odd.layers(out="raw"), odd.node("Squeeze", ["raw", "zero"], "scores")],
        outputs=[odd.end("scores", None)],
        constants=[*odd.plain_weights(), zero],
    )
    made = exported(model, tmp_path)
    assert open_artifact(made / "net.onnx").passport.output.shape == (1, 4)
    assert cnnkit_json("verify", made / "net.onnx")["ok"] is True


def test_a_symmetric_int8_file_from_elsewhere_opens_by_its_name(tmp_path: Path) -> None:
    pair = [
        odd.node("QuantizeLinear", ["pictures", "step", "zero"], "codes"),
        odd.node("DequantizeLinear", ["codes", "step", "zero"], "x"),
    ]
    constants = [*odd.plain_weights(), odd.stored("step", 0.02), odd.stored("zero", 0, np.int8)]
    path = odd.save(odd.network([*pair, *odd.layers("x")], constants=constants), tmp_path / "net.onnx")
    root = ("--artifacts", tmp_path / "out")
    made = Path(cnnkit_json("import", path, *root)["artifact"])
    assert cnnkit_run("verify", made).stderr.strip().endswith("makes net.int8.onnx of it, with a proof")
    (exported_,) = cnnkit_json("export", "net", "--format", "onnx", *FEW, *root)["artifacts"]
    assert Path(exported_["path"]).name == "net.int8.onnx"
    refused = cnnkit_run("eval", "net", "--precision", "fp16", "--dataset", "fashion-mnist-sample", *root)
    assert refused.exit_code == 1
    assert "net came as int8" in refused.stderr
