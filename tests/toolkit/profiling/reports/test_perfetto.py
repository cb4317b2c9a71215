"""The trace that Perfetto and speedscope open: slices end to end, counters of memory beside them."""

from __future__ import annotations

import dataclasses

from tests.toolkit.profiling.test_result import FULL
from toolkit.profiling.reports.perfetto import perfetto_trace
from toolkit.profiling.result import Cell, CellMemory, Memory, Row, Run

ROWS = (
    Row(
        modules=("conv1", "act1"),
        type="Conv2d",
        cells={"ort": Cell(latency_ms=0.5, memory=CellMemory(weights_bytes=400))},
    ),
    Row(modules=(), type="layout", caused_by="fc", cells={"ort": Cell(latency_ms=0.1, ops=("Reorder",))}),
    Row(
        modules=("fc",),
        type="Linear",
        cells={"ort": Cell(latency_ms=0.25, memory=CellMemory(weights_bytes=100))},
    ),
)
TIMELINE = (("conv1", 300), ("act1", 700), ("Reorder for fc", 50), ("fc", 40))
(FIRST,) = FULL.runs
COLUMN = dataclasses.replace(FIRST.backends["ort"], memory=Memory(timeline=TIMELINE))
RUN = Run(batch=1, backends={"ort": COLUMN}, rows=ROWS)
EVENTS = perfetto_trace(dataclasses.replace(FULL, runs=(RUN,)))["traceEvents"]


def counters(name: str) -> list[tuple[float, int]]:
    return [(e["ts"], e["args"]["bytes"]) for e in EVENTS if e["ph"] == "C" and e["name"] == name]


def test_slices_lie_end_to_end_in_microseconds() -> None:
    slices = [(e["name"], e["ts"], e["dur"]) for e in EVENTS if e["ph"] == "X"]
    assert slices == [("conv1 + act1", 0, 500), ("Reorder for fc", 500, 100), ("fc", 600, 250)]


def test_a_counter_tells_the_most_that_is_alive_during_each_row_and_ends_at_0() -> None:
    assert counters("ort live tensors") == [(0, 700), (500, 50), (600, 40), (850, 0)]


def test_a_counter_tells_the_weights_that_were_read_so_far() -> None:
    assert counters("ort weights read") == [(0, 400), (600, 500), (850, 0)]


def test_what_has_no_memory_has_no_counter() -> None:
    bare = dataclasses.replace(RUN, backends={"ort": dataclasses.replace(COLUMN, memory=Memory())})
    events = perfetto_trace(dataclasses.replace(FULL, runs=(bare,)))["traceEvents"]
    assert {e["name"] for e in events if e["ph"] == "C"} == {"ort weights read"}
