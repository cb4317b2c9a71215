"""Layers and times from other machines: TensorRT's recorded output, hand-written samples, ORT profiles."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from cnnkit import front_door
from tests.toolkit.profiling.conftest import Exported, aligned, write_times
from tests.toolkit.profiling.rows.test_matching import LIGHT
from tests.toolkit.profiling.test_result import places, replaced
from toolkit.artifacts import Artifact
from toolkit.backends import BACKENDS, Availability, Backend, Engine, EngineOptions
from toolkit.errors import CnnkitError, CorruptError, GateError, NotFoundError
from toolkit.profiling.columns import open_any
from toolkit.profiling.comparing.differences import compare
from toolkit.profiling.foreign import import_profile, recognised
from toolkit.profiling.profile import profile
from toolkit.profiling.reports.comparison import markdown_report, summary, verdict_text
from toolkit.profiling.result import Profile
from toolkit.tensorrt.layers import parts_of, read_layers, read_times
from toolkit.traces import ExecutedNode, ForeignFile, ForeignFiles, ForeignTrace, Trace

KERNELS = '[{"cat":"Node","name":"%s_kernel_time","ts":1,"dur":3,"ph":"X","args":{"op_name":"Conv"}}]'
TIMED = '[{"count": 1}, {"name": "a", "averageMs": 1, "medianMs": 1}]'


@pytest.fixture
def recorded(shared: Path) -> Path:
    """Return the folder with what TensorRT 10 printed on a real GPU; skip where it is not here."""
    folder = shared / "fixtures" / "tensorrt"
    if not folder.is_dir():
        pytest.skip("../shared/fixtures/tensorrt is not here")
    return folder


def nodes_on_rows(found: Profile) -> list[str]:
    return [node for row in found.runs[0].rows for cell in row.cells.values() for node in cell.nodes]


def test_each_recorded_layer_stands_on_one_row(recorded: Path) -> None:
    path = recorded / "inspector-mnist-cnn.log"
    layers = read_layers(path.read_text(errors="replace"), what="log")
    found = import_profile(path, None, None, batch=1)
    assert sorted(nodes_on_rows(found)) == sorted(layer.name for layer in layers)
    column = found.runs[0].backends["trt"]
    assert column.coverage == 1
    assert column.latency_ms is None
    assert not column.measured


def test_each_recorded_time_stands_on_one_row_and_the_sum_is_kept(recorded: Path) -> None:
    times = recorded / "profiler-mnist-cnn.log"
    names, runs = read_times(times.read_text(errors="replace"), what="log")
    found = import_profile(recorded / "inspector-mnist-cnn.log", times, None, batch=1)
    assert sorted(nodes_on_rows(found)) == sorted(names)
    column = found.runs[0].backends["trt"]
    assert column.layer_sum_ms is not None
    assert column.layout_ms is not None
    # a row is the median of its windows' sums: with several runs the sums agree as medians do
    whole = float(np.median(np.array(runs).sum(axis=1)))
    assert column.layer_sum_ms + column.layout_ms == pytest.approx(whole, rel=0.15)
    assert column.coverage == pytest.approx(6 / 8)  # two kernels of another build name no tensors, one moves


def test_a_fused_recorded_layer_joins_its_modules(recorded: Path) -> None:
    found = import_profile(recorded / "inspector-mnist-cnn.log", None, None, batch=1)
    rows = {row.modules for row in found.runs[0].rows}
    assert ("node_conv2d", "node_relu") in rows
    assert ("node_max_pool2d",) in rows


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("conv1/Conv + act1/Relu", ("conv1/Conv", "act1/Relu")),
        ("a/Conv || b/Conv", ("a/Conv", "b/Conv")),
        ("{ForeignNode[fc1/Gemm...fc3/Gemm]}", ("fc1/Gemm", "fc3/Gemm")),
        ("PWN(a/Sigmoid, b/Mul)", ("a/Sigmoid", "b/Mul")),
        ("Reformatting CopyNode for Input Tensor 0 to conv1/Conv", ("conv1/Conv",)),
        ("conv1/Conv + act1/Relu input reformatter 0", ("conv1/Conv", "act1/Relu")),
        ("{conv1/7x7_s2,conv1/relu_7x7,pool1/3x3_s2}", ("conv1/7x7_s2", "conv1/relu_7x7", "pool1/3x3_s2")),
        ("node_linear_myl5_2", ("node_linear",)),
        ("conv1/Conv + act1/Relu [profile 1]", ("conv1/Conv", "act1/Relu")),
        ("__myl_MaxSubExp_myl5_3", ()),
    ],
)
def test_joined_layer_names_are_taken_apart(name: str, parts: tuple[str, ...]) -> None:
    assert parts_of(name) == parts


# written by hand to trtexec's documented shapes (10.x one key, 11.x two): they prove this parser only
TEN = [
    {
        "Name": "conv1/Conv + act1/Relu",
        "LayerType": "CaskConvolution",
        "Inputs": [
            {"Name": "input", "Dimensions": [1, 1, 28, 28], "Format/Datatype": "Row major linear FP32"}
        ],
        "Outputs": [
            {"Name": "relu", "Dimensions": [1, 6, 28, 28], "Format/Datatype": "Row major linear FP32"}
        ],
        "Metadata": "[ONNX Layer: conv1/Conv]\u001e[ONNX Layer: act1/Relu]",
    },
    {
        "Name": "Reformatting CopyNode for Input Tensor 0 to pool1/MaxPool",
        "LayerType": "Reformat",
        "Inputs": [],
        "Outputs": [],
    },
    {"Name": "pool1/MaxPool", "LayerType": "CaskPooling", "Inputs": [], "Outputs": []},
    {"Name": "{ForeignNode[conv2/Conv...fc3/Gemm]}", "LayerType": "Myelin", "Inputs": [], "Outputs": []},
]
ELEVEN = [
    {
        **layer,
        "Outputs": [
            {"Name": t["Name"], "Dimensions": t["Dimensions"], "Format": "Linear", "Datatype": "FP32"}
            for t in layer["Outputs"]
            if isinstance(t, dict)
        ],
    }
    for layer in TEN
]


@pytest.mark.parametrize(
    "data",
    [
        {"Layers": TEN, "Bindings": ["input", "logits"]},
        {"Layers": ELEVEN, "I/O Tensors": ["input", "logits"]},
    ],
    ids=["10.x", "11.x"],
)
def test_trtexec_layers_land_on_the_modules_of_the_graph(
    data: object, exported: Exported, tmp_path: Path
) -> None:
    layers, times = tmp_path / "layers.json", tmp_path / "times.json"
    layers.write_text(json.dumps(data))
    names = [str(layer["Name"]) for layer in TEN]
    write_times(times, names, 0.5)
    graph = exported("lenet-maxpool").path
    found = import_profile(layers, times, str(graph), batch=1)
    rows = found.runs[0].rows
    assert sorted(nodes_on_rows(found)) == sorted(names)
    assert ("conv1", "act1") in {row.modules for row in rows}
    region = next(row for row in rows if "fc3" in row.modules)
    # the whole region between the first and the last node that the kernel names
    assert {"conv2", "act2", "pool2", "fc1", "fc2", "fc3"} <= set(region.modules)
    moved = next(row for row in rows if row.type == "layout")
    assert moved.caused_by == "pool1"
    assert found.runs[0].backends["trt"].layer_sum_ms == pytest.approx(1.5)


def ort_profile(path: Path, folder: Path, *, level: str = "ALL", batch: int = 1, runs: int = 5) -> Path:
    """Run an ONNX file under ONNX Runtime's own profiler, as another program would; return the profile."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.enable_profiling = True
    settings.profile_file_prefix = str(folder / f"ort-{level}-{batch}")
    settings.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    session = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    for _ in range(runs):
        session.run(None, {given.name: np.zeros((batch, *given.shape[1:]), np.float32)})
    return Path(session.end_profiling())


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED", "ALL"])
def test_an_ort_profile_from_elsewhere_lands_on_the_modules(
    level: str, exported: Exported, tmp_path: Path
) -> None:
    path = exported("lenet-maxpool").path
    found = import_profile(ort_profile(path, tmp_path, level=level), None, str(path), batch=1)
    column = found.runs[0].backends["ort"]
    assert column.coverage == 1.0
    assert column.time_coverage == 1.0
    assert column.layer_sum_ms
    assert column.profiled_runs == 4
    rows = found.runs[0].rows
    modules = [name for row in rows for name in row.modules]
    assert len(modules) == len(set(modules))
    first = next(row for row in rows if "conv1" in row.modules)
    assert first.modules == (("conv1",) if level == "BASIC" else ("conv1", "act1"))
    assert first.cells["ort"].match == "name"


