"""The charts of the HTML report, held to figures by hand."""

from __future__ import annotations

import dataclasses

import pytest

from tests.toolkit.profiling.test_result import CELL, FULL
from toolkit.profiling.reports.charts import bars, memory_chart, roofline_chart, tree
from toolkit.profiling.result import Memory, Peaks, Row, Run

(RUN,) = FULL.runs


def run_of(*names: str) -> Run:
    """Return a run of one row a module, each with the same share of 60 %."""
    rows = tuple(Row(modules=(name,), type="x", cells={"ort": CELL}) for name in names)
    return dataclasses.replace(RUN, backends={"ort": RUN.backends["ort"]}, rows=rows)


def test_the_longest_bar_is_the_whole_width_and_the_others_are_in_proportion() -> None:
    text = bars(RUN)
    assert "width:100.00%" in text  # 0.5 ms
    assert "width:20.00%" in text  # 0.1 ms
    assert "0.5000 ms" in text


def test_modules_stand_below_what_holds_them_with_the_sum_of_their_shares() -> None:
    text = tree(run_of("block.conv", "block/add"))
    assert text.index("120%") < text.index("block") < text.index("60%") < text.index("conv")
    assert text.count("<ul>") == 2


def test_a_fused_module_says_with_which_it_stands() -> None:
    assert "with conv1</span>act1" in tree(RUN)


def test_live_tensors_name_the_peak_of_each_column() -> None:
    assert "ort: 310 B at conv1" in memory_chart(RUN)
    column = dataclasses.replace(RUN.backends["ort"], memory=Memory(timeline=(("view", 0),)))
    assert "0 B at view" in memory_chart(dataclasses.replace(RUN, backends={"ort": column}))


@pytest.mark.parametrize("peaks", [FULL.machine.peaks, Peaks(threads=1)])
def test_the_roofline_has_a_roof_a_level_and_a_mark_a_timed_row(peaks: Peaks) -> None:
    text = roofline_chart(RUN, peaks)
    assert text.count("<polyline") == len(peaks.gbytes_s)
    assert text.count("<title>") == 2
    assert "4.0 GFLOP/s, 20% of attainable" in text


def test_what_is_not_known_is_said() -> None:
    empty = dataclasses.replace(RUN, backends={}, rows=())
    said = (bars(empty), tree(empty), memory_chart(empty), roofline_chart(empty, None))
    assert [text.startswith(("<p>Nothing was timed", "<p>Not known")) for text in said] == [True] * 4
