"""`cnnkit profile` and `compare` as a user types them: tables, JSON, reports, exit codes, bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner, Result

from cnnkit import front_door
from tests.toolkit.profiling.conftest import Clock, Exported, write_times
from toolkit import zoo
from toolkit.backends import BACKENDS
from toolkit.profiling.measuring import latency

SHORT = ("--duration", "0.1")


def run(*words: object) -> Result:
    return CliRunner().invoke(front_door.main, [str(word) for word in words])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def reports(root: Path) -> tuple[dict[str, Any], Path]:
    """Profile an untrained lenet-maxpool over everything that is here; return its JSON and the reports."""
    folder = root / "reports"
    folder.mkdir()
    result = run(
        "profile", "lenet-maxpool", "--untrained", "--backend", "all", "--artifacts", root, *SHORT, "--json",
        "--html", folder / "p.html", "--csv", folder / "p.csv", "--trace", folder / "p.trace.json",
        "--output", folder / "p.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found, folder


def test_the_json_holds_what_others_rely_on(reports: tuple[dict[str, Any], Path]) -> None:
    found, _ = reports
    assert {"model", "device", "threads", "runs", "schema"} <= set(found)
    (first,) = found["runs"]
    assert {"pytorch", "ort"} <= set(first["backends"])
    for name in ("pytorch", "ort"):
        column = first["backends"][name]
        assert {
            "artifact", "precision", "measured", "latency_ms", "layer_sum_ms", "layout_ms", "residual_ms",
            "distortion_ms", "memory", "coverage",
        } <= set(column)  # fmt: skip
        assert {"median", "mean", "p90", "p95", "p99", "spread", "runs", "windows"} <= set(
            column["latency_ms"]
        )
        assert {
            "weights_bytes", "peak_activation_bytes", "workspace_bytes", "process_peak_bytes",
        } <= set(column["memory"])  # fmt: skip
        assert column["coverage"] == 1.0
        assert column["device"] == "cpu"
        assert Path(column["artifact"]).is_absolute()
    for row in first["rows"]:
        assert {"modules", "type", "output_shape", "parameters", "macs", "caused_by"} <= set(row)


def test_every_module_is_in_exactly_one_row(reports: tuple[dict[str, Any], Path]) -> None:
    from toolkit.modules import walk

    spec = zoo.model("lenet-maxpool")
    wanted = [row.name for row in walk(spec.build(1, 10), (1, *spec.input_shape))]
    found = [name for row in reports[0]["runs"][0]["rows"] for name in row["modules"]]
    assert sorted(found) == sorted(wanted)


def test_the_columns_add_up_to_their_end_to_end_time(reports: tuple[dict[str, Any], Path]) -> None:
    (first,) = reports[0]["runs"]
    for name in ("pytorch", "ort"):
        column = first["backends"][name]
        parts = column["layer_sum_ms"] + column["layout_ms"] + column["residual_ms"]
        assert parts == pytest.approx(column["latency_ms"]["median"])
        rows = [row[name]["latency_ms"] for row in first["rows"] if row["modules"] and name in row]
        assert sum(ms or 0 for ms in rows) == pytest.approx(column["layer_sum_ms"])


def test_known_parameters_and_products_stand_on_the_rows(reports: tuple[dict[str, Any], Path]) -> None:
    rows = reports[0]["runs"][0]["rows"]
    assert sum(row["parameters"] or 0 for row in rows) == 61_706
    assert sum(row["macs"] or 0 for row in rows) == 416_520


def test_layout_rows_say_what_caused_them(reports: tuple[dict[str, Any], Path]) -> None:
    moved = [row for row in reports[0]["runs"][0]["rows"] if row["type"] == "layout"]
    assert moved
    assert all(row["modules"] == [] and row["caused_by"] for row in moved)


def test_without_a_gpu_tensorrt_is_skipped_with_its_reason(reports: tuple[dict[str, Any], Path]) -> None:
    if BACKENDS.load("trt").availability().available:
        pytest.skip("an NVIDIA GPU is here")
    (entry,) = [entry for entry in reports[0]["skipped"] if entry["backend"] == "trt"]
    assert entry["reason"]


def test_named_tensorrt_without_a_gpu_shows_what_is_static_and_exits_with_3(root: Path) -> None:
    state = BACKENDS.load("trt").availability()
    if state.available:
        pytest.skip("an NVIDIA GPU is here")
    pytest.importorskip("tensorrt_rtx")
    result = run("profile", "lenet-maxpool", "--untrained", "--backend", "trt", "--artifacts", root, "--json")
    assert result.exit_code == 3
    assert "latency was not measured" in result.stderr
    assert "timing" not in result.stderr
    (first,) = json.loads(result.stdout)["runs"]
    column = first["backends"]["trt"]
    assert column["measured"] is False
    assert column["latency_ms"] is None
    assert column["layer_sum_ms"] is None
    assert column["memory"]["weights_bytes"] > 0
    rows = [row for row in first["rows"] if row["modules"]]
    assert all(row["trt"]["latency_ms"] is None for row in rows if "trt" in row)
    assert any(row["trt"]["dtype"] for row in rows if "trt" in row)


def test_an_engine_whose_graph_is_gone_is_built_anew(root: Path) -> None:
    if BACKENDS.load("trt").availability().available:
        pytest.skip("an NVIDIA GPU is here")
    pytest.importorskip("tensorrt_rtx")
    words = ("profile", "lenet", "--untrained", "--backend", "trt", "--artifacts", root, "--json")
    assert run(*words).exit_code == 3
    (engine,) = root.glob("lenet-untrained/*.engine.json")
    passport = json.loads(engine.read_text())
    engine.write_text(json.dumps({**passport, "source_sha256": "0" * 64}))
    result = run(*words)
    assert "exporting anew" in result.stderr
    (first,) = json.loads(result.stdout)["runs"]
    assert first["backends"]["trt"]["memory"]["weights_bytes"] > 0
    assert any(row["trt"]["dtype"] for row in first["rows"] if row["modules"])


def test_the_table_names_fused_modules_and_the_residual(root: Path) -> None:
    result = run("profile", "lenet-maxpool", "--untrained", "--backend", "ort", "--artifacts", root, *SHORT)
    assert result.exit_code == 0
    assert "conv1 + act1" in result.stdout
    assert "residual" in result.stdout
    assert "coverage" in result.stdout


def test_the_page_stands_alone_and_escapes(reports: tuple[dict[str, Any], Path]) -> None:
    text = (reports[1] / "p.html").read_text()
    assert "conv1 + act1" in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert "<script src" not in text


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_screens_asks_nobody_and_sorts(
    reports: tuple[dict[str, Any], Path], width: int, chromium: str
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 844})
        asked: list[str] = []
        wrong: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((reports[1] / "p.html").as_uri())
        page.get_by_role("group", name="Column in focus").get_by_role(
            "button", name="ort", exact=True
        ).click()
        first = page.locator("table.rows tbody tr th").first.inner_text()
        page.locator("table.rows").get_by_role("button", name="ort ms").click()
        last = page.locator("table.rows tbody tr th").first.inner_text()
        assert len(asked) == 1
        assert wrong == []
        assert first != last
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        browser.close()


def test_the_csv_and_the_trace_hold_every_row(reports: tuple[dict[str, Any], Path]) -> None:
    lines = (reports[1] / "p.csv").read_text().splitlines()
    assert any("conv1" in line and "ort" in line for line in lines)
    trace = json.loads((reports[1] / "p.trace.json").read_text())
    events = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    assert events
    assert all(e["dur"] >= 0 for e in events)
    assert len({(e["pid"], e["tid"]) for e in events}) >= 2  # a track a backend


def test_compare_of_a_profile_with_itself_finds_no_change(reports: tuple[dict[str, Any], Path]) -> None:
    path = reports[1] / "p.json"
    result = run("compare", path, path, "--fail-over", "5%", "--json")
    found = json.loads(result.stdout)
    assert found["regressions"] == []
    verdicts = {d["verdict"] for d in found["differences"]}
    # of a busy machine's windows nothing can be told, which is not a change either
    assert verdicts <= {"no change", "too noisy to judge", "too few windows"}
    assert result.exit_code == 0 or verdicts != {"no change"}


def test_compare_exits_with_4_and_names_the_module(
    reports: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    data = json.loads((reports[1] / "p.json").read_text())
    for row in data["runs"][0]["rows"]:
        if "conv2" in row["modules"]:
            row["ort"]["windows"] = [3 * ms + 1 for ms in row["ort"]["windows"]]
            row["ort"]["latency_ms"] = 3 * row["ort"]["latency_ms"] + 1
    after = tmp_path / "after.json"
    after.write_text(json.dumps(data))
    result = run("compare", reports[1] / "p.json", after, "--fail-over", "5%", "--markdown")
    assert result.exit_code == 4
    assert "conv2 + act2 on ort" in result.stderr
    assert "| conv2 + act2 |" in result.stdout


def test_a_gate_does_not_pass_what_is_not_there_any_more(
    reports: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    data = json.loads((reports[1] / "p.json").read_text())
    del data["runs"][0]["backends"]["pytorch"]
    after = tmp_path / "after.json"
    after.write_text(json.dumps(data))
    result = run("compare", reports[1] / "p.json", after, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["lost"] == ["pytorch at batch 1"]
    result = run("compare", reports[1] / "p.json", after, "--fail-over", "5%")
    assert result.exit_code == 1
    assert "not in the profile after: pytorch at batch 1; profile again" in result.stderr


def test_against_without_a_pair_shows_the_profile_and_says_so(tmp_path: Path) -> None:
    one, two, three = (product(name, 8, tmp_path / f"{name}.onnx") for name in ("a", "b", "c"))
    result = run("profile", one, two, "--against", three, "--backend", "ort", *SHORT, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["against"] == []
    assert "--against found no two timed columns of one backend" in result.stderr
    assert "name one model or file and one against it" in result.stderr


def test_against_times_both_in_one_process(root: Path, exported: Exported, tmp_path: Path) -> None:
    first, second = exported("lenet-maxpool").path, exported("lenet-relu").path
    result = run(
        "profile", first, "--against", second, "--backend", "ort", "--artifacts", root, *SHORT, "--json"
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert len(found["runs"][0]["backends"]) == 2
    assert any(d["row"] == "end to end" for d in found["against"])


def test_several_batches_are_several_runs(root: Path) -> None:
    result = run(
        "profile", "lenet-maxpool", "--untrained", "--backend", "ort", "--batch", "1,8", "--artifacts", root,
        *SHORT, "--json",
    )  # fmt: skip
    runs = json.loads(result.stdout)["runs"]
    assert [entry["batch"] for entry in runs] == [1, 8]
    conv = [next(r for r in entry["rows"] if "conv1" in r["modules"]) for entry in runs]
    assert conv[1]["macs"] == 8 * conv[0]["macs"]


def test_an_unknown_backend_or_level_says_what_is_possible(root: Path) -> None:
    result = run("profile", "lenet-maxpool", "--untrained", "--backend", "pytorh", "--artifacts", root)
    assert result.exit_code == 1
    assert "Did you mean 'pytorch'?" in result.stderr
    result = run(
        "profile", "lenet-maxpool", "--untrained", "--backend", "ort", "--level", "max", "--artifacts", root
    )
    assert result.exit_code == 1
    assert "extended" in result.stderr


def test_a_damaged_onnx_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"\x08\x07not an onnx file")
    result = run("profile", path, "--backend", "ort")
    assert result.exit_code == 1
    assert "bad.onnx" in result.stderr
    assert "Traceback" not in result.output


def test_a_missing_or_damaged_profile_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text("{")
    result = run("compare", path, path)
    assert result.exit_code == 1
    assert "no readable JSON" in result.stderr
    result = run("compare", tmp_path / "absent.json", path)
    assert result.exit_code == 1
    assert "absent.json" in result.stderr


def model_of(nodes: list[Any], inputs: list[Any], outputs: list[Any], path: Path) -> Path:
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def value(name: str, shape: list[Any], kind: int = onnx.TensorProto.FLOAT) -> Any:
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def test_a_graph_with_several_inputs_and_unnamed_nodes_is_profiled(tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("Add", ["a", "b"], ["s"]),
        onnx.helper.make_node("Relu", ["s"], ["r"]),
        onnx.helper.make_node("MatMul", ["r", "c"], ["y"]),
    ]
    inputs = [value("a", ["n", 4]), value("b", ["n", 4]), value("c", [4, 2])]
    path = model_of(nodes, inputs, [value("y", ["n", 2])], tmp_path / "several.onnx")
    result = run("profile", path, "--backend", "ort", "--batch", "3", *SHORT, "--json")
    assert result.exit_code == 0, result.output
    (first,) = json.loads(result.stdout)["runs"]
    assert first["backends"]["ort"]["coverage"] == 1.0
    product = next(row for row in first["rows"] if any("MatMul" in m for m in row["modules"]))
    assert product["macs"] == 3 * 4 * 2


def test_a_graph_with_a_sequence_output_is_profiled(tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["r"], name="relu"),
        onnx.helper.make_node("SplitToSequence", ["r"], ["s"], name="split", axis=1),
    ]
    output = onnx.helper.make_tensor_sequence_value_info("s", onnx.TensorProto.FLOAT, None)
    path = model_of(nodes, [value("x", [1, 4])], [output], tmp_path / "sequence.onnx")
    result = run("profile", path, "--backend", "ort", *SHORT, "--json")
    assert result.exit_code == 0, result.output
    (first,) = json.loads(result.stdout)["runs"]
    assert {m for row in first["rows"] for m in row["modules"]} == {"relu", "split"}


def fixed_at(batch: int, path: Path) -> Path:
    node = onnx.helper.make_node("Relu", ["x"], ["y"], name="relu")
    return model_of([node], [value("x", [batch, 4])], [value("y", [batch, 4])], path)


@pytest.mark.parametrize("batch", ["1", "8,16"])
def test_a_file_of_a_fixed_batch_is_not_run_under_another_name(batch: str, tmp_path: Path) -> None:
    path = fixed_at(8, tmp_path / "fixed.onnx")
    result = run("profile", path, "--backend", "ort", "--batch", batch, *SHORT)
    assert result.exit_code == 1
    assert "its batch is fixed at 8: `--batch 8`" in result.stderr


@pytest.mark.parametrize("words", [(), ("--batch", "8")])
def test_a_file_of_a_fixed_batch_is_profiled_at_its_own(words: tuple[str, ...], tmp_path: Path) -> None:
    path = fixed_at(8, tmp_path / "fixed.onnx")
    result = run("profile", path, "--backend", "ort", *words, *SHORT, "--json")
    assert result.exit_code == 0, result.output
    assert ("its batch is fixed at 8, so that is the one profiled" in result.stderr) == (not words)
    (only,) = json.loads(result.stdout)["runs"]
    assert only["batch"] == 8
    assert only["rows"][0]["output_shape"] == [8, 4]


def test_files_of_two_fixed_batches_are_no_comparison(tmp_path: Path) -> None:
    first, second = fixed_at(8, tmp_path / "eight.onnx"), fixed_at(2, tmp_path / "two.onnx")
    result = run("profile", first, "--against", second, "--backend", "ort", *SHORT)
    assert result.exit_code == 1
    assert "eight.onnx is fixed at batch 8, two.onnx is fixed at batch 2" in result.stderr


@pytest.mark.parametrize(
    ("shape", "said"), [([1, 3, "h", "w"], "leaves more than the batch open"), (None, "no shape")]
)
def test_open_shapes_are_refused_with_what_to_do(shape: list[Any] | None, said: str, tmp_path: Path) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"], name="relu")
    path = model_of([node], [value("x", shape)], [value("y", shape)], tmp_path / "open.onnx")  # type: ignore[arg-type]
    result = run("profile", path, "--backend", "ort", *SHORT)
    assert result.exit_code == 1
    assert said in result.stderr


UNSTEADY = """
import itertools
import time

