"""Two networks held against each other: graphs of a few nodes, weights and names, without running them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper

from cnnkit import front_door
from tests.toolkit.profiling.comparing.conftest import NODES, WEIGHTS, Build, replaced
from tests.toolkit.profiling.test_result import JSON
from toolkit.errors import CnnkitError, CorruptError, GateError, NotFoundError
from toolkit.profiling.comparing.networks import compare_networks


def run(*words: object) -> Result:
    return CliRunner().invoke(front_door.main, ["compare", *map(str, words)])


def told(before: Path | str, after: Path | str) -> list[tuple[str, str, str | None, str | None]]:
    found = compare_networks(before, after)
    return [(entry.change, entry.module, entry.before, entry.after) for entry in found.changes]


def test_a_network_is_equal_to_itself(build: Build) -> None:
    found = compare_networks(build(), build("again.onnx"))
    assert (found.equal, found.changes, found.same) == (True, (), 6)
    assert found.summary() == "no difference; 6 modules alike"
    assert found.require() is found


def test_a_weight_that_differs_is_named_with_the_largest_difference(build: Build) -> None:
    moved = WEIGHTS["body.weight"].copy()
    moved[0, 0, 0, 0] += 0.25
    found = compare_networks(build(), build("b.onnx", weights={"body.weight": moved}))
    (entry,) = found.changes
    assert (entry.change, entry.module, entry.difference) == ("weights", "body", 0.25)
    assert entry.before == entry.after == "weight: float32 8×8×3×3"
    assert found.summary() == "1 tensor of weights differs (by 0.25 at most); 5 modules alike"
    with pytest.raises(GateError, match="the networks differ: 1 tensor of weights differs"):
        found.require()


def test_weights_of_another_type_are_told_with_what_that_costs(build: Build) -> None:
    halved = {"body.weight": np.full((8, 8, 3, 3), 1 / 3, np.float32)}
    found = compare_networks(
        build(weights=halved),
        build("b.onnx", weights={"body.weight": halved["body.weight"].astype(np.float16)}),
    )
    (entry,) = found.changes
    assert (entry.before, entry.after) == ("weight: float32 8×8×3×3", "weight: float16 8×8×3×3")
    assert entry.difference == pytest.approx(1 / 3 - float(np.float16(1 / 3)), abs=1e-6)


def test_what_is_no_number_is_held_against_its_like(build: Build) -> None:
    nan, inf = np.ones((8, 8, 3, 3), np.float32), np.ones((8, 8, 3, 3), np.float32)
    nan[0, 0, 0, 0], inf[0, 0, 0, 0] = np.nan, -np.inf
    moved = inf.copy()
    moved[1, 1, 1, 1] += 0.5

    def apart(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float | None:
        before, after = (
            build(name, weights={"body.weight": value})
            for name, value in (("a.onnx", one), ("b.onnx", other))
        )
        found = compare_networks(before, after)
        return found.changes[0].difference if found.changes else 0.0

    bfloat16 = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
    assert apart(nan, nan) == apart(nan.astype(bfloat16), nan.astype(bfloat16)) == 0.0
    assert apart(inf, moved) == 0.5
    assert apart(nan, inf) is apart(nan, np.ones_like(nan)) is apart(inf, np.ones_like(nan)) is None
    told = json.loads(run(build("a.onnx", weights={"body.weight": nan}), build(), "--json").stdout)
    assert [entry["difference"] for entry in told["changes"]] == [None]


def test_modules_that_one_has_alone_are_added_or_removed(build: Build) -> None:
    more = [
        *NODES[:3], helper.make_node("Sigmoid", ["c"], ["c2"], name="gate"),
        helper.make_node("GlobalAveragePool", ["c2"], ["d"], name="pool"), *NODES[4:],
    ]  # fmt: skip
    assert told(build(), build("b.onnx", more)) == [("added", "gate", None, "Sigmoid 1×8×16×16")]
    assert told(build("b.onnx", more), build()) == [("removed", "gate", "Sigmoid 1×8×16×16", None)]


def test_types_shapes_and_settings_that_differ_are_told(build: Build) -> None:
    strided = helper.make_node("Conv", ["b", "body.weight"], ["c"], name="body", pads=[1] * 4, strides=[2, 2])
    assert told(build(), build("b.onnx", replaced(2, strided))) == [
        ("shape", "body", "1×8×16×16", "1×8×8×8"),
        ("settings", "body", "", "strides [2, 2]"),
    ]
    tanh = helper.make_node("Tanh", ["a"], ["b"], name="act")
    assert told(build(), build("b.onnx", replaced(1, tanh))) == [("type", "act", "Relu", "Tanh")]


def test_a_default_that_is_written_out_is_no_difference(build: Build) -> None:
    plain = helper.make_node("Gemm", ["e", "fc.weight"], ["y"], name="fc", transB=1, alpha=1.0)
    assert told(build(), build("b.onnx", replaced(5, plain))) == []


def test_a_kernel_that_took_others_in_is_fused_otherwise(build: Build) -> None:
    fused = helper.make_node(
        "FusedConv", ["x", "stem.weight", "stem.bias"], ["b"], name="made up", domain="com.microsoft",
        activation="Relu", pads=[1] * 4,
    )  # fmt: skip
    other = build("b.onnx", [fused, *NODES[2:]])
    assert told(build(), other) == [("fused otherwise", "stem + act", "stem | act", "one node")]
    assert told(other, build()) == [("fused otherwise", "stem + act", "one node", "stem | act")]


def test_a_batch_norm_that_was_folded_into_weights_is_fused_otherwise(build: Build) -> None:
    names = ("scale", "shift", "mean", "var")
    held = {name: np.ones(8, np.float32) for name in names}
    norm = helper.make_node("BatchNormalization", ["a0", *names], ["a"], name="norm")
    stem = helper.make_node("Conv", ["x", "stem.weight", "stem.bias"], ["a0"], name="stem", pads=[1] * 4)
    apart = build("b.onnx", [stem, norm, *NODES[1:]], weights=held)
    assert told(apart, build()) == [("fused otherwise", "stem + norm", "stem | norm", "one node")]


def test_nodes_of_other_names_are_paired_by_kind_shape_and_order(build: Build) -> None:
    nodes = []
    for place, node in enumerate(NODES):
        other = onnx.NodeProto()
        other.CopyFrom(node)
        other.name = f"n{place}"
        other.output[0] = node.output[0] if node.output[0] == "y" else f"{node.output[0]}_"
        if place:
            other.input[0] = f"{node.input[0]}_"
        nodes.append(other)
    found = compare_networks(build(), build("b.onnx", nodes))
    assert found.equal
    assert {(entry.before, entry.after) for entry in found.changes} >= {("stem", "n0"), ("body", "n2")}
    assert found.same == 6


def test_inputs_and_outputs_are_compared(build: Build) -> None:
    found = told(build(), build("b.onnx", side=32))
    assert ("ends", "input x", "float32 N×3×16×16", "float32 N×3×32×32") in found


def test_networks_of_the_zoo_are_compared_by_name(tmp_path: Path) -> None:
    found = compare_networks("lenet", "lenet-relu", root=tmp_path)
    assert [(e.change, e.module, e.before, e.after) for e in found.changes] == [
        ("type", f"act{i}", "Sigmoid", "ReLU") for i in (1, 2, 3, 4)
    ]
    assert found.notes == tuple(
        f"{name}: no trained weights are here, so shapes are compared and values are not"
        for name in ("lenet", "lenet-relu")
    )
    with pytest.raises(NotFoundError, match=r"no model 'lenett'; known: .*Did you mean 'lenet'"):
        compare_networks("lenet", "lenett", root=tmp_path)


def test_a_checkpoint_is_compared_with_its_export_and_with_other_weights(tmp_path: Path) -> None:
    from toolkit import zoo
    from toolkit.checkpoints import write_untrained

    spec = zoo.model("lenet-relu")
    paths = [write_untrained(spec, tmp_path / str(seed), seed=seed).path for seed in (0, 1)]
    found = compare_networks(*paths, root=tmp_path)
    assert {entry.change for entry in found.changes} == {"weights"}
    assert len(found.changes) == 10
    assert all(entry.difference for entry in found.changes)
    assert compare_networks(paths[0], paths[0]).equal
    shipped = compare_networks("lenet-maxpool", "lenet-maxpool", root=tmp_path)
    assert (shipped.equal, shipped.notes) == (True, ())


def test_plain_files_of_weights_are_compared_by_their_names(tmp_path: Path) -> None:
    import torch

    state = {
        "a.weight": torch.zeros(2, 3),
        "a.bias": torch.zeros(2),
        "n.num_batches_tracked": torch.tensor(4),
    }
    first, second = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save(state, first)
    torch.save({**state, "b.weight": torch.ones(1, dtype=torch.bfloat16), "a.bias": torch.ones(2)}, second)
    assert told(first, second) == [
        ("added", "b", None, "weights –"), ("weights", "a", "bias: float32 2", "bias: float32 2"),
    ]  # fmt: skip


def test_files_are_told_by_what_they_hold(build: Build, tmp_path: Path) -> None:
    profile, graph = tmp_path / "p.onnx", build("g.model")
    profile.write_text(json.dumps(JSON))
    assert run(profile, profile).exit_code == 0
    assert run(graph, graph).stdout == "no difference; 6 modules alike\n"
    mixed = run(profile, graph)
    assert mixed.exit_code == 1
    assert "p.onnx is a profile and" in mixed.stderr
    assert "two of a kind are compared" in mixed.stderr
    with pytest.raises(CnnkitError, match=r"p\.onnx is no network but a profile"):
        compare_networks(profile, graph)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x08\x07nonsense", "no readable ONNX"),
        (b"<!doctype html><p>", "an HTML page and not the file"),
        (b"module,type,output\nconv,Conv,1", "is text: neither a profile"),
    ],
)
def test_a_file_that_is_neither_is_one_line(build: Build, tmp_path: Path, content: bytes, said: str) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(content)
    with pytest.raises(CorruptError, match=said):
        compare_networks(build(), bad)


def test_a_missing_file_and_a_folder_are_one_line(tmp_path: Path) -> None:
    missing = run(tmp_path / "no.onnx", tmp_path / "no.onnx")
    assert (missing.exit_code, "no file" in missing.stderr) == (1, True)
    folder = run(tmp_path, tmp_path)
    assert (folder.exit_code, "is a folder" in folder.stderr) == (1, True)


def test_a_folder_that_is_called_as_a_network_is_not_in_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lenet").mkdir()
    found = run("lenet", "lenet-relu", "--artifacts", tmp_path / "none")
    assert (found.exit_code, "4 types differ" in found.stdout) == (0, True), found.stderr


def test_the_exit_status_is_0_and_with_strict_4_where_they_differ(build: Build, tmp_path: Path) -> None:
    first, second = build(), build("b.onnx", weights={"body.weight": np.zeros((8, 8, 3, 3), np.float32)})
    assert run(first, second).exit_code == 0
    strict = run(first, second, "--strict")
    assert strict.exit_code == 4
    assert "error: --strict: the networks differ: 1 tensor of weights differs (by 1 at most)" in strict.stderr
    assert run(first, first, "--strict").exit_code == 0
    assert run(first, first, "--fail-over", "5%").exit_code == 2
    noisy = run(first, first, "--allow-noise")
    assert (noisy.exit_code, "--allow-noise is of profiles" in noisy.stderr) == (2, True)
    profile = tmp_path / "p.json"
    profile.write_text(json.dumps(JSON))
    assert run(profile, profile, "--strict").exit_code == 2


def test_it_is_told_as_json_as_markdown_and_as_a_page(build: Build, tmp_path: Path) -> None:
    first, second = build(), build("b.onnx", weights={"body.weight": np.zeros((8, 8, 3, 3), np.float32)})
    found = json.loads(run(first, second, "--json").stdout)
    assert (found["equal"], found["same"]) == (False, 5)
    assert found["changes"] == [
        {
            "change": "weights", "module": "body", "before": "weight: float32 8×8×3×3",
            "after": "weight: float32 8×8×3×3", "difference": 1.0,
        }
    ]  # fmt: skip
    assert "| weights | body | weight: float32 8×8×3×3 |" in run(first, second, "--markdown").stdout
    page = tmp_path / "d.html"
    assert run(first, second, "--html", page).exit_code == 0
    assert "<th scope='row'>body</th>" in page.read_text()
