"""`profile` and `compare` in Python: what the commands measure and judge, as objects."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

import cnnkit
from cnnkit import front_door
from tests.odd_graphs import halved
from tests.toolkit.profiling.comparing.test_differences import ROWS, profile_of
from tests.toolkit.profiling.reports.test_notebook import Read
from toolkit.artifacts import open_artifact, shipped_root
from toolkit.choices import ChoiceFile, Contender, choice_path, this_machine, weights_of, write_choice
from toolkit.cli import printing
from toolkit.errors import CnnkitError, GateError, NotFoundError, OutOfMemoryError
from toolkit.profiling.bench import devices_of
from toolkit.profiling.reports.csv import csv_report
from toolkit.profiling.reports.table import print_profile
from toolkit.resolving import release_of

SHORT = cnnkit.ProfileSettings(duration_s=0.05, threads=1)


def test_a_profile_in_python_is_the_commands() -> None:
    told: list[str] = []
    found = cnnkit.profile(
        "lenet-maxpool", backends=["ort"], batches=[1, 2], settings=SHORT, tell=told.append
    )
    assert [run.batch for run in found.runs] == [1, 2]
    assert list(found.runs[0].backends) == ["ort"]
    assert found.runs[0].backends["ort"].measured
    assert not found.runs[0].backends["ort"].static
    assert found.machine.peaks is not None  # its rows were held against the machine
    # before it may stand that this process keeps freed memory, where a training of this test run was in it
    assert any(line.startswith("opened ") for line in told[:2])
    assert "conv1" in " ".join(Read(found._repr_html_()).texts)
    assert found.html().startswith("<!doctype html>")


SCRIPT = """
import sys, cnnkit
from toolkit.allocation import allocator
how = sys.argv[2]
settings = cnnkit.ProfileSettings(duration_s=0.05, threads=1, allocator=how)
run = cnnkit.profile(
    "lenet-maxpool", backends=["pytorch"], settings=settings, untrained=True, root=sys.argv[1]
)
column = run.runs[0].backends["pytorch"]
print(allocator(), column.allocator, column.kind, sep=";")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings exist on Linux alone")
@pytest.mark.parametrize("how", ["system", "keep"])
def test_freed_memory_is_kept_on_request_alone_and_the_column_says_so(how: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kind = "fp32" if how == "system" else "fp32, allocator keep"
    assert done.stdout.strip() == f"{how};{how};{kind}"


def test_a_comparison_takes_profiles_and_files_and_raises_when_it_is_required(tmp_path: Path) -> None:
    before, after = profile_of(ROWS, 0), profile_of({**ROWS, "fc1": 1.2}, 1)
    path = tmp_path / "before.json"
    path.write_text(json.dumps(before.to_json()))
    found = cnnkit.compare(str(path), after, fail_over=0.05)
    with pytest.raises(GateError, match="fc1 on ort"):
        found.require()
    allowed = cnnkit.compare(path, after, fail_over=1.0)
    assert allowed.require() is allowed
    assert cnnkit.compare(before, after).require().regressions()


def test_a_backend_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(NotFoundError, match=r"no backend 'orrt'; known: all, .* Did you mean 'ort'\?"):
        cnnkit.profile("lenet-maxpool", backends=["orrt"])


HUNGRY = """
import torch
from torch import nn
from toolkit.models import ModelSpec

class Hungry(nn.Sequential):
    def forward(self, x):
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return super().forward(x)

def build(channels, classes):
    return Hungry(nn.Flatten(), nn.Linear(16 * channels, classes))

MODELS = (ModelSpec(name="hungry", family="own", input_shape=(1, 4, 4), build=build, classes=3),)
"""


def test_a_batch_without_memory_leaves_what_was_complete_before_it(tmp_path: Path) -> None:
    file = tmp_path / "hungry.py"
    file.write_text(HUNGRY)
    settings = cnnkit.ProfileSettings(duration_s=0.02, threads=1, model_file=file)
    told: list[str] = []

    def profiled(*batches: int) -> cnnkit.Profile:
        return cnnkit.profile(
            "hungry", backends=["pytorch"], batches=batches, settings=settings, untrained=True,
            root=tmp_path, tell=told.append,
        )  # fmt: skip

    found = profiled(1, 4)
    assert [run.batch for run in found.runs] == [1]
    assert found.partial
    why = "cpu has no memory for a batch of 4 of hungry in pytorch; a smaller --batch needs less"
    assert told[-1] == f"batch 4: {why}; what was complete before it is kept"
    with pytest.raises(OutOfMemoryError, match=why):
        profiled(4)


@pytest.fixture
def choice_root(tmp_path: Path) -> Path:
    """Return an artifacts folder in which the graph that ships is chosen, on ort, at batch 3."""
    graph = open_artifact(shipped_root() / "lenet-maxpool" / "lenet-maxpool.onnx")
    contender = Contender(backend="ort", artifact=graph.path.name, precision="fp32", threads=1, batch=3)
    choice = ChoiceFile(
        model="lenet-maxpool",
        file=graph.path.name,
        sha256=graph.passport.sha256,
        weights=weights_of(tmp_path, "lenet-maxpool"),
        chosen=contender,
        baseline=contender,
        machine=this_machine({"ort": release_of("ort") or ""}),
    )
    (tmp_path / "lenet-maxpool").mkdir()
    write_choice(choice_path(tmp_path, "lenet-maxpool"), choice)
    return tmp_path


def test_a_choice_is_profiled_at_its_own_batch_unless_another_is_typed(choice_root: Path) -> None:
    words = ["profile", "lenet-maxpool", "--choice", "--json", "--duration", "0.05"]
    for more, batch in (([], 3), (["--batch", "2"], 2)):
        done = CliRunner().invoke(front_door.main, [*words, *more, "--artifacts", str(choice_root)])
        assert done.exit_code == 0, done.output
        assert [run["batch"] for run in json.loads(done.stdout)["runs"]] == [batch]


def test_a_choice_is_held_against_a_file_of_another_precision(choice_root: Path) -> None:
    half = choice_root / "half.onnx"
    onnx.save(halved(onnx.load(shipped_root() / "lenet-maxpool" / "lenet-maxpool.onnx")), half)
    words = ["profile", "lenet-maxpool", "--choice", "--against", str(half), "--json", "--duration", "0.05"]
    done = CliRunner().invoke(front_door.main, [*words, "--artifacts", str(choice_root)])
    assert done.exit_code == 0, done.output
    (run,) = json.loads(done.stdout)["runs"]
    assert [one["precision"] for one in run["backends"].values()] == ["fp32", "fp16"]


def test_a_column_whose_layers_nobody_times_has_its_latency_and_says_why() -> None:
    pytest.importorskip("openvino")
    streams = dataclasses.replace(SHORT, threads=2, chosen={"streams": "2"})
    found = cnnkit.profile("lenet-maxpool", backends=["openvino"], batches=[2, 3], settings=streams)
    divided, whole = (run.backends["openvino"] for run in found.runs)
    assert divided.latency_ms is not None
    assert divided.latency_ms.median > 0
    assert divided.layer_sum_ms is None
    assert any("no layers' times: OpenVINO tells no layers' times of several" in n for n in divided.notes)
    assert "conv1" in [name for row in found.runs[0].rows for name in row.modules]
    assert whole.layer_sum_ms is not None
    assert "--streams 2 does not divide a batch of 3: one stream runs it" in whole.notes
    assert found.html().startswith("<!doctype html>")
    assert "conv1" in csv_report(found)
    json.dumps(found.to_json())
    print_profile(found, printing.stdout)
    with pytest.raises(CnnkitError, match="--streams is a setting of openvino, and ort runs here"):
        cnnkit.profile("lenet-maxpool", backends=["ort"], settings=streams)


def test_a_profile_names_the_devices_that_its_columns_ran_on() -> None:
    (run,) = profile_of(ROWS, 0).runs
    (key, column), *_ = run.backends.items()
    on_gpu = dataclasses.replace(column, device="cuda", measured=True)
    mixed = dataclasses.replace(
        run, backends={key: on_gpu, "other": dataclasses.replace(on_gpu, device="cpu")}
    )
    assert devices_of([mixed]) == "cuda, cpu"
    assert devices_of([dataclasses.replace(run, backends={})]) == ""
