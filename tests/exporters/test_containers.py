"""Folders for clusters: manifests held against what clusters know, and run as far as one machine can."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporters.containers.folder import resources
from exporters.containers.trial import ServerUsage, started
from exporters.proving.proof import proof_inputs, read_proof
from tests.exporters.conftest import cnnkit_json, cnnkit_run
from tests.exporters.kubernetes_fields import refused
from tests.ports import free_port
from toolkit.artifacts import open_artifact, sidecar

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed (extra export)")
NAME = "lenet-maxpool"
REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def artifacts(trained_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the trained network for KServe, tried, and for Kubernetes, untried; return where both lie."""
    root = tmp_path_factory.mktemp("clusters")
    (root / NAME).mkdir()
    for file in (trained_root / NAME).iterdir():
        (root / NAME / file.name).write_bytes(file.read_bytes())
    export(root, "kserve")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNKIT_TRIAL", "none")
        export(root, "kubernetes")
    return root / NAME


def export(root: Path, form: str, *more: str, status: int = 0) -> dict[str, Any]:
    return cnnkit_json(
        *("export", NAME, "--format", form, "--images", "64", "--artifacts", root, *more), status=status
    )


def documents(folder: Path) -> list[dict[str, Any]]:
    return [one for path in sorted(folder.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())]


def container(folder: Path) -> dict[str, Any]:
    """Return the container of a folder's manifests."""
    specs = [one["spec"] for one in documents(folder) if one["kind"] in ("ServingRuntime", "Deployment")]
    found: dict[str, Any] = specs[0].get("template", {}).get("spec", specs[0])["containers"][0]
    return found


def here(words: list[str], models: Path, grpc_port: int = 0) -> list[str]:
    """Return a container's command as this machine can run it: its folder, and free ports on loopback."""
    other = {"/mnt/models": str(models), "0.0.0.0": "127.0.0.1", "8080": "0", "9000": str(grpc_port)}
    other["10"] = "0"  # nobody waits here for a balancer
    return [other.get(word, word) for word in words]


@pytest.mark.parametrize("form", ["kserve", "kubernetes"])
def test_a_cluster_knows_every_field_of_the_manifests(artifacts: Path, form: str) -> None:
    found = documents(artifacts / f"{NAME}.{form}")
    assert len(found) == 2
    assert refused(found) == []


def test_a_misspelt_field_is_refused(artifacts: Path) -> None:
    found = documents(artifacts / f"{NAME}.kserve")
    model = found[0]["spec"]["predictor"]["model"]
    model["protocolVersoin"] = model.pop("protocolVersion")
    assert "'protocolVersoin' was unexpected" in refused(found)[0]


def test_what_a_server_was_measured_to_take_is_asked_for(artifacts: Path) -> None:
    asked = container(artifacts / f"{NAME}.kserve")["resources"]
    assert re.fullmatch(r"[1-9]\d*00m", asked["requests"]["cpu"])
    assert 20 < int(asked["requests"]["memory"].removesuffix("Mi")) < 1000
    assert asked["limits"]["cpu"] == "2"
    assert resources(ServerUsage(memory_bytes=100 << 20, cores=1.31, rows=32, rows_per_second=1.0), 2) == {
        "requests": {"cpu": "1400m", "memory": "100Mi"},
        "limits": {"cpu": "3", "memory": "612Mi"},
    }


def test_an_untried_folder_asks_for_nothing_and_says_so(artifacts: Path) -> None:
    folder = artifacts / f"{NAME}.kubernetes"
    assert "resources" not in container(folder)
    assert "Nothing was measured" in (folder / "README.md").read_text()
    assert open_artifact(folder).passport.verified == ()


def test_the_passport_records_the_server_that_answered_the_proof(artifacts: Path) -> None:
    first = open_artifact(artifacts / f"{NAME}.kserve").passport.verified[0]
    assert (first.images, first.agree, first.device) == (64, 64, "a server on this machine, over HTTP")


def test_the_manifests_command_starts_the_server_that_clients_ask(artifacts: Path) -> None:
    for kind in ("http", "grpc"):
        pytest.importorskip(f"tritonclient.{kind}", reason=f"tritonclient[{kind}] is not installed")
    from tritonclient import grpc, http

    folder = artifacts / f"{NAME}.kserve"
    placed = open_artifact(folder / "models" / f"{NAME}.onnx")
    proof = read_proof(placed)
    rows = np.ascontiguousarray(proof_inputs(placed.passport, proof)[:8])
    runs = container(folder)
    assert runs["command"] == ["cnnkit"]
    grpc_port = free_port()
    with started(here(runs["args"], folder / "models", grpc_port)) as (process, port):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert status(port, runs[probe]["httpGet"]["path"]) == 200
        for speaks, at in ((http, port), (grpc, grpc_port)):
            with speaks.InferenceServerClient(f"127.0.0.1:{at}") as client:
                given = speaks.InferInput("input", list(rows.shape), "FP32")
                given.set_data_from_numpy(rows)
                answered = client.infer(NAME, [given]).as_numpy("logits")
            np.testing.assert_allclose(answered, proof.logits[:8], atol=proof.tolerance)
        process.terminate()
        assert process.wait(30) == 0


