"""Live tensors, peaks, rooflines, red flags and findings: each against figures worked out by hand."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from toolkit.profiling.judging.agreement import difference
from toolkit.profiling.judging.findings import with_findings
from toolkit.profiling.judging.roofline import exceeded, with_roofline
from toolkit.profiling.machine import Peaks
from toolkit.profiling.measuring.peaks import identity_of, peaks
from toolkit.profiling.reports.table import print_profile
from toolkit.profiling.result import Cell, Column, Latency, Profile, Row, Run
from toolkit.profiling.rows.cells import _judged
from toolkit.profiling.rows.memory import live_timeline
from toolkit.traces import ExecutedNode


def node(name: str, reads: str, writes: str, size: int | None) -> ExecutedNode:
    return ExecutedNode(
        name=name, type="x", inputs=tuple(reads.split()), outputs=(writes,), output_bytes=size
    )


def test_a_tensor_lives_until_its_last_reader() -> None:
    # a residual block: the branch's input stays alive until the sum has read it
    nodes = [
        node("a", "x", "t1", 100),
        node("b", "t1", "t2", 50),
        node("c", "t2", "t3", 60),
        node("add", "t1 t3", "y", 10),
    ]
    found = live_timeline(nodes, [(n.name,) for n in nodes])
    assert found == [("a", 100), ("b", 150), ("c", 210), ("add", 170)]


def test_each_output_lives_to_its_own_last_reader() -> None:
    halves = ExecutedNode(
        name="split",
        type="Split",
        inputs=("x",),
        outputs=("left", "right"),
        output_bytes=100,
        output_sizes=(70, 30),
    )
    nodes = [halves, node("a", "left", "t", 10), node("b", "t", "u", 10), node("add", "u right", "y", 5)]
    assert live_timeline(nodes, []) == [("split", 100), ("a", 110), ("b", 50), ("add", 45)]
    nodes[0] = dataclasses.replace(halves, output_sizes=())  # what each of them holds is not told
    assert live_timeline(nodes, []) == [("split", 100), ("a", 110), ("b", 120), ("add", 115)]


def test_a_networks_output_lives_to_the_end() -> None:
    nodes = [node("a", "x", "first", 100), node("b", "x", "t", 50), node("c", "t", "second", 10)]
    assert live_timeline(nodes, [], ("first", "second")) == [("a", 100), ("b", 150), ("c", 160)]


def test_where_nobody_tells_who_reads_what_no_life_is_made_up() -> None:
    nodes = [ExecutedNode(name=name, type="x", output_bytes=100) for name in "abc"]
    assert live_timeline(nodes, [(n.name,) for n in nodes]) == []


def test_an_unknown_size_leaves_the_timeline_unknown() -> None:
    assert live_timeline([node("a", "x", "t", None)], [("a",)]) == []


MACHINE = Peaks(
    threads=1,
    gflops={"fp32": 100.0, "bf16": None, "int8": 400.0},
    gbytes_s={"L2": 50.0, "memory": 10.0},
    cache_bytes={"L2": 1000},
)


def latency_of(median: float, *, spread: float = 0.01, stable: bool = True) -> Latency:
    return Latency(
        median=median,
        mean=median,
        p90=median,
        p95=median,
        p99=median,
        spread=spread,
        runs=10,
        windows=(median,) * 5,
        warmup_runs=5,
        stable=stable,
    )


def column(precision: str = "fp32", median: float = 1.0, **more: Any) -> Column:
    return Column(
        backend="ort",
        artifact=None,
        precision=precision,
        measured=True,
        device="cpu",
        latency_ms=latency_of(median),
        layer_sum_ms=median,
        **more,
    )


def profile_of(rows: tuple[Row, ...], columns: Mapping[str, Column]) -> Profile:
    return Profile(model="net", device="cpu", threads=1, runs=(Run(batch=1, backends=columns, rows=rows),))


def test_work_bound_and_memory_bound_rows_are_told_apart() -> None:
    rows = (
        # 2 × 10^8 operations at 100 GFLOP/s: 2 ms at least; it took 4
        Row(
            modules=("conv",),
            type="Conv2d",
            cells={"ort": Cell(latency_ms=4.0, macs=10**8, ideal_bytes=1000)},
        ),
        # 10 MB at 10 GB/s: 1 ms at least; it took 2
        Row(
            modules=("relu",),
            type="ReLU",
            cells={"ort": Cell(latency_ms=2.0, macs=0, ideal_bytes=10**7)},
        ),
    )
    found = with_roofline(profile_of(rows, {"ort": column()}), MACHINE).runs[0].rows
    conv, relu = found[0].cells["ort"], found[1].cells["ort"]
    assert (conv.bound, relu.bound) == ("compute", "memory")
    assert conv.attainable == pytest.approx(0.5)
    assert relu.attainable == pytest.approx(0.5)
    assert conv.gflops == pytest.approx(50.0)
    assert relu.gbytes_s == pytest.approx(5.0)


def test_a_column_is_held_against_the_peak_and_the_bytes_of_what_it_computes_in() -> None:
    machine = dataclasses.replace(MACHINE, gflops={"fp32": 100.0, "bf16": 200.0, "int8": 400.0})
    cell = Cell(latency_ms=4.0, macs=10**8, ideal_bytes=10**7)
    found = {}
    for precision in ("fp32", "fp16", "bf16", "int8"):
        row = Row(modules=("conv",), type="Conv2d", cells={"ort": cell})
        rated = (
            with_roofline(profile_of((row,), {"ort": column(precision)}), machine)
            .runs[0]
            .rows[0]
            .cells["ort"]
        )
        found[precision] = (rated.attainable, rated.gbytes_s)
    assert found == {"fp32": (0.5, 2.5), "fp16": (0.5, 2.5), "bf16": (0.25, 1.25), "int8": (0.125, 0.625)}


def test_rows_without_work_or_bytes_have_no_bound() -> None:
    row = Row(modules=("odd",), type="Odd", cells={"ort": Cell(latency_ms=1.0, ideal_bytes=10)})
    cell = with_roofline(profile_of((row,), {"ort": column()}), MACHINE).runs[0].rows[0].cells["ort"]
    assert cell.bound is None
    assert cell.gflops is None


def test_only_columns_that_ran_on_the_cpu_are_held_against_its_peaks() -> None:
    cells = {key: Cell(latency_ms=4.0, macs=10**8, ideal_bytes=1000) for key in ("ort", "trt")}
    columns = {"ort": column(), "trt": dataclasses.replace(column(), backend="trt", device="cuda")}
    row = Row(modules=("conv",), type="Conv2d", cells=cells)
    rated = with_roofline(profile_of((row,), columns), MACHINE)
    found = rated.runs[0].rows[0].cells
    assert found["ort"].bound == "compute"
    assert found["trt"] == cells["trt"]
    console = Console(record=True, file=StringIO(), width=118)
    print_profile(rated, console)
    printed = console.export_text()
    assert "ort (fp32)" in printed
    assert "trt (fp32, cuda)" in printed


def test_small_data_are_held_against_the_cache() -> None:
    assert MACHINE.bandwidth(500) == 50.0
    assert MACHINE.bandwidth(5000) == 10.0


def test_kept_peaks_are_used_and_damaged_or_old_ones_measured_anew(tmp_path: Path) -> None:
    path = tmp_path / "peaks-1.json"
    kept = {
        "identity": dataclasses.asdict(identity_of(1)),
        "measured": time.time(),
        "peaks": dataclasses.asdict(MACHINE),
    }
    path.write_text(json.dumps(kept))
    assert peaks(1, folder=tmp_path) == MACHINE
    for text in ("{", json.dumps({**kept, "measured": 0.0})):
        path.write_text(text)
        found = peaks(1, folder=tmp_path)
        assert found != MACHINE
        assert (found.gflops["fp32"] or 0) > 0
        assert found.gbytes_s["memory"] > 0
        assert peaks(1, folder=tmp_path) == found


def test_measuring_anew_keeps_the_larger_peaks(tmp_path: Path) -> None:
    high = dataclasses.replace(MACHINE, gflops={"fp32": 1e9, "bf16": None, "int8": 1e-9})
    kept = {
        "identity": dataclasses.asdict(identity_of(1)),
        "measured": time.time() - 600,
        "peaks": dataclasses.asdict(high),
    }
    (tmp_path / "peaks-1.json").write_text(json.dumps(kept))
    found = peaks(1, folder=tmp_path, anew=True)
    assert found.gflops["fp32"] == 1e9
    assert (found.gflops["int8"] or 1) > 1e-9
    assert peaks(1, folder=tmp_path) == found


def test_rows_above_the_peaks_are_said() -> None:
    cell = Cell(latency_ms=4.0, macs=10**8, ideal_bytes=1000)
    row = Row(modules=("conv",), type="C", cells={"ort": cell})
    profile = profile_of((row,), {"ort": column()})
    assert not exceeded(with_roofline(profile, MACHINE))
    rated = with_roofline(profile, dataclasses.replace(MACHINE, gflops={"fp32": 10.0}))
    assert exceeded(rated)
    assert any("more than 100% of the measured peaks" in note for note in rated.notes)


def test_peaks_of_a_busy_machine_are_not_believed_for_long(tmp_path: Path) -> None:
    busy = dataclasses.replace(MACHINE, others_cores=0.9)
    assert busy.busy
    kept = {
        "identity": dataclasses.asdict(identity_of(1)),
        "measured": time.time() - 3600,
        "peaks": dataclasses.asdict(busy),
    }
    (tmp_path / "peaks-1.json").write_text(json.dumps(kept))
    assert peaks(1, folder=tmp_path) != busy


def test_spread_and_residual_are_red_where_they_should_be() -> None:
    flags, _ = _judged(latency_of(4.0, spread=0.08), 0.1)
    assert len(flags) == 1
    assert "8%" in flags[0]
    flags, _ = _judged(latency_of(4.0), -0.8)
    assert "-20%" in flags[0]
    # below 2 ms the profiler costs more than the layers: said, not red
    flags, notes = _judged(latency_of(1.0), -0.8)
    assert flags == ()
    assert "-80%" in notes[0]
    flags, notes = _judged(latency_of(4.0, stable=False), 0.0)
    assert flags == ()
    assert "not stable" in notes[0]


def test_findings_name_the_module_and_carry_the_numbers() -> None:
    rows = (
        Row(
            modules=("fc1",),
            type="Linear",
            parameters=900,
            source="models/net.py:7",
            cells={
                "ort": Cell(latency_ms=0.8, share=0.8, nodes=("fc1",)),
                "ort:int8": Cell(latency_ms=0.8, share=0.5, nodes=("fc1",)),
            },
        ),
        Row(modules=("fc2",), type="Linear", parameters=100, cells={"ort": Cell(latency_ms=0.2, share=0.2)}),
        Row(
            modules=(),
            type="layout",
            caused_by="fc1",
            cells={
                "ort:int8": Cell(
                    latency_ms=0.8, share=0.5, nodes=("q", "d"), ops=("QuantizeLinear", "DequantizeLinear")
                )
            },
        ),
    )
    made = profile_of(rows, {"ort": column(), "ort:int8": column("int8", 1.6)})
    found = with_findings(made).runs[0].findings
    said = "\n".join(found)
    assert "`fc1` (models/net.py:7) takes 80% of ort's profiled time" in said
    assert "`fc1` holds 90% of the weights (900 parameters)" in said
    assert "cost 50% of ort:int8's profiled time" in said
    assert "int8 is 1.6 times slower than fp32" in said


def test_columns_of_other_networks_are_held_against_none() -> None:
    small, large = {"network": "small, 10 columns"}, {"network": "large, 10 columns"}
    columns = {
        "ort": column(**small),
        "ort:int8": column("int8", 0.8, **small),
        "ort:large": column("fp32", 8.0, **large),
        "ort:large:int8": column("int8", 12.0, **large),
    }
    rows = tuple(
        Row(
            modules=(key,),
            type="Linear",
            parameters=10,
            saved_bytes=1000,
            cells={key: Cell(latency_ms=1.0, nodes=("n",))},
        )
        for key in columns
    )
    said = "\n".join(with_findings(profile_of(rows, columns)).runs[0].findings)
    assert "int8 is 1.2 times faster than fp32 in ort" in said
    assert "int8 is 1.5 times slower than fp32 in ort" in said
    assert "ort:int8 is 1.2 times as fast as ort (" in said
    assert "ort:large is 1.5 times as fast as ort:large:int8" in said
    assert "fusing 2 groups of modules saves ort, ort:int8 up to 2.0 kB" in said
    assert said.count(" times ") == 4
    assert "of the weights" not in said


def test_nothing_is_found_where_nothing_was_timed() -> None:
    row = Row(modules=("fc1",), type="Linear", cells={"trt": Cell(nodes=("fc1",), dtype="HALF")})
    static = dataclasses.replace(column(), measured=False, latency_ms=None, layer_sum_ms=None)
    found = with_findings(profile_of((row,), {"trt": static})).runs[0].findings
    assert found == ()


@pytest.mark.parametrize(
    ("answer", "first", "share", "said"),
    [
        ([0.02, 0.1], [0.0, 0.1], 0.2, "ort's answers are 20.0% of the largest off pytorch's"),
        ([10.0, 0.5], [10.0, 0.0], 0.05, "ort's answers are 5.0% of the largest off pytorch's"),
        ([0.1, 0.1], [0.1, 0.1], 0.0, None),
        ([0.0, 0.0], [0.0, 0.0], 0.0, None),
        ([0.0, 1e-9], [0.0, 0.0], None, "ort's answers are not pytorch's, which are all 0"),
        ([np.nan, 0.1], [0.1, 0.1], np.nan, "ort's answers or pytorch's hold NaN or infinite numbers"),
        ([0.1, 0.1], [np.nan, 0.1], np.nan, "ort's answers or pytorch's hold NaN or infinite numbers"),
        ([np.inf, 0.1], [0.1, 0.1], np.inf, "ort's answers or pytorch's hold NaN or infinite numbers"),
    ],
)
def test_answers_are_held_against_the_largest_of_the_first(
    answer: list[float], first: list[float], share: float | None, said: str | None
) -> None:
    found = difference(np.array([answer], np.float32), np.array([first], np.float32))
    assert found == pytest.approx(share, nan_ok=True)
    made = profile_of((), {"pytorch": column(), "ort": column()})
    run = dataclasses.replace(made.runs[0], agreement={"ort": found}, reference={"ort": "pytorch"})
    judged = with_findings(dataclasses.replace(made, runs=(run,)))
    findings = judged.runs[0].findings
    assert [text.split(":")[0] for text in findings] == ([said] if said else [])
    console = Console(record=True, file=StringIO(), width=118)
    print_profile(judged, console)
    assert said is None or said in " ".join(console.export_text().split())


@pytest.mark.parametrize("width", [60, 80, 118, 200])
def test_no_figure_is_cut_on_a_narrow_screen(width: int) -> None:
    keys = ("pytorch", "ort", "ort:fp16", "ort:int8")
    cells = {key: Cell(latency_ms=1234.5, nodes=("x",), match="name") for key in keys}
    name = "features.13.block.0 + features.13.block.1"
    run = Run(
        batch=1,
        backends={key: column(median=1234.5) for key in keys},
        rows=(Row(modules=tuple(name.split(" + ")), type="conv", cells=cells),),
    )
    console = Console(width=width, record=True, file=StringIO())
    print_profile(Profile(model="net", device="cpu", threads=1, runs=(run,)), console)
    printed = console.export_text()
    assert "…" not in printed
    assert all(f"{key} (fp32)" in printed for key in keys)
    assert printed.count("1,234.5") >= 2 * len(keys)
    assert "features.13.block.0" in printed.replace("\n", "") or width < 80


def test_a_finding_that_quotes_a_column_which_wandered_says_so() -> None:
    cell = Cell(latency_ms=1.0, share=0.9, nodes=("conv",), ops=("Conv",))
    row = Row(modules=("conv",), type="Conv2d", parameters=10, cells={"ort": cell})
    quiet = Column(
        backend="ort",
        artifact=None,
        precision="fp32",
        measured=True,
        latency_ms=latency_of(1.0),
        layer_sum_ms=1.0,
    )
    wandering = dataclasses.replace(quiet, latency_ms=latency_of(1.0, spread=0.31))
    for column, said in ((quiet, []), (wandering, ["`conv` takes 90% of ort's profiled time"])):
        run = Run(batch=1, backends={"ort": column}, rows=(row,))
        profile = Profile(model="net", device="cpu", threads=1, runs=(run,))
        findings = with_findings(profile).runs[0].findings
        marked = [
            text for text in findings if text.endswith("(ort's windows spread over 31%: not to be relied on)")
        ]
        assert [text.partition(" (")[0] for text in marked] == said
        assert any("holds 100% of the weights" in text for text in findings)
