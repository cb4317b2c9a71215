"""What a column's rows add up to, and what is said of time that no row of a module explains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from toolkit.artifacts import Artifact
from toolkit.passports import Passport, TensorSpec
from toolkit.profiling.columns import ColumnSource
from toolkit.profiling.network.modules import Module
from toolkit.profiling.reports.texts import time_text
from toolkit.profiling.result import Column, Latency, Row
from toolkit.profiling.rows.align import align
from toolkit.profiling.rows.cells import columns_of, rows_of
from toolkit.profiling.rows.claims import Claim
from toolkit.profiling.rows.observed import ObservedColumn
from toolkit.traces import ExecutedNode, Trace

MODULES = (Module(name="conv", type="Conv2d"),)


def measured(
    node_ms: list[list[float]], totals: list[float], *, clean: float, resolution_ms: float | None = None
) -> tuple[Column, list[Row]]:
    """Return a column of a convolution, a reorder for it and a kernel that nothing explains, and its rows."""
    nodes = [
        ExecutedNode(name="conv", type="Conv"),
        ExecutedNode(name="reorder", type="ReorderInput", moves_data=True),
        ExecutedNode(name="mystery", type="Mystery"),
    ]
    claims = (
        Claim(node=nodes[0], modules=("conv",), match="name"),
        Claim(node=nodes[1], layout=True, caused_by="conv", match="inferred"),
        Claim(node=nodes[2]),
    )
    spec = TensorSpec(name="x", shape=(None, 4))
    passport = Passport(
        format="onnx", model="net", precision="fp32", trained=None, input=spec, output=spec, classes=(),
        preprocessing=None,
    )  # fmt: skip
    target = ColumnSource(
        key="ort",
        backend="ort",
        artifact=Artifact(path=Path("net.onnx"), passport=passport),
        static_why="measured elsewhere",
    )
    latency = Latency(
        median=clean, mean=clean, p90=clean, p95=clean, p99=clean, spread=0.0, runs=9, windows=(clean,) * 3
    )
    trace = Trace(
        nodes=tuple(nodes),
        node_ms=np.array(node_ms),
        resolution_ms=resolution_ms,
        total_ms=tuple(totals),
        runs=3,
    )
    seen = {
        "ort": ObservedColumn(target=target, latency=latency, trace=trace, claims=claims, modules=MODULES)
    }
    rows = rows_of(align(MODULES, {"ort": claims}), seen)
    return columns_of(seen, rows)["ort"], list(rows)


def test_a_time_under_a_runtimes_unit_is_said_to_be_under_it_and_never_0() -> None:
    column, rows = measured([[2.0, 0.0, 0.25]] * 3, [3.0] * 3, clean=2.9, resolution_ms=0.001)
    cell = next(row for row in rows if row.type == "layout").cells["ort"]
    assert (cell.latency_ms, cell.below_ms, cell.windows, cell.share) == (None, 0.001, (), None)
    assert time_text(cell) == "<0.001"
    # it is in what is left over
    assert column.residual_ms == pytest.approx(2.9 - 2.25)
    _, rows = measured([[2.0, 0.0, 0.25]] * 3, [3.0] * 3, clean=2.9)
    assert next(row for row in rows if row.type == "layout").cells["ort"].latency_ms == 0.0


def test_a_kernel_that_nothing_explains_is_a_sum_of_its_own_and_no_layout() -> None:
    column, rows = measured([[2.0, 0.5, 0.25]] * 3, [3.0] * 3, clean=2.9)
    assert (column.layer_sum_ms, column.layout_ms, column.unmatched_ms) == (2.0, 0.5, 0.25)
    assert column.residual_ms == pytest.approx(0.15)
    assert [row.type for row in rows] == ["Conv2d", "layout", "unmatched", "overhead"]
    assert column.coverage == 0.5


def test_the_overhead_is_residual_and_distortion_also_where_windows_differ() -> None:
    # the median of these windows' differences is 0.5; the difference of the medians is 0.75
    column, rows = measured(
        [[1.0, 0.0, 0.0], [2.0, 0.25, 0.0], [4.0, 0.25, 0.0]], [3.0, 2.75, 4.5], clean=2.5
    )
    assert column.residual_ms is not None
    assert column.distortion_ms is not None
    assert column.overhead_ms == pytest.approx(column.residual_ms + column.distortion_ms)
    assert rows[-1].cells["ort"].latency_ms == column.overhead_ms == pytest.approx(0.75)


def test_nodes_that_overlap_leave_no_row_between_them() -> None:
    column, rows = measured([[2.0, 1.0, 0.5]] * 3, [3.0] * 3, clean=2.8)
    assert column.overhead_ms == pytest.approx(-0.5)
    assert all(row.type != "overhead" for row in rows)