from torch import nn
from toolkit.models import ModelSpec


class Unsteady(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten, self.fc, self.calls = nn.Flatten(), nn.Linear(784, 10), itertools.count(1)

    def forward(self, x):
        time.sleep(next(self.calls) * 5e-4)
        return self.fc(self.flatten(x))


MODELS = ModelSpec(name="unsteady", family="t", input_shape=(1, 28, 28), build=lambda c, k: Unsteady())
"""


def test_strict_exits_with_4_and_says_what_is_red(tmp_path: Path) -> None:
    file = tmp_path / "unsteady.py"
    file.write_text(UNSTEADY)
    words = ("profile", "unsteady", "--untrained", "--model-file", file, "--artifacts", tmp_path)
    result = run(*words, "--backend", "pytorch", "--strict", *SHORT)
    assert result.exit_code == 4, result.output
    assert "--strict: pytorch: window medians spread over" in result.output
    assert "between the nodes" in result.output  # the table comes before the gate


def test_a_call_that_outlasts_the_duration_is_announced_and_timed_three_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.profiling.bench.PATIENCE_S", 1.0)
    file = tmp_path / "unsteady.py"
    file.write_text(UNSTEADY.replace("next(self.calls) * 5e-4", "0.25"))
    words = ("profile", "unsteady", "--untrained", "--model-file", file, "--artifacts", tmp_path)
    result = run(*words, "--backend", "pytorch", "--duration", "0.1")
    assert result.exit_code == 0, result.output
    told = re.search(
        r"pytorch (\d\.\d) s a call: about .* s to come; Ctrl-C keeps what is comp", result.stderr
    )
    noted = re.search(r"one call lasts (\d\.\d) s: 3 runs only", result.output)
    assert told is not None
    assert noted is not None
    assert min(float(told[1]), float(noted[1])) >= 0.25  # as long as it sleeps, or longer on a busy machine
    assert "warm-up left out: a call outlasts the duration" in result.output


def test_a_call_of_a_good_share_of_the_duration_can_be_gated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, path = tmp_path / "unsteady.py", tmp_path / "p.json"
    file.write_text(UNSTEADY.replace("next(self.calls) * 5e-4", "0"))
    # each call lasts 80 ms, however busy the machine is
    monkeypatch.setattr(latency, "time", Clock(tick_s=0.08))
    monkeypatch.setattr(latency, "timed", lambda call, runs: latency.timed_for(call, 0.0))
    words = ("profile", "unsteady", "--untrained", "--model-file", file, "--artifacts", tmp_path)
    result = run(*words, "--backend", "pytorch", "--duration", "0.25", "--output", path)
    assert result.exit_code == 0, result.output
    result = run("compare", path, path, "--fail-over", "5%", "--json")
    assert result.exit_code == 0, result.output
    assert {d["verdict"] for d in json.loads(result.stdout)["differences"]} == {"no change"}


def test_two_networks_are_columns_under_their_names_each_held_against_its_own(root: Path) -> None:
    words = ("profile", "lenet", "lenet-relu", "--untrained", "--backend", "pytorch,ort", "--json")
    result = run(*words, "--artifacts", root, *SHORT)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["model"] == "lenet, lenet-relu"
    (only,) = found["runs"]
    assert list(only["backends"]) == ["pytorch", "ort", "pytorch:lenet-relu", "ort:lenet-relu"]
    assert only["reference"] == {"ort": "pytorch", "ort:lenet-relu": "pytorch:lenet-relu"}
    assert all(difference < 1e-4 for difference in only["agreement"].values())


def product(name: str, width: int, path: Path) -> Path:
    """Write a network of one matrix product of (1, width) and (width, width), named alike in each file."""
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [width, width], [0.5] * width * width)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name=name)
    made = onnx.load(model_of([node], [value("x", [1, width])], [value("y", [1, width])], path))
    made.graph.initializer.append(weight)
    onnx.save(made, path)
    return path


def test_each_network_is_rated_by_its_own_work(tmp_path: Path) -> None:
    large, small = product("fc", 512, tmp_path / "large.onnx"), product("fc", 8, tmp_path / "small.onnx")
    result = run("profile", large, small, "--backend", "ort", *SHORT, "--json")
    assert result.exit_code == 0, result.output
    (only,) = json.loads(result.stdout)["runs"]
    (row,) = [row for row in only["rows"] if row["modules"]]
    assert row["macs"] is None
    assert row["output_shape"] is None
    for key, width in (("ort", 512), ("ort:small", 8)):
        cell = row[key]
        assert cell["macs"] == width * width
        assert cell["ideal_bytes"] == 4 * (width * width + 2 * width)
        assert cell["gflops"] == pytest.approx(2 * width * width / cell["latency_ms"] / 1e6)


def test_answers_that_are_no_numbers_are_said(tmp_path: Path) -> None:
    shape = [value("x", [1, 4])], [value("y", [1, 4])]
    broken = model_of([onnx.helper.make_node("Log", ["x"], ["y"], name="log")], *shape, tmp_path / "log.onnx")
    sound = model_of(
        [onnx.helper.make_node("Relu", ["x"], ["y"], name="relu")], *shape, tmp_path / "relu.onnx"
    )
    result = run("profile", sound, broken, "--backend", "ort", *SHORT, "--json")
    assert result.exit_code == 0, result.output
    (only,) = json.loads(result.stdout)["runs"]
    assert only["agreement"] == {"ort:log": None}
    assert "ort:log's answers or ort's hold NaN or infinite numbers: check parity first" in only["findings"]
    assert "its answers hold NaN or infinite numbers" in only["backends"]["ort:log"]["notes"]


@pytest.mark.parametrize("option", ["--csv", "--html", "--trace", "--output"])
def test_a_report_that_cannot_be_written_is_found_before_anything_is_measured(
    option: str, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("a file, no folder")
    for place in (tmp_path / "file" / "report", Path("/proc/report")):
        result = run("profile", "lenet-maxpool", "--untrained", "--artifacts", root, *SHORT, option, place)
        assert result.exit_code == 1
        assert f"cannot write {place}: " in result.stderr
        assert "name another file" in result.stderr
        assert "timing" not in result.stderr


def test_a_report_never_overwrites_what_it_is_made_of(tmp_path: Path) -> None:
    times = tmp_path / "times.json"
    write_times(times, ["conv/Conv"], 1.0)
    before = times.read_bytes()
    result = run("profile", "--import-times", times, "--output", times)
    assert result.exit_code == 1
    assert "times.json is read here and would be overwritten: name another file" in result.stderr
    assert times.read_bytes() == before