def status(port: int, path: str) -> int:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    found = connection.getresponse().status
    connection.close()
    return found


def test_verify_asks_a_server_again(artifacts: Path) -> None:
    verdict = cnnkit_json("verify", artifacts / f"{NAME}.kserve")
    assert (verdict["ok"], verdict["images"], verdict["agree"]) == (True, 64, 64)


@pytest.mark.parametrize("form", ["kserve", "kubernetes"])
def test_the_image_runs_what_the_manifests_run(artifacts: Path, form: str) -> None:
    folder = artifacts / f"{NAME}.{form}"
    steps = parsed(folder / "Containerfile")
    words = ["FROM", "COPY", "RUN", "COPY", "USER", "EXPOSE", "ENTRYPOINT", "CMD"]
    assert [word for word, _ in steps] == words
    known = dict(steps)
    runs = container(folder)
    assert json.loads(known["ENTRYPOINT"]) + json.loads(known["CMD"]) == runs["command"] + runs["args"]
    assert known["COPY"].split() == ["models", "/mnt/models"]
    assert known["USER"] == str(runs["securityContext"]["runAsUser"])
    assert (folder / "models" / f"{NAME}.onnx.json").exists()


def parsed(path: Path) -> list[tuple[str, str]]:
    """Return a Containerfile's instructions, each with what it says."""
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in path.read_text().splitlines())]


def test_options_stand_in_the_manifests(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNKIT_TRIAL", "none")
    more = ("--container-image", "registry.example/nets:1", "--cores", "3", "--storage-uri", "s3://nets/a")
    made = export(root, "kserve", *more)["artifacts"][-1]
    runs = container(Path(made["path"]))
    assert runs["image"] == "registry.example/nets:1"
    assert runs["args"][runs["args"].index("--threads") + 1] == "3"
    assert refused(found := documents(Path(made["path"]))) == []
    assert found[0]["spec"]["predictor"]["model"]["storageUri"] == "s3://nets/a"
    assert export(root, "kserve", *more)["artifacts"][-1]["cached"] is True


def test_what_could_not_be_tried_is_no_stored_result(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['uvicorn'] = None\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    for _ in range(2):
        made = export(root, "kubernetes")["artifacts"][-1]
        assert made["cached"] is False
        assert open_artifact(Path(made["path"])).passport.verified == ()


def test_a_name_that_no_cluster_takes_is_refused_with_one_that_it_does(root: Path) -> None:
    result = cnnkit_run(
        *("export", NAME, "--format", "kserve", "--images", "64", "--artifacts", root, "--name", "Mein_Netz")
    )
    assert result.exit_code == 1
    assert "KServe can have no name 'Mein_Netz'" in result.stderr
    assert "`--name mein-netz` is one" in result.stderr


@pytest.mark.slow
def test_the_images_steps_make_a_server_in_a_fresh_environment(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = artifacts / f"{NAME}.kserve"
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(REPO)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(tmp_path / "env", with_pip=True)
    python, placed = tmp_path / "env" / "bin" / "python", tmp_path / "mnt"
    run: dict[str, Callable[[str], object]] = {
        "COPY": lambda rest: copy(rest, folder, tmp_path, placed),
        "RUN": lambda rest: subprocess.run(
            [str(python), "-m", *shlex.split(rest.replace("/tmp/", f"{tmp_path}/"))], check=True
        ),
    }
    steps = parsed(folder / "Containerfile")
    for word, rest in steps:
        run.get(word, lambda rest: None)(rest)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    with started(here(json.loads(dict(steps)["CMD"]), placed), str(python)) as (process, port):
        assert status(port, f"/v2/models/{NAME}/ready") == 200
        process.terminate()
        assert process.wait(30) == 0


def copy(rest: str, folder: Path, wheels: Path, placed: Path) -> None:
    source, target = rest.split()
    if target == "/tmp/":
        assert (wheels / source).is_file()
        return
    placed.mkdir()
    for file in (folder / source).iterdir():
        (placed / file.name).write_bytes(file.read_bytes())


def test_the_folder_holds_passport_and_proof(artifacts: Path) -> None:
    inside = artifacts / f"{NAME}.kserve" / "models" / f"{NAME}.onnx"
    assert sidecar(inside).read_bytes() == sidecar(artifacts / f"{NAME}.onnx").read_bytes()
    assert read_proof(open_artifact(inside)).logits.shape == (64, 10)