@pytest.mark.parametrize("name", ["resnet50", "inception_v2"])
def test_an_ort_profile_has_the_rows_of_a_trace_that_tells_the_tensors(name: str, tmp_path: Path) -> None:
    artifact = open_any(LIGHT / f"light_{name}.onnx")
    wanted = {
        frozenset(module.name for module in row.modules)
        for row in aligned(artifact, own=True).rows
        if row.nodes and row.modules
    }
    path = ort_profile(artifact.path, tmp_path, runs=2)
    found = import_profile(path, None, str(artifact.path), batch=1).runs[0]
    assert {frozenset(r.modules) for r in found.rows if r.modules and r.cells["ort"].nodes} == wanted
    assert found.backends["ort"].coverage == 1.0


def test_the_batch_of_an_ort_profile_is_the_one_that_its_shapes_tell(
    exported: Exported, tmp_path: Path
) -> None:
    path = exported("lenet-maxpool").path
    taken = ort_profile(path, tmp_path, batch=4, runs=2)
    found = import_profile(taken, None, str(path)).runs[0]
    assert found.batch == 4
    assert sum(row.macs or 0 for row in found.rows) == 4 * 416_520
    assert import_profile(taken, None, None).runs[0].batch == 4
    for model in (str(path), None):
        with pytest.raises(CnnkitError, match="was taken at batch 4, not 1: `--batch 4`"):
            import_profile(taken, None, model, batch=1)


