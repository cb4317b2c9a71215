"""`cnnkit export` as its users type it: what it makes, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests.exporters.conftest import cnnkit_json, cnnkit_run
from toolkit.artifacts import open_artifact

KEYS = {"path", "format", "precision", "size_bytes", "seconds", "cached", "parity", "parity_why", "target"}


def test_fp16_makes_two_graphs_and_an_engine_with_passports_and_proofs(root: Path) -> None:
    payload = cnnkit_json("export", "lenet-maxpool", "--fp16", "--artifacts", root)
    made = [(entry["format"], entry["precision"]) for entry in payload["artifacts"]]
    assert made == [("onnx", "fp32"), ("onnx", "fp16"), ("trt", "fp16")]
    assert payload["skipped"] == []
    for entry in payload["artifacts"]:
        assert set(entry) >= KEYS
        assert Path(entry["path"]).is_absolute()
        assert entry["size_bytes"] == Path(entry["path"]).stat().st_size
        opened = open_artifact(Path(entry["path"]))
        assert opened.passport.trained is True
        assert Path(entry["path"] + ".proof.safetensors").exists()


def test_parity_in_the_json_is_that_of_the_issue(root: Path) -> None:
    payload = cnnkit_json("export", "lenet-maxpool", "--fp16", "--artifacts", root, "--images", "all")
    fp32, fp16, engine = (entry["parity"] for entry in payload["artifacts"])
    assert fp32["images"] == 500
    assert fp32["max_abs_diff"] <= 1e-4 * max(1.0, fp32["largest_logit"])
    assert fp32["top1_agreement"] == 1.0
    assert fp32["accuracy"] > 0.7
    assert fp16["top1_agreement"] >= 0.999
    assert engine is None
    assert "GPU" in payload["artifacts"][2]["parity_why"]
    assert payload["artifacts"][2]["source_parity"] == fp16


def test_an_engine_says_what_it_was_built_for(root: Path) -> None:
    payload = cnnkit_json("export", "lenet-maxpool", "--format", "trt", "--artifacts", root, "--images", "64")
    target = payload["artifacts"][-1]["target"]
    assert target["flavour"] == "rtx"
    # Turing has no fp32 matrix products in TensorRT-RTX's compiler
    assert target["compute_capabilities"] == ["SM80", "SM86", "SM89", "SM120", "SM121"]
    assert target["install"] == f"pip install tensorrt-rtx-cu13=={target['version']}"
    assert target["shape_profile"] == {"min": [1, 1, 28, 28], "opt": [32, 1, 28, 28], "max": [256, 1, 28, 28]}


def test_untrained_weights_are_exported_on_request_and_never_get_an_accuracy(tmp_path: Path) -> None:
    payload = cnnkit_json(
        "export", "lenet", "--untrained", "--fp16", "--artifacts", tmp_path, "--images", "32"
    )
    for entry in payload["artifacts"][:2]:
        assert entry["parity"]["accuracy"] is None
        assert "random" in entry["parity"]["source"]
    passport = open_artifact(Path(payload["artifacts"][2]["path"])).passport
    assert passport.trained is False
    assert passport.metrics.test_accuracy is None


def test_without_a_trained_network_the_error_says_what_to_type(tmp_path: Path) -> None:
    result = cnnkit_run("export", "lenet", "--fp16", "--artifacts", tmp_path)
    assert result.exit_code == 1
    assert "no trained lenet here: `cnnkit train lenet`" in result.stderr
    assert "--untrained" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--format", "onxx"], 1, "Did you mean 'onnx'?"),
        (["--precision", "fp12"], 2, "no precision 'fp12'"),
        (["--batch", "32,1"], 2, "smallest first"),
        (["--images", "few"], 2, "a number of images, or all"),
        (
            ["--format", "onnx", "--target", "sm89"],
            1,
            "--target is for trt files, and --format onnx makes",
        ),
        (["--cores", "2"], 1, "--cores is for "),
        (["--size", "64x64"], 1, "and lenet-maxpool.safetensors takes 28x28: leave it away"),
        (["--output", "act"], 1, "the scores of lenet-maxpool.safetensors are its 'logits': leave it away"),
        (["--format", "trt", "--target", "sm90"], 3, "cannot build for SM90 (classic TensorRT on that GPU"),
        (["--format", "trt", "--target", "sm75"], 3, "no fp32 matrix products"),
        (["--format", "onnx", "--precision", "bf16"], 3, "onnx files have no bf16"),
        (["--format", "triton", "--flavour", "rtx"], 3, "classic TensorRT only"),
        (["--format", "trt", "--flavour", "classic"], 3, "TensorRT is not installed"),
    ],
)
def test_what_cannot_be_had_is_refused_in_words(
    root: Path, arguments: list[str], status: int, words: str
) -> None:
    if "classic" in arguments and __import__("importlib.util").util.find_spec("tensorrt"):
        pytest.skip("classic TensorRT is installed here")
    result = cnnkit_run("export", "lenet-maxpool", "--artifacts", root, "--images", "64", *arguments)
    assert result.exit_code == status
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_the_defaults_list_what_this_machine_lacks_and_still_succeed(root: Path) -> None:
    script = (
        "import importlib.util as u, sys; real = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n in ('tensorrt', 'tensorrt_rtx') else real(n, *a)\n"
        "from cnnkit import front_door; front_door.main()"
    )
    command = [sys.executable, "-c", script, "export", "lenet-maxpool", "--artifacts", str(root), "--images"]
    done = subprocess.run([*command, "64", "--json"], capture_output=True, text=True, check=False)
    payload = json.loads(done.stdout)
    assert done.returncode == 0
    assert [entry["format"] for entry in payload["artifacts"]] == ["onnx"]
    assert payload["skipped"][0]["format"] == "trt"
    assert "pip install 'cnnkit[export]'" in payload["skipped"][0]["reason"]
    named = subprocess.run([*command, "64", "--format", "trt"], capture_output=True, text=True, check=False)
    assert named.returncode == 3
    again = subprocess.run([*command, "64"], capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert "skipped trt fp32: " in again.stderr


def test_an_identical_export_answers_from_its_result_without_torch(root: Path) -> None:
    arguments = ["export", "lenet-maxpool", "--fp16", "--artifacts", str(root), "--images", "9", "--json"]
    first = json.loads(cnnkit_run(*arguments).stdout)
    probe = (
        "import sys\n"
        "from cnnkit import front_door\n"
        "try: front_door.main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'onnx', 'onnxruntime') if m in sys.modules], file=sys.stderr)"
    )
    again = subprocess.run(
        [sys.executable, "-c", probe, *arguments], capture_output=True, text=True, check=True
    )
    second = json.loads(again.stdout)
    assert again.stderr.splitlines()[-1] == "[]"
    assert [entry["cached"] for entry in first["artifacts"]] == [False, False, False]
    assert [entry["cached"] for entry in second["artifacts"]] == [True, True, True]
    assert [e["parity"] for e in first["artifacts"]] == [e["parity"] for e in second["artifacts"]]


def test_a_changed_weight_option_or_file_is_exported_anew(root: Path) -> None:
    def cached(*more: str) -> list[bool]:
        payload = cnnkit_json("export", "lenet-maxpool", "--format", "onnx", "--artifacts", root, *more)
        return [entry["cached"] for entry in payload["artifacts"]]

    assert cached("--images", "64") == [True]
    assert cached("--images", "9") == [False]
    assert cached("--images", "9", "--opset", "19") == [False]
    (root / "lenet-maxpool" / "lenet-maxpool.onnx").write_bytes(b"not what it was")
    assert cached("--images", "9", "--opset", "19") == [False]
    _change_a_weight(root / "lenet-maxpool" / "lenet-maxpool.safetensors")
    assert cached("--images", "9", "--opset", "19") == [False]


def _change_a_weight(path: Path) -> None:
    from toolkit.artifacts import open_artifact
    from toolkit.checkpoints import load_state, save_checkpoint

    artifact = open_artifact(path)
    state = load_state(artifact)
    next(iter(state.values())).view(-1)[0] += 0.25
    save_checkpoint(path, state, artifact.passport)


def test_raw_pixels_go_in_and_probabilities_come_out_on_request(root: Path) -> None:
    payload = cnnkit_json(
        *("export", "lenet-maxpool", "--input", "uint8", "--softmax", "--format", "onnx"),
        *("--precision", "fp32,fp16,int8", "--max-accuracy-drop", "5", "--artifacts", root),
    )
    assert [entry["precision"] for entry in payload["artifacts"]] == ["fp32", "fp16", "int8"]
    for entry in payload["artifacts"]:
        path = Path(entry["path"])
        assert path.parent.name == "lenet-maxpool-uint8"
        passport = open_artifact(path).passport
        assert passport.input.dtype == "uint8"
        graph = onnx.load(path).graph
        assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
        assert graph.output[0].name == "probabilities"
        assert entry["parity"]["top1_agreement"] > 0.95
        assert entry["parity"]["largest_logit"] <= 1.0


def test_names_with_spaces_and_other_alphabets_work_throughout(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "мои сети"
    payload = cnnkit_json(
        "export",
        root / "lenet-maxpool" / "lenet-maxpool.safetensors",
        *(
            "--name",
            "größe 网络",
            "--fp16",
            "--format",
            "onnx,trt,triton",
            "--images",
            "8",
            "--artifacts",
            place,
        ),
    )
    assert len(payload["artifacts"]) == 4
    onnx_file = next(e["path"] for e in payload["artifacts"] if e["precision"] == "fp16")
    assert cnnkit_json("verify", onnx_file)["ok"] is True


def test_a_graph_that_lost_precision_is_no_source(root: Path) -> None:
    made = cnnkit_json(
        "export", "lenet-maxpool", "--fp16", "--format", "onnx", "--images", "64", "--artifacts", root
    )
    result = cnnkit_run("export", made["artifacts"][1]["path"], "--int8", "--artifacts", root)
    assert result.exit_code == 1
    assert "lenet-maxpool.fp16.onnx is fp16 already" in result.stderr


def test_a_graph_in_its_own_place_keeps_its_opset(root: Path) -> None:
    path = root / "lenet-maxpool" / "lenet-maxpool.onnx"
    refused = cnnkit_run("export", path, "--opset", 18, "--format", "onnx", "--artifacts", root)
    assert refused.exit_code == 1
    assert "stays as it is: leave --opset away" in " ".join(refused.stderr.split())


def test_a_graph_in_its_own_place_is_its_own_fp32_export(root: Path) -> None:
    path = root / "lenet-maxpool" / "lenet-maxpool.onnx"
    payload = cnnkit_json("export", path, "--format", "onnx", "--artifacts", root)
    assert [(e["path"], e["cached"]) for e in payload["artifacts"]] == [(str(path), True)]


def test_json_is_all_that_stands_on_stdout(root: Path) -> None:
    result = cnnkit_run("export", "lenet-maxpool", "--artifacts", root, "--images", "64", "--json")
    assert json.loads(result.stdout)
    assert len(result.stdout.strip().splitlines()) == 1
    assert "opened " in result.stderr


def test_export_leaves_no_temporary_file(root: Path) -> None:
    cnnkit_json("export", "lenet-maxpool", "--fp16", "--artifacts", root, "--images", "64")
    names = [path.name for path in root.rglob("*")]
    assert not [name for name in names if ".part" in name or ".old" in name]
    assert os.access(root, os.W_OK)
