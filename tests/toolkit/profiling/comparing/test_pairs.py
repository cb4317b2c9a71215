"""What a row of two profiles is bound by: copies and activations in place wait for memory."""

from __future__ import annotations

import dataclasses

import pytest

from tests.toolkit.profiling.judging.test_verdicts import column
from toolkit.profiling.comparing.pairs import pairs
from toolkit.profiling.judging.drift import drift_of_rows
from toolkit.profiling.machine import Peaks
from toolkit.profiling.result import Cell, CellMemory, Row, Run

PEAKS = Peaks(threads=1, gflops={"fp32": 100.0}, gbytes_s={"memory": 20.0})


def cell(ms: float, *, activations: int = 0, ideal: int | None = None, macs: int | None = None) -> Cell:
    return Cell(
        latency_ms=ms,
        windows=(ms,) * 10,
        nodes=("k",),
        memory=CellMemory(weights_bytes=0, activation_bytes=activations),
        ideal_bytes=ideal,
        macs=macs,
    )


def run_of(factor: float = 1.0, *, precision: str = "fp32") -> Run:
    """Return a run of convolutions, an activation in place and a copy, the last two slower by a factor."""
    convs = tuple(
        Row(modules=(f"conv{i}",), type="Conv2d", cells={"ort": cell(1.0, ideal=1000, macs=40_000_000)})
        for i in range(4)
    )
    # each moves 20 MB in 1 ms: all that the memory gives
    relu = Row(modules=("relu",), type="ReLU", cells={"ort": cell(1.0 * factor, ideal=20_000_000, macs=0)})
    copy = Row(
        modules=(), type="layout", caused_by="conv1", cells={"ort": cell(factor, activations=10_000_000)}
    )
    return Run(batch=1, backends={"ort": column(precision)}, rows=(*convs, relu, copy))


def test_a_copy_and_an_activation_in_place_wait_for_memory() -> None:
    found = pairs(run_of(), run_of(), "ort", "ort", PEAKS)
    assert found["layout for conv1"].bytes == found["relu"].bytes == 20_000_000
    exposed = {label: pair.exposed(20.0) for label, pair in found.items()}
    assert exposed["layout for conv1"] == exposed["relu"] == pytest.approx(1.0)
    assert exposed["conv1"] == pytest.approx(0.2)


def test_they_have_no_vote_on_the_drift() -> None:
    rows = list(pairs(run_of(), run_of(1.4), "ort", "ort", PEAKS).values())
    drift = drift_of_rows(rows, gbytes_s=20.0)
    assert drift.slowest == pytest.approx(0.0, abs=0.01)


def test_int8_moves_a_quarter_bf16_half_and_an_older_profile_falls_back_on_what_a_row_holds() -> None:
    found = pairs(run_of(precision="int8"), run_of(precision="int8"), "ort", "ort", PEAKS)
    assert found["relu"].bytes == 5_000_000
    half = pairs(run_of(precision="bf16"), run_of(precision="bf16"), "ort", "ort", PEAKS)
    assert half["relu"].bytes == 10_000_000
    old = Row(modules=("pool",), type="MaxPool2d", cells={"ort": cell(1.0, activations=7)})
    run = dataclasses.replace(run_of(), rows=(old,))
    assert pairs(run, run, "ort", "ort", PEAKS)["pool"].bytes == 7