def test_an_ort_profile_of_another_file_is_refused(exported: Exported, tmp_path: Path) -> None:
    path = exported("lenet-maxpool").path
    taken = ort_profile(path, tmp_path, batch=4, runs=2)
    fixed = onnx.load(path)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    other = tmp_path / "fixed.onnx"
    onnx.save(fixed, other)
    with pytest.raises(CnnkitError, match=r"fixed\.onnx is fixed at 2"):
        import_profile(taken, None, str(other))


def test_an_ort_profile_of_another_network_is_refused(exported: Exported, tmp_path: Path) -> None:
    taken = ort_profile(exported("lenet-maxpool").path, tmp_path, runs=2)
    with pytest.raises(CnnkitError, match=r"is another network's profile: 0% .* of light_squeezenet\.onnx"):
        import_profile(taken, None, str(LIGHT / "light_squeezenet.onnx"))


def test_a_kernel_that_is_called_twice_a_run_costs_both_calls(tmp_path: Path) -> None:
    def event(name: str, start: int, duration: int, kind: str = "Node") -> dict[str, object]:
        return {"cat": kind, "name": name, "ts": start, "dur": duration, "args": {"op_name": "Relu"}}

    events = []
    for start in (0, 1000, 2000):
        events.append(event("model_run", start, 900, "Session"))
        events += [event("body_kernel_time", start + 100 * call, 40) for call in (1, 2)]
        events.append(event("tail_kernel_time", start + 500, 10))
    path = tmp_path / "loop.json"
    path.write_text(json.dumps(events))
    run = import_profile(path, None, None, batch=1).runs[0]
    assert [row.cells["ort"].latency_ms for row in run.rows[:2]] == [pytest.approx(0.08), pytest.approx(0.01)]
    assert run.backends["ort"].profiled_runs == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "neither the inspector's JSON nor its text"),
        ('{"Layers": []}', "holds no layers"),
        ('{"Layers": [{"LayerType": "x"}]}', "a layer without a name"),
        ('[{"cat": "Node", "name": "x"}]', "holds no kernel's time"),
        ('[{"cat": "Node", "name": "conv_kernel_time"', "cut short or damaged"),
    ],
)
def test_damaged_files_are_refused_in_words(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(CorruptError, match=said):
        import_profile(path, None, None, batch=1)


def test_damaged_times_and_missing_files_are_refused_in_words(tmp_path: Path) -> None:
    times = tmp_path / "times.json"
    times.write_text('[{"count": 10}]')
    with pytest.raises(CorruptError, match="holds no layer's time"):
        import_profile(None, times, None, batch=1)
    times.write_text('[{"name": "a", "averageMs": "fast"}]')
    with pytest.raises(CorruptError, match="no profile of trtexec"):
        import_profile(None, times, None, batch=1)
    with pytest.raises(NotFoundError, match="no file"):
        import_profile(tmp_path / "absent.json", None, None, batch=1)


def test_layers_that_take_no_time_are_kept(tmp_path: Path) -> None:
    times = tmp_path / "times.json"
    write_times(times, ["conv1/Conv", "act1/Relu"], 0.0)
    found = import_profile(None, times, None, batch=1)
    assert [row.modules for row in found.runs[0].rows] == [("conv1",), ("act1",)]
    assert found.runs[0].backends["trt"].layer_sum_ms == 0.0


def events_of(**args: object) -> list[dict[str, object]]:
    """Return what ONNX Runtime writes of two runs of one node, with more facts about its calls."""
    node = {"cat": "Node", "name": "fc_kernel_time", "dur": 20, "args": {"op_name": "Gemm", **args}}
    run = {"cat": "Session", "name": "model_run", "dur": 30, "args": {}}
    return [{**entry, "ts": 100 * start} for start in range(2) for entry in (run, node)]


TIMES = [{"count": 2}, {"name": "a", "averageMs": 0.5, "medianMs": 0.4}, {"name": "b", "averageMs": 0.1}]
SHAPES = [{"float": [1, 10]}]
ODD = (
    None,
    True,
    -1,
    2.5,
    float("nan"),
    float("inf"),
    10**400,
    "text",
    [],
    ["text"],
    {},
    {"key": "text"},
    [[]],
)


@pytest.mark.parametrize(
    ("data", "times"),
    [
        (events_of(output_type_shape=SHAPES, input_type_shape=SHAPES), False),
        ({"Layers": TEN[:1], "Bindings": ["input", "logits"]}, False),
        ({"Layers": ELEVEN[:1]}, False),
        ({"Layers": ["conv1/Conv", "fc1/Gemm"]}, False),
        (TIMES, True),
    ],
    ids=["a profile", "10.x", "11.x", "names", "times"],
)
def test_a_file_with_any_one_value_replaced_is_read_or_refused_in_one_line(
    data: object, times: bool, tmp_path: Path
) -> None:
    path = tmp_path / "odd.json"
    said = []
    for place, value in itertools.product(places(data), ODD):
        path.write_text(json.dumps(replaced(data, place, value)))
        try:
            import_profile(None if times else path, path if times else None, None)
        except CnnkitError as error:
            said.append(str(error))
    assert len(said) > len(ODD)
    assert all(len(text.splitlines()) == 1 and "odd.json" in text for text in said)


TABLE = """=== Profile (10 iterations ) ===
   Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer
       6.36       0.0053       0.0051       100.0   conv
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Timing: 1.2.3us -> a", r"tells the time '1\.2\.3' of 'a'"),
        ("Timing: 1us -> a\nTiming: -2us -> b", "tells the time '-2' of 'b'; a number of 0 or more"),
        ("Timing: nanus -> a", "tells the time 'nan' of 'a'"),
        (TABLE.replace("0.0051", "-0.005"), "tells the time '-0.005' of 'conv'"),
        (TABLE.replace("0.0051", "nan"), "tells the time 'nan' of 'conv'"),
        ('[{"name": "a", "medianMs": NaN}]', "a finite number belongs there"),
        ('[{"name": "a", "medianMs": -1}]', ">= 0.0 belongs there"),
        (
            "Timing: 1us -> a\nTiming: 1us -> b\nTiming: 1us -> a\nTiming: 1us -> c",
            "no run in which every layer",
        ),
        ("[" * 100_000, "no readable JSON"),
        ('[{"name": "a", "medianMs": null, "count": 1}]', "a layer without a time"),
    ],
)
def test_odd_times_are_refused_in_words(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "times.log"
    path.write_text(text)
    with pytest.raises(CorruptError, match=said):
        import_profile(None, path, None)


class Abacus(Backend):
    """A runtime that writes `bead: milliseconds` lines."""

    name, title, summary, platform = "abacus", "Abacus", "beads on wires", "abacus"
    formats: ClassVar[dict[str, str | None]] = {"abacus": None}
    foreign = ("an abacus's lines",)

    def availability(self) -> Availability:
        return Availability(available=False)

    def open(self, artifact: Artifact, options: EngineOptions) -> Engine:
        raise AssertionError("nothing is opened")

    def read_foreign(self, files: ForeignFiles) -> ForeignTrace | None:
        file = files.layers
        if file is None or not file.text.startswith("bead: "):
            return None
        times = np.array([[float(file.text.removeprefix("bead: "))]])
        return ForeignTrace(trace=Trace(nodes=(ExecutedNode(name="bead", type="x"),), node_ms=times), batch=3)


def test_each_backend_knows_its_own_files() -> None:
    def given(text: str) -> ForeignFiles:
        return ForeignFiles(layers=ForeignFile(path=Path("x.txt"), text=text), times=None)

    every = [*BACKENDS.all(), Abacus()]
    backend, found = recognised(given("bead: 0.5"), Path("x.txt"), every)
    assert (backend.name, found.batch) == ("abacus", 3)
    with pytest.raises(CorruptError, match=r"x\.txt is neither an abacus's lines nor "):
        recognised(given("bread"), Path("x.txt"), every)
    with pytest.raises(CorruptError, match=r"x\.txt is known to no backend"):
        recognised(given("bread"), Path("x.txt"), [])
    with pytest.raises(CorruptError, match=r"x\.txt is not an abacus's lines"):
        recognised(given("bread"), Path("x.txt"), [Abacus()])


LAYER = (
    "Name: conv + relu, LayerType: CaskConvolution, "
    "Inputs: [ { Name: x, Dimensions: [4,3,8,8], Format/Datatype: Row major linear FP32 }], "
    "Outputs: [ { Name: y, Dimensions: [4,16,8,8], Format/Datatype: Row major linear FP16 }], "
    "ParameterType: Convolution, TacticName: t\n"
)
TABLE = """=== Profile (1200 iterations ) ===
   Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer
       6.36       0.0053       0.0052       9.4   __myl_Move_myl0_0
      61.20       0.0510       0.0508      90.6   conv1/Conv + relu1/Relu
      67.56       0.0563       0.0561     100.0   Total
"""


@pytest.mark.parametrize("prefix", ["", "[V] ", "[11/28/2026-10:00:00] [V] [TRT] "], ids=repr)
def test_layers_as_text_tell_type_shape_and_batch(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "layers.txt"
    path.write_text(f"{prefix}{LAYER}")
    found = import_profile(path, None, None)
    (cell,) = [cell for row in found.runs[0].rows for cell in row.cells.values()]
    assert (found.runs[0].batch, cell.dtype) == (4, "FP16")
    (node,) = read_layers(path.read_text(), what="log")
    assert node.output_shape == (4, 16, 8, 8)


def test_layers_in_the_log_of_tensorrt_8_tell_type_shape_and_batch(tmp_path: Path) -> None:
    path = tmp_path / "build.log"
    path.write_text(
        "[08/01/2023-10:00:00] [V] [TRT] Engine Layer Information:\n"
        "Layer(CaskConvolution): conv + relu, Tactic: 0x1, x[Float(4,3,8,8)] -> y[Half(4,16,8,8)]\n"
        "[V] Layer(CaskPooling): pool, Tactic: -3, y (Half[4,16,8,8]) -> z (Half[4,16,4,4])\n"
    )
    found = import_profile(path, None, None)
    assert found.runs[0].batch == 4
    told = [(row.modules, row.output_shape, row.cells["trt"].dtype) for row in found.runs[0].rows]
    assert told == [(("conv", "relu"), (4, 16, 8, 8), "Half"), (("pool",), (4, 16, 4, 4), "Half")]


def test_open_extents_of_a_log_are_no_shape_and_cost_no_tensor() -> None:
    (node,) = read_layers(
        "[05/09/2022-06:10:32] [TRT] [V] Engine Layer Information:\n"
        "Layer(Shuffle): Transpose_51, Tactic: 0, x[Float(-8,256,-10,19)] -> y[Float(-8,-10,4864)]\n",
        what="log",
    )
    assert (node.inputs, node.outputs, node.output_shape, node.output_dtype) == (
        ("x",),
        ("y",),
        None,
        "Float",
    )


def test_a_table_ends_with_its_total_and_colours_are_no_part_of_a_log() -> None:
    table = (
        "\x1b[32m[I] === Profile (12 iterations) ===\x1b[0m\n"
        "[I]    Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer\n"
        "[I]        6.36       0.0053       0.0054       9.4   a\n"
        "[I]        6.36       0.0053       0.0053     100.0   Total\n"
        "&&&& PASSED TensorRT.trtexec [TensorRT v8601] # trtexec --onnx=8.onnx\n"
    )
    assert read_times(table, what="log") == (("a",), [[0.0054]])


@pytest.mark.parametrize("prefix", ["", "[06/26/2020-13:30:20] [I] "], ids=repr)
@pytest.mark.parametrize("median", [True, False])
def test_older_tables_have_their_names_first(median: bool, prefix: str) -> None:
    rows = [("Layer", "Time (ms)", "Avg. Time (ms)", *(["Median Time (ms)"] if median else []), "Time %")]
    rows += [
        (name, total, "0.01", *(["0.0052"] if median else []), share)
        for name, total, share in (
            ("[HostToDeviceCopy 0]", "20.00", "9.4"),
            ("conv1 + relu 1", "28.00", "90.6"),
            ("Total", "48.00", "100.0"),
        )
    ]
    lines = [
        "=== Profile (4000 iterations ) ===",
        *("   ".join(cell.rjust(12) for cell in row) for row in rows),
    ]
    names, runs = read_times("".join(f"{prefix}{line}\n" for line in lines), what="log")
    assert names == ("[HostToDeviceCopy 0]", "conv1 + relu 1")
    assert runs == [[0.0052, 0.0052] if median else [0.005, 0.007]]


@pytest.mark.parametrize("prefix", ["", "[I] "], ids=repr)
def test_the_table_that_people_post_gives_each_layers_median(prefix: str) -> None:
    text = "".join(f"{prefix}{line}\n" for line in TABLE.splitlines())
    names, runs = read_times(text, what="log")
    assert names == ("__myl_Move_myl0_0", "conv1/Conv + relu1/Relu")
    assert runs == [[0.0052, 0.0508]]


def test_what_a_file_holds_tells_what_it_is_whichever_option_it_came_by(tmp_path: Path) -> None:
    layers, times = tmp_path / "a", tmp_path / "b"
    layers.write_text(LAYER)
    times.write_text(json.dumps([{"count": 1}, {"name": "conv + relu", "averageMs": 0.25}]))
    for first, second in ((layers, times), (times, layers)):
        (row,) = import_profile(first, second, None).runs[0].rows
        (cell,) = row.cells.values()
        assert (cell.latency_ms, cell.dtype) == (0.25, "FP16")


def test_a_log_of_layers_and_times_is_read_for_both(tmp_path: Path) -> None:
    log, other = tmp_path / "trtexec.log", tmp_path / "other.json"
    table = TABLE.replace("conv1/Conv + relu1/Relu", "conv + relu")
    log.write_text(f"[I] Layers:\n{LAYER}\n\n{table}")
    run = import_profile(log, None, None).runs[0]
    row = next(row for row in run.rows if row.modules == ("conv", "relu"))
    assert (row.cells["trt"].latency_ms, row.cells["trt"].dtype) == (0.0508, "FP16")
    assert (
        "1 of 2 timed layers are not in trtexec.log: its layers and its times" in run.backends["trt"].notes[0]
    )
    other.write_text(json.dumps([{"count": 1}, {"name": "conv + relu", "averageMs": 0.25}]))
    (row,) = import_profile(log, other, None).runs[0].rows  # times that were named take the log's place
    assert row.cells["trt"].latency_ms == 0.25


def test_a_constant_that_two_layers_borrow_joins_nothing() -> None:
    first, second = (
        parts_of(f"PWN(/a/Constant{n} + Broadcast_4, PWN(/{n or 'a'}/Mul))") for n in ("", "_clone_1")
    )
    assert first == ("/a/Mul",)
    assert not set(first) & set(second)


EVENT = {"cat": "Node", "name": "a_kernel_time", "ts": 1, "dur": 3, "ph": "X", "args": {"op_name": "Conv"}}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f"[{json.dumps(EVENT)},\n", ["a"]),
        (f"[{json.dumps(EVENT)}, {json.dumps(EVENT)[:40]}", ["a"]),
        (f"\ufeff[{json.dumps(EVENT)}]", ["a"]),
        (json.dumps([{**EVENT, "args": None}]), ["a"]),
        (json.dumps([{**EVENT, "args": {"output_type_shape": [{"float": ["N", 3]}]}}]), ["a"]),
    ],
    ids=["unclosed", "cut", "mark of UTF-8", "no arguments", "open shape"],
)
def test_odd_profiles_of_onnx_runtime_are_read_as_far_as_they_go(
    tmp_path: Path, text: str, names: list[str]
) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text, encoding="utf-8")
    found = import_profile(path, None, None)
    assert [row.modules for row in found.runs[0].rows] == [(name,) for name in names]


@pytest.mark.parametrize("dur", [None, float("nan"), -1])
def test_a_time_that_is_none_is_never_printed(tmp_path: Path, dur: float | None) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps([{**EVENT, "dur": dur}]))
    with pytest.raises(CorruptError, match=r"no kernel's time|dur"):
        import_profile(path, None, None)


def test_nodes_of_one_scope_of_another_exporter_have_rows_of_their_own(tmp_path: Path) -> None:
    names = ["PWN(/a/Constant + Broadcast_1, PWN(/a/Mul))", "/a/MatMul", "/b/Relu", "/b/c/Conv"]
    write_times(tmp_path / "times.json", names, 1.0)
    found = import_profile(tmp_path / "times.json", None, None, batch=1)
    assert [row.modules for row in found.runs[0].rows] == [("/a/Mul",), ("/a/MatMul",), ("/b",), ("/b/c",)]


def test_a_kernel_whose_name_lists_only_moves_is_layout(tmp_path: Path) -> None:
    write_times(tmp_path / "times.json", ["conv/Conv", "__myl_MoveTran_myl0_3", "__myl_TranAdd_myl0_4"], 1.0)
    (run,) = import_profile(tmp_path / "times.json", None, None, batch=1).runs
    assert [(row.type, row.caused_by) for row in run.rows] == [("layer", None), ("layout", "conv")]
    assert run.rows[0].cells["trt"].nodes == ("conv/Conv", "__myl_TranAdd_myl0_4")


def test_a_file_in_the_wrong_place_is_told_what_it_is(exported: Exported, tmp_path: Path) -> None:
    times, own = tmp_path / "times.json", tmp_path / "own.json"
    write_times(times, ["conv"], 1.0)
    own.write_text(json.dumps(import_profile(times, None, None).to_json()))
    with pytest.raises(CorruptError, match=r"own\.json is a profile of cnnkit: `cnnkit compare` takes it"):
        import_profile(own, None, None)
    with pytest.raises(
        CorruptError, match=r"times\.json is what TensorRT wrote .*`cnnkit profile --import .*NEW\.json"
    ):
        compare(own, times)
    with pytest.raises(CnnkitError, match=r"times\.json is what TensorRT wrote .* no network"):
        profile(times)
    graph = exported("lenet-maxpool").path
    with pytest.raises(CorruptError, match=r"is an ONNX graph: `cnnkit profile"):
        import_profile(graph, None, None)


@pytest.mark.parametrize(
    ("layers", "times", "said"),
    [
        ('{"Layers": [{"Na', None, "layers is cut short or damaged: no readable JSON"),
        ('{"Layers": ["a"]}', '[{"co', "times is cut short or damaged: no readable JSON"),
        ('{"Layers": ["a"]}', "a text", "times is neither the inspector's JSON"),
        ('{"Layers": ["a"]}', KERNELS % "a", "layers and .*times do not go together"),
        (KERNELS % "a", TIMED, "layers and .*times do not go together"),
        ('{"traceEvents": []}', None, "layers is a trace for viewers"),
    ],
)
def test_the_file_that_is_at_fault_is_named(
    layers: str, times: str | None, said: str, tmp_path: Path
) -> None:
    (tmp_path / "layers").write_text(layers)
    (tmp_path / "times").write_text(times or "")
    with pytest.raises(CorruptError, match=said):
        import_profile(tmp_path / "layers", tmp_path / "times" if times else None, None)


def test_imports_of_one_window_compare_by_plain_differences_and_say_so(tmp_path: Path) -> None:
    profiles = []
    for name, milliseconds in (("a", 1.0), ("b", 1.3), ("c", 1.02)):
        write_times(tmp_path / f"{name}.json", ["conv/Conv", "fc/Gemm"], milliseconds)
        profiles.append(import_profile(tmp_path / f"{name}.json", None, None))
    first, second, third = profiles
    found = compare(first, second, fail_over=0.05)
    assert [(d.verdict, d.plain) for d in found.differences] == [("slower", True)] * 2
    assert verdict_text(found.differences[0]) == "slower, plain difference"
    assert "by plain differences: an import holds one number a row" in summary(found)
    with pytest.raises(GateError, match=r"conv on trt \+30\.0%.* \(plain differences of imports\)"):
        found.require()
    assert {d.verdict for d in compare(first, third, fail_over=0.05).require().differences} == {"no change"}


def test_runs_at_several_batches_are_kept_apart(exported: Exported, tmp_path: Path) -> None:
    import onnxruntime

    path = exported("lenet-maxpool").path
    settings = onnxruntime.SessionOptions()
    settings.enable_profiling, settings.profile_file_prefix = True, str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(path, settings)
    for batch in (1, 8, 1, 8, 8):
        session.run(None, {session.get_inputs()[0].name: np.zeros((batch, 1, 28, 28), np.float32)})
    made = Path(session.end_profiling())
    for model in (None, str(path)):
        with pytest.raises(CnnkitError, match=r"holds runs at batch 1 and 8: `--batch 1` reads those of one"):
            import_profile(made, None, model)
        for batch, runs in ((1, 1), (8, 2)):  # the first of each pays for arenas and packing
            (run,) = import_profile(made, None, model, batch=batch).runs
            assert (run.batch, run.backends["ort"].profiled_runs) == (batch, runs)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_other_systems_are_read_in_their_own_encoding(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "windows.json"
    path.write_text(KERNELS % "ä", encoding)
    assert nodes_on_rows(import_profile(path, None, None)) == ["ä"]


ODD_NAMES = ["a\nb", "a\x1b[31m", "[/]", "</script>", "\ud800", "\u202ex", "", "a|b", "x" * 300, "\U0001f600"]


def test_names_with_odd_signs_come_to_every_report_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    reports = {f"--{kind}": tmp_path / f"odd.{kind}" for kind in ("html", "csv", "trace", "output")}
    (event,) = json.loads(KERNELS % "x")
    events = [event | {"name": f"{name}_kernel_time", "ts": place} for place, name in enumerate(ODD_NAMES)]
    path.write_text(json.dumps(events))
    words = ["profile", "--import", path, "--top", "0", *itertools.chain.from_iterable(reports.items())]
    done = CliRunner().invoke(front_door.main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert "a\\nb" in done.stdout
    assert "\x1b" not in done.stdout
    assert all(report.read_text("utf-8") for report in reports.values())
    told = markdown_report(compare(reports["--output"], reports["--output"]))
    assert "| a\\nb |" in told
    assert "a∥b" in told
