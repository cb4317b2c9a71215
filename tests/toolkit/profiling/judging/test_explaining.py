"""Why a row costs what it does: each sentence rests on its figures, and without them there is none."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.toolkit.profiling.test_result import COLUMN
from toolkit.profiling.judging.explaining import marked, sentence, with_explanations
from toolkit.profiling.machine import MachineFacts, Peaks
from toolkit.profiling.result import Cell, CellMemory, Explanation, Profile, Row, Run

PEAKS = Peaks(
    threads=1, gflops={"fp32": 100.0, "bf16": 200.0, "int8": None}, gbytes_s={"L2": 50.0, "memory": 10.0},
    cache_bytes={"L2": 1_000_000},
)  # fmt: skip
PLAIN = dataclasses.replace(COLUMN, flags=(), distortion_ms=0.0)
CONV = Cell(
    latency_ms=10.0, share=0.5, nodes=("conv/Conv",), ops=("Conv",), macs=400_000_000, ideal_bytes=1_000_000,
    gflops=80.0, gbytes_s=0.1, attainable=0.8, bound="compute",
    memory=CellMemory(weights_bytes=1000, activation_bytes=1_000_000),
)  # fmt: skip


def told(
    cell: Cell,
    *others: Row,
    lanes: int | None = 16,
    batch: int = 1,
    column: Any = PLAIN,
    rival: Any = PLAIN,
    **row: Any,
) -> list[Explanation]:
    own = {"modules": ("conv",), "type": "Conv2d", "output_shape": (1, 64, 50, 50), **row}
    cells = {"ort": cell, **own.pop("cells", {})}
    run = Run(
        batch=batch,
        backends={"ort": column, "other": dataclasses.replace(rival, backend="other")},
        rows=(Row(cells=cells, **own), *others),
    )
    profile = Profile(
        model="net", device="cpu", threads=1, runs=(run,), machine=MachineFacts(peaks=PEAKS)
    )  # fmt: skip
    return list(with_explanations(profile, lanes=lanes).runs[0].explanations["ort"])


def first(*arguments: Any, **settings: Any) -> str:
    return sentence(told(*arguments, **settings)[0])


def movement(op: str, ms: float) -> Row:
    cell = Cell(latency_ms=ms, ops=(op,), nodes=("n",), memory=CellMemory(activation_bytes=5000))
    return Row(modules=(), type="layout", caused_by="conv", cells={"ort": cell})


def test_a_kernel_near_the_peak_is_compute_bound_and_a_faster_format_is_named() -> None:
    assert first(CONV) == (
        "`conv` (50%, 10.00 ms): compute-bound (80 GFLOP/s, 80% of what is attainable); try: less "
        "arithmetic (channels, pixels); bf16 has 2.0 times the peak"
    )


def test_a_kernel_far_from_the_peak_is_slow_and_a_faster_one_elsewhere_is_named() -> None:
    slow = dataclasses.replace(CONV, gflops=8.0, attainable=0.08)
    cells = {"other": dataclasses.replace(CONV, latency_ms=2.0)}
    said = first(slow, cells=cells)
    assert "a slow kernel: its arithmetic would take 0.8000 ms here (8 GFLOP/s, 8.0% of" in said
    assert "; try: other runs it in 2.000 ms (5.0 times as fast)" in said


def test_another_networks_row_of_the_same_name_is_no_rival() -> None:
    slow = dataclasses.replace(CONV, gflops=8.0, attainable=0.08)
    cells = {"other": dataclasses.replace(CONV, latency_ms=2.0)}
    column = dataclasses.replace(PLAIN, network="small, 10 columns")
    assert "other runs it" in first(slow, cells=cells, column=column)
    rival = dataclasses.replace(PLAIN, network="large, 10 columns")
    assert "other runs it" not in first(slow, cells=cells, column=column, rival=rival)


def test_a_dense_layer_at_batch_1_waits_for_its_weights() -> None:
    dense = dataclasses.replace(
        CONV, bound="memory", gbytes_s=8.0, attainable=0.8, memory=CellMemory(weights_bytes=79_000_000)
    )
    said = first(dense, type="Linear", output_shape=(1, 4096))
    assert "memory-bound: 79.0 MB of the 80.0 MB that it moves are weights (8.0 GB/s, 80%" in said
    assert "a larger batch reads them once" in said


def test_what_moves_much_and_computes_little_is_memory_bound() -> None:
    add = dataclasses.replace(CONV, bound="memory", gbytes_s=8.0, attainable=0.8, macs=0)
    assert "memory-bound: it moves 80.0 MB" in first(add, type="add")


def test_conversions_and_reorders_beside_a_row_are_told_with_their_cost() -> None:
    assert "DequantizeLinear beside it cost another 3.000 ms (30% of" in first(
        CONV, movement("DequantizeLinear", 3.0)
    )
    said = first(CONV, movement("ReorderInput", 3.0), output_shape=(1, 6, 50, 50))
    assert "ReorderInput for its layout cost another 3.000 ms" in said
    assert "channels in multiples of 16 (it has 6)" in said
    assert "compute-bound" in first(CONV, movement("ReorderInput", 1.0))  # a tenth is no reason


def test_data_that_only_moves_is_told_with_its_size() -> None:
    found = told(CONV, movement("ReorderInput", 3.0))[1]
    assert sentence(found) == (
        "`ReorderInput for conv` (3.000 ms): ReorderInput moves 5.0 kB for `conv` and computes nothing; "
        "try: let its neighbours compute in one layout"
    )
    assert told(CONV, movement("Cast", 3.0))[1].advice == "give its neighbours one number format"


def test_missing_fusion_is_a_reason_only_where_the_traffic_is() -> None:
    three = dataclasses.replace(CONV, nodes=("a", "b", "c"))
    cells = {"other": dataclasses.replace(CONV, latency_ms=4.0)}
    said = first(three, cells=cells, saved_bytes=50_000_000)  # 5 ms of memory's bandwidth
    assert "no fused kernel: 3 kernels pass up to 50.0 MB on to each other" in said
    assert "other runs them as one, in 4.000 ms" in said
    assert "no fused" not in first(three, cells=cells, saved_bytes=5_000_000)
    assert "no fused" not in first(three, saved_bytes=50_000_000)


def test_few_channels_fill_part_of_a_vector_where_its_width_is_known() -> None:
    thin = dataclasses.replace(CONV, attainable=0.2, gflops=20.0)
    said = first(thin, output_shape=(1, 6, 50, 50))
    assert "padding: 6 output channels fill 38% of whole vectors of 16, and it reaches 20%" in said
    assert "16 channels may cost little more" in said
    assert "padding" not in first(thin, output_shape=(1, 6, 50, 50), lanes=None)
    assert "padding" not in first(thin, output_shape=(1, 15, 50, 50))


def test_a_depthwise_convolution_has_few_products_for_each_output() -> None:
    depthwise = dataclasses.replace(CONV, macs=9 * 64 * 2500, attainable=0.1, gflops=10.0)
    assert "each output is a sum of only 9 products" in first(depthwise)


def test_a_kernel_of_a_few_microseconds_is_mostly_its_start() -> None:
    short = dataclasses.replace(CONV, latency_ms=0.005, attainable=0.1)
    assert "too little work: 5.0 µs, of which its work explains 10%" in first(short)
    assert "a larger batch gives each start more work" in first(short)
    assert told(short, batch=8)[0].advice is None


def test_what_passes_between_the_nodes_is_the_runtime_s_or_the_profiler_s() -> None:
    between = Row(modules=(), type="overhead", cells={"ort": Cell(latency_ms=2.0, share=0.1)})
    assert "the runtime's own work between 1 kernels, 2000.0 µs for each" in sentence(told(CONV, between)[1])
    distorted = dataclasses.replace(PLAIN, distortion_ms=1.5)
    said = sentence(told(CONV, between, column=distorted)[1])
    assert "mostly the profiler's own cost: it made the run 1.500 ms slower" in said


@pytest.mark.parametrize(
    "missing", [{"bound": None, "attainable": None}, {"bound": "memory", "gbytes_s": None}]
)
def test_without_figures_nothing_is_claimed(missing: dict[str, Any]) -> None:
    assert told(dataclasses.replace(CONV, **missing), type="Gelu") == []


def test_on_another_device_no_vector_of_this_processor_is_claimed() -> None:
    thin = dataclasses.replace(CONV, attainable=0.2, gflops=20.0)
    gpu = dataclasses.replace(PLAIN, device="cuda:0")
    assert "padding" not in first(thin, output_shape=(1, 6, 50, 50), column=gpu)


def test_three_rows_are_explained_and_red_figures_are_said() -> None:
    rows = [
        Row(modules=(f"m{i}",), type="x", output_shape=(1, 64, 9, 9), cells={"ort": CONV}) for i in range(5)
    ]
    assert [entry.row for entry in told(CONV, *rows)] == ["conv", "m0", "m1"]
    assert marked(dataclasses.replace(COLUMN, flags=("spread over 26%",))) == " (red: spread over 26%)"
    assert marked(PLAIN) == ""
