"""One file each adds a backend, an exporter, a source, a family of models, a cluster, a hosting, a command.

The files of `tests/plugins` are dropped into a copy of the source, not one other file of which is changed,
source or tests. Everything is then done there as users do it.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import REPO
from tests.serve.conftest import serving
from toolkit.backends import backend_names
from toolkit.exporting import EXPORTERS

pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra export)")

PLUGINS = Path(__file__).parent / "plugins"
COPIED = (
    *("cnnkit", "toolkit", "exporters", "serve", "tests", "artifacts/shipped"),
    *("pyproject.toml", "CONTRIBUTING.md"),
)
PICTURES = "npy:pictures.npz"
# at most four of them go into Quartet at once
MANY = 33


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file of a folder by its path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


# one process for all commands, as imports cost most of each; its stdout is for answers alone
SHELL = """
import json, os, sys, traceback
from click.testing import CliRunner
from cnnkit.front_door import main
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    done = CliRunner().invoke(main, json.loads(line))
    known = done.exception is None or isinstance(done.exception, SystemExit)
    more = "" if known else "".join(traceback.format_exception(done.exception))
    print(json.dumps([done.exit_code, done.stdout, done.stderr + more]), file=answers, flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a command came to."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, kw_only=True)
class House:
    """A copy of the source with the plug-ins in it, a folder from which a user works, and a process there."""

    source: Path
    user: Path
    environment: dict[str, str]
    shell: subprocess.Popen[str]

    def run(self, *words: object, status: int = 0) -> Told:
        """Run a command; return what it said, after checking its exit status."""
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        print(json.dumps([str(word) for word in words]), file=self.shell.stdin, flush=True)
        found = Told(
            **dict(zip(("status", "stdout", "stderr"), json.loads(self.shell.stdout.readline()), strict=True))
        )
        assert found.status == status, found.stderr + found.stdout
        return found

    def json(self, *words: object) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def said(self, words: str, status: int = 0) -> str:
        """Run a command; return all that it said in one line."""
        found = self.run(*words.split(), status=status)
        return " ".join((found.stdout + found.stderr).split())

    def python(self, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *(str(word) for word in words)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=cwd, env=self.environment
        )

    def contract(self, selection: str, *files: str) -> str:
        """Run contract suites in the copy; return the summary of what passed."""
        options = ("-q", "-p", "no:cacheprovider", "-k", selection, "--basetemp", self.user / "pytest")
        done = self.python("-m", "pytest", *options, *files, cwd=self.source)
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Drop the plug-ins into a copy; at the end, whatever was done there has changed no file of it."""
    source, user = tmp_path_factory.mktemp("house"), tmp_path_factory.mktemp("user")
    for name in COPIED:
        if (REPO / name).is_dir():
            shutil.copytree(REPO / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPO / name, source / name)
    before = contents(source)
    added = contents(PLUGINS)
    assert not set(added) & set(before)
    shutil.copytree(PLUGINS, source, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    labels = np.arange(176) % 4
    noise = np.random.default_rng(0).integers(0, 60, (len(labels), 12, 12))
    np.savez(
        user / "pictures.npz", images=(noise + 60 * labels[:, None, None]).astype(np.uint8), labels=labels
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(source),
        "XDG_CACHE_HOME": str(user / "cache"),
        "CUDA_VISIBLE_DEVICES": "",
        "COLUMNS": "200",
    }
    environment.pop("CNNKIT_ARTIFACTS", None)
    with subprocess.Popen(
        [sys.executable, "-c", SHELL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=user,
        env=environment,
    ) as shell:
        yield House(source=source, user=user, environment=environment, shell=shell)
    assert contents(source) == before | added


@pytest.fixture(scope="module")
def trained(house: House) -> Any:
    """Train the new network on pictures from the new source."""
    return house.json("train", "pebble", "--dataset", PICTURES, "--epochs", 1)


@pytest.fixture(scope="module")
def exported(house: House, trained: Any) -> Any:
    """Export it to the new format and to ONNX, which the new backend opens, too."""
    made = house.json(
        "export", "pebble", "--format", "crate,onnx", "--precision", "fp32,fp16", "--wood", "oak"
    )
    return {(entry["format"], entry["precision"]): entry for entry in made["artifacts"]}


def test_each_is_on_its_shelf(house: House) -> None:
    code = """
import json
from cnnkit.front_door import commands
from toolkit import zoo
from toolkit.backends import BACKENDS, openers
from toolkit.datasets import dataset_of, dataset_words
from toolkit.exporting import EXPORTERS
print(json.dumps([
    "quartet" in BACKENDS.names(), "crate" in EXPORTERS.names(), "npy:FILE" in dataset_words(),
    dataset_of("npy:x").name, "pebble" in zoo.models(), "weigh" in commands(),
    [one.name for one in openers("crate")], [one.name for one in openers("onnx")],
]))
"""
    found = json.loads(house.python("-c", code, cwd=house.user).stdout)
    assert found[:7] == [True, True, True, "arrays", True, True, ["quartet"]]
    assert (found[7][0], found[7][-1]) == ("ort", "quartet")


def test_each_stands_in_help(house: House) -> None:
    commands = ("", "profile", "export", "eval", "predict", "serve", "train", "sweep", "import")
    said = {command: house.said(f"{command} --help") for command in commands}
    assert "weigh Say how many bytes FILE has." in said[""]
    backends = ", ".join([*backend_names(), "quartet"])
    assert f"--backend NAME {backends} or several" in said["profile"]
    assert "--device TEXT cpu, cuda, cuda:N, mps, podium (default: the backend's own)." in said["profile"]
    assert "--tempo slow|brisk How fast Quartet plays. [default: slow]" in said["profile"]
    formats = ", ".join(sorted([*EXPORTERS.names(), "crate"]))
    assert f"--format NAME,… {formats} [default: onnx,trt]" in said["export"]
    assert "--wood [pine|oak] Wood of the crate." in said["export"]
    for command in ("eval", "predict", "serve"):
        assert backends in said[command]
        assert "mps, podium" in said[command]
    for command in ("train", "sweep"):
        assert re.search(r"--on CLUSTER local, pair\[:SEATS\], ray\[:ADDRESS\] Where to run", said[command])
    for command in ("train", "eval", "predict", "sweep", "import"):
        assert re.search(r"--dataset NAME\|npy:FILE\|(\S+\|)?folder:PATH", said[command])


SLIPS = {
    "eval lenet-maxpool --backend quartett": (1, "known: .*quartet, .*mean 'quartet'"),
    "export lenet-maxpool --format crat": (1, "known: crate, .*mean 'crate'"),
    "datasets --fetch np:x": (1, "known: .*, npy:FILE.*mean 'npy:FILE'"),
    "eval pebbel": (1, "known: .*, pebble, .*mean 'pebble'"),
    "eval lenet-maxpool --device podum": (2, "known: .*, podium.*mean 'podium'"),
    "eval lenet-maxpool --device podium": (3, "no device 'podium' for ONNX Runtime"),
    "sweep pebble --on piar": (2, "known: local, pair, .*mean 'pair'"),
    "wiegh x": (2, "known: .*, weigh.*mean 'weigh'"),
    "export lenet-maxpool --wood ok": (2, "'ok' is not one of 'pine', 'oak'"),
    "profile lenet-maxpool --backend quartet --tempo slw": (1, "no tempo of Quartet 'slw'.*mean 'slow'"),
}


def test_each_is_what_a_slip_of_the_finger_meant(house: House) -> None:
    for words, (status, meant) in SLIPS.items():
        assert re.search(meant, house.said(words, status))


def test_doctor_models_and_datasets_list_them(house: House) -> None:
    words = ("doctor", "doctor --json", "models --json", "datasets", "datasets --json")
    table, state, models, listed, datasets = map(house.said, words)
    assert "│ quartet │ yes" in table
    assert "Quartet: cello" in table
    wanted = {"available": True, "version": "4.4", "devices": ["cpu"], "why_not": None, "how_to_get": None}
    assert json.loads(state)["backends"]["quartet"] == wanted
    assert json.loads(state)["machine"]["providers"]["cello"] == "its strings are missing"
    (pebble,) = [row for row in json.loads(models)["models"] if row["name"] == "pebble"]
    # 4·(9+1) + 8·(4·9+1) + (72+1)·10 parameters; 144·4·9 + 36·8·36 + 720 multiply-adds
    assert (pebble["parameters"], pebble["macs"]) == (1066, 16272)
    assert "npy:FILE" in listed
    assert "npy:FILE" in {source["example"] for source in json.loads(datasets)["own"]}


def test_the_new_network_learns_from_the_new_source(house: House, trained: Any) -> None:
    assert trained["model"] == "pebble"
    passport = json.loads(Path(trained["checkpoint"] + ".json").read_text())
    assert passport["dataset"]["name"] == f"npy:{house.user / 'pictures.npz'}"
    assert house.json("weigh", trained["checkpoint"])["bytes"] > 4 * 628


def test_a_sweep_runs_on_the_new_cluster(house: House) -> None:
    table = house.json(
        "sweep", "pebble", "--dataset", PICTURES, "--epochs", 1, "--batch", "8,16", "--on", "pair:2"
    )
    assert [(cell["status"], cell["where"]) for cell in table["cells"]] == [("done", "a seat")] * 2


def test_the_new_format_is_made_and_stored(house: House, exported: Any) -> None:
    precisions = ("fp32", "fp16")
    assert set(exported) == {(kind, one) for kind in ("onnx", "crate") for one in precisions}
    crate = exported["crate", "fp32"]
    assert Path(crate["path"]).read_bytes().startswith(b"CRATE oak\n")
    assert crate["parity"]["images"] == 44
    assert crate["parity"]["top1_agreement"] == 1.0
    again = house.json("export", "pebble", "--format", "crate", "--wood", "oak")["artifacts"]
    assert [entry["cached"] for entry in again if entry["format"] == "crate"] == [True]
    assert house.json("verify", exported["crate", "fp16"]["path"])["ok"]


def test_a_named_backend_answers_more_pictures_than_it_takes_at_once(house: House, exported: Any) -> None:
    asked = ("pebble", "--dataset", PICTURES)
    found = {one: house.json("eval", *asked, "--backend", one) for one in ("pytorch", "quartet")}
    assert found["quartet"]["artifact"].endswith(".crate")
    assert found["quartet"]["images"] == 44
    assert found["quartet"]["confusion"] == found["pytorch"]["confusion"]
    told = house.json("predict", *asked, "--backend", "quartet", "--first", MANY)
    assert len(told["predictions"]) == MANY
    assert told["backend"] == "quartet"


def test_a_profile_has_its_column_on_the_rows_of_the_others(house: House, exported: Any) -> None:
    options = ("--batch", "1,8", "--duration", 0.1, "--tempo", "brisk")
    profile = house.json("profile", "pebble", "--backend", "all", *options)
    one, eight = profile["runs"]
    assert one["backends"]["quartet"]["artifact"].endswith(".crate")
    for backend in ("pytorch", "ort", "quartet"):
        assert one["backends"][backend]["coverage"] == 1.0
    listed = [module for row in one["rows"] for module in row["modules"]]
    assert listed == [str(index) for index in range(8)]
    rows = {tuple(row["modules"]): row for row in one["rows"] if row["modules"]}
    for fused in (("0", "1"), ("3", "4")):
        cell = rows[fused]["quartet"]
        assert cell["nodes"][0].startswith("duo ")
        assert len(cell["nodes"]) == 1
        assert cell["latency_ms"] > 0
        assert rows[fused]["pytorch"]["nodes"] == list(fused)
        assert rows[fused]["ort"]["latency_ms"] > 0
    assert all(row["quartet"]["latency_ms"] > 0 for row in rows.values())
    # it takes four pictures at most, and was not named
    assert {"pytorch", "ort"} <= set(eight["backends"])
    assert "quartet" not in eight["backends"]
    why = {entry["backend"]: entry["reason"] for entry in eight["skipped"]}
    assert "batches of 1 to 4, got 8" in why["quartet"]
    told = house.run("profile", "pebble", "--backend", "all", "--duration", 0.1, "--device", "podium").stdout
    assert "skipped ort (fp32): no device 'podium' for ONNX Runtime; possible: cpu, cuda, cuda:N" in told
    refused = house.run("profile", "pebble", "--backend", "quartet,ort", "--batch", 8, status=1)
    assert "batches of 1 to 4, got 8" in refused.stderr


def test_what_it_computes_in_another_precision_is_a_column_of_its_own(house: House, exported: Any) -> None:
    options = ("--precision", "fp32,bf16", "--backend", "quartet", "--duration", 0.1)
    (run,) = house.json("profile", "pebble", *options)["runs"]
    columns = {key: (column["precision"], column["artifact"]) for key, column in run["backends"].items()}
    crate = exported["crate", "fp32"]["path"]
    assert columns == {"quartet": ("fp32", crate), "quartet:bf16": ("bf16", crate)}
    assert 0 < run["agreement"]["quartet:bf16"] < 0.1
    (by_path,) = house.json("profile", crate, *options)["runs"]
    assert list(by_path["backends"]) == list(columns)
    told = house.json("eval", "pebble", "--dataset", PICTURES, "--backend", "quartet", "--precision", "bf16")
    assert told["precision"] == "bf16"
    # nobody else makes or computes such a file, and nothing that is called bf16 is fp32 inside
    refused = house.run("profile", "pebble", "--backend", "ort", "--precision", "bf16", status=3)
    assert "bf16" in refused.stderr
    assert not list(Path(crate).parent.glob("*.bf16.onnx"))


@pytest.mark.slow
def test_what_a_column_needs_is_made_in_passing_and_never_another_ones(house: House, trained: Any) -> None:
    root = ("--artifacts", house.user / "passing", "--untrained")
    profile = house.json("profile", "pebble", "--backend", "quartet", "--duration", 0.1, *root)
    (run,) = profile["runs"]
    assert run["backends"]["quartet"]["artifact"].endswith("pebble-untrained.crate")
    named = Path(run["backends"]["quartet"]["artifact"]).parent / "pebble-untrained.onnx"
    profile = house.json("profile", named, "--backend", "quartet,ort", "--duration", 0.1)
    assert {column["artifact"] for column in profile["runs"][0]["backends"].values()} == {str(named)}


def test_it_is_served_to_many_at_once(house: House, exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in house.environment.items():
        monkeypatch.setenv(name, value)
    request = {
        "inputs": [{"name": "input", "shape": [1, 1, 12, 12], "datatype": "FP32", "data": [0.5] * 144}]
    }
    words = ("pebble", "--backend", "quartet", "--no-page", "--on", "cellar:oak")
    with serving(house.user / "artifacts", *words) as server:
        assert "down in the cellar, on the shelf oak" in server.said
        about = server.ask("GET", "/v2/models/pebble").json
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(server.ask, "POST", "/v2/models/pebble/infer", request) for _ in range(24)]
        answers = [one.result() for one in asked]
        tall = {**request["inputs"][0], "shape": [5, 1, 12, 12], "data": [0.5] * 720}
        sliced = server.ask("POST", "/v2/models/pebble/infer", {"inputs": [tall]})
    assert about["platform"] == "quartet_graph"
    assert {answer.status for answer in answers} == {200}
    assert len({json.dumps(answer.json["outputs"]) for answer in answers}) == 1
    assert (sliced.status, sliced.json["outputs"][0]["shape"][0]) == (200, 5)


def test_the_new_place_to_serve_is_listed_and_refuses_in_its_own_words(house: House, exported: Any) -> None:
    assert "cellar" in house.said("serve --help")
    assert "Did you mean 'cellar'?" in house.said("serve pebble --on cella", status=2)
    assert "the top shelf of the cellar is full" in house.said("serve pebble --on cellar:top", status=1)


def test_the_contract_suites_run_over_them(house: House) -> None:
    """The backend on a crate of the new network; the exporter's and the models' suites are longer."""
    passed = house.contract(
        "(quartet and crate and pebble) or tells_what_it_is or declares_what_it_is",
        "tests/toolkit/backends/test_contract.py",
        "tests/exporters/test_contract.py",
    )
    assert re.search(r"^\d\d passed, \d+ deselected", passed, re.MULTILINE), passed


@pytest.mark.slow
def test_every_contract_suite_and_the_tests_of_catalogs_pass_in_the_copy(house: House) -> None:
    house.contract(
        "quartet or crate or pebble or arrays or weigh or catalog or front_door or doctor or resolving",
        "tests/toolkit/backends/test_contract.py",
        "tests/exporters/test_contract.py",
        "tests/toolkit/models",
        "tests/toolkit/test_catalog.py",
        "tests/toolkit/test_doctor.py",
        "tests/toolkit/test_resolving.py",
        "tests/test_front_door.py",
        "tests/test_house.py",
    )
