"""A Triton model repository, held against NVIDIA's own schema."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from exporters.repository.config import labels_text, model_config
from tests.exporters.conftest import cnnkit_json, cnnkit_run
from toolkit.artifacts import Artifact, open_artifact, sidecar
from toolkit.backends import DEFAULT_BACKEND, openers
from toolkit.choices import ChoiceFile, Contender, choice_path, this_machine, weights_of, write_choice
from toolkit.passports import Target
from toolkit.resolving import release_of


@pytest.fixture
def graph(root: Path) -> Artifact:
    return open_artifact(root / "lenet-maxpool" / "lenet-maxpool.onnx")


def parsed(text: str) -> Any:
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")
    from google.protobuf import text_format

    return text_format.Parse(text, schema.ModelConfig())


def test_the_config_is_what_nvidias_schema_reads(graph: Artifact) -> None:
    config = parsed(model_config("lenet", graph, (1, 32, 256)))
    assert (config.name, config.backend, config.max_batch_size) == ("lenet", "onnxruntime", 256)
    assert config.default_model_filename == "model.onnx"
    assert config.input[0].name == "input"
    assert list(config.input[0].dims) == [1, 28, 28]
    assert config.output[0].label_filename == "labels.txt"
    assert list(config.dynamic_batching.preferred_batch_size) == [32]
    policy = config.dynamic_batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (1024, 1_000_000)
    assert [warm.batch_size for warm in config.model_warmup] == [1, 32]
    assert config.version_policy.latest.num_versions == 1


def test_names_with_quotes_and_other_alphabets_are_quoted(graph: Artifact) -> None:
    assert parsed(model_config('größe "网络"', graph, (1,))).name == 'größe "网络"'


def test_a_repository_holds_config_labels_and_the_file_that_was_proven(graph: Artifact, root: Path) -> None:
    payload = cnnkit_json(
        "export", "lenet-maxpool", "--format", "triton", "--images", "64", "--artifacts", root
    )
    folder = Path(payload["artifacts"][-1]["path"])
    assert payload["artifacts"][-1]["format"] == "triton"
    inside = folder / "lenet-maxpool"
    assert (inside / "1" / "model.onnx").read_bytes() == graph.path.read_bytes()
    assert (inside / "labels.txt").read_text().splitlines() == list(graph.passport.classes)
    parsed((inside / "config.pbtxt").read_text())
    assert open_artifact(folder).passport.parity == graph.passport.parity
    again = cnnkit_json(
        "export", "lenet-maxpool", "--format", "triton", "--images", "64", "--artifacts", root
    )
    assert again["artifacts"][-1]["cached"] is True


def test_an_altered_repository_is_written_anew(graph: Artifact, root: Path) -> None:
    arguments = ("export", "lenet-maxpool", "--format", "triton", "--images", "64", "--artifacts", root)
    folder = Path(cnnkit_json(*arguments)["artifacts"][-1]["path"])
    (folder / "lenet-maxpool" / "labels.txt").write_text("cat\n")
    assert cnnkit_json(*arguments)["artifacts"][-1]["cached"] is False
    assert (folder / "lenet-maxpool" / "labels.txt").read_text().startswith("T-shirt/top\n")


def test_an_engine_of_tensorrt_rtx_is_refused_in_words(root: Path) -> None:
    made = cnnkit_json(
        "export", "lenet-maxpool", "--format", "trt", "--fp16", "--images", "64", "--artifacts", root
    )
    result = cnnkit_run("export", made["artifacts"][-1]["path"], "--format", "triton", "--artifacts", root)
    assert result.exit_code == 3
    assert "plans of classic TensorRT only" in result.stderr


def test_a_classic_plan_names_the_server_that_it_needs(root: Path) -> None:
    """A plan nobody here can build: any bytes stand for it, as only Triton's files are looked at."""
    path = root / "lenet-maxpool" / "lenet-maxpool.fp16.engine"
    graph = open_artifact(root / "lenet-maxpool" / "lenet-maxpool.onnx")
    path.write_bytes(b"a plan")
    data = {**graph.passport.to_json(), "format": "trt", "precision": "fp16"}
    import hashlib

    data["sha256"] = hashlib.sha256(b"a plan").hexdigest()
    data["target"] = Target(flavour="classic", version="11.4.0").__dict__
    sidecar(path).write_text(json.dumps(data, default=list))
    payload = cnnkit_json("export", path, "--format", "triton", "--artifacts", root)
    folder = Path(payload["artifacts"][0]["path"])
    assert (folder / "lenet-maxpool" / "1" / "model.plan").read_bytes() == b"a plan"
    assert 'backend: "tensorrt"' in (folder / "lenet-maxpool" / "config.pbtxt").read_text()
    assert "11.4.0" in open_artifact(folder).passport.server
    refused = cnnkit_run(
        "export", path, "--precision", "fp16,int8", "--format", "triton", "--artifacts", root, "--json"
    )
    assert refused.exit_code == 1
    assert (
        "lenet-maxpool.fp16.engine is fp16 and cannot become int8: leave --precision away" in refused.stderr
    )
    assert [one["precision"] for one in json.loads(refused.stdout)["artifacts"]] == ["fp16"]


def test_labels_stay_one_a_line(graph: Artifact) -> None:
    spec = dataclasses.replace(graph.passport.output, shape=(None, 2))
    passport = dataclasses.replace(graph.passport, output=spec, classes=("a b", "c\nd"))
    assert labels_text(passport) == "a b\nc d\n"


def test_one_score_for_two_classes_has_no_label_since_it_would_always_be_the_first(graph: Artifact) -> None:
    spec = dataclasses.replace(graph.passport.output, shape=(None, 1))
    passport = dataclasses.replace(graph.passport, output=spec, classes=("cat", "dog"))
    assert labels_text(passport) == ""
    config = parsed(model_config("lenet", dataclasses.replace(graph, passport=passport), (1,)))
    assert config.output[0].label_filename == ""


@pytest.mark.parametrize("same", [True, False])
def test_what_was_chosen_for_the_file_runs_it(graph: Artifact, root: Path, same: bool) -> None:
    """A backend that a measurement chose is named by its platform; one chosen for another file is told."""
    other = next(one for one in openers(graph.passport.format) if one.name != DEFAULT_BACKEND)
    one = Contender(backend=other.name, artifact=graph.path.name, precision="fp32")
    choice = ChoiceFile(
        model=graph.name,
        file=graph.path.name if same else f"{graph.name}.safetensors",
        sha256=(
            graph if same else open_artifact(root / graph.name / f"{graph.name}.safetensors")
        ).passport.sha256,
        weights=weights_of(root, graph.name),
        chosen=one,
        baseline=one,
        machine=this_machine({other.name: release_of(other.name) or "none"}),
    )
    write_choice(choice_path(root, graph.name), choice)
    result = cnnkit_run("export", graph.name, "--format", "triton", "--images", "64", "--artifacts", root)
    config = (root / graph.name / f"{graph.name}.triton" / graph.name / "config.pbtxt").read_text()
    assert result.exit_code == 0
    if same:
        assert parsed(config).backend == other.platform.partition("_")[0]
        assert f"# as chosen: {other.name} fp32" in config
    else:
        assert parsed(config).backend == "onnxruntime"
        assert "--precision exports that one" in result.stderr
