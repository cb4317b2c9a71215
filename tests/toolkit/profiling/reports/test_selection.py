"""The costliest rows first, what the others sum to, and totals by type and stage: sums by hand."""

from __future__ import annotations

import dataclasses
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.toolkit.profiling.test_result import COLUMN
from toolkit.profiling.reports.selection import (
    by_stage,
    by_type,
    cut_middle,
    fitted_name,
    selected,
    short_name,
)
from toolkit.profiling.reports.table import print_profile
from toolkit.profiling.result import Cell, CellMemory, Profile, Row, Run


def row(name: str, ms: float, kind: str = "Conv2d", macs: int = 5) -> Row:
    """Return a row of one module that takes so long, of 1,000 ms in all."""
    memory = CellMemory(weights_bytes=4, activation_bytes=8)
    cell = Cell(latency_ms=ms, share=ms / 1000, nodes=(f"{name}/Node",), memory=memory)
    return Row(modules=(name,), type=kind, output_shape=(1, 8, 4, 4), macs=macs, cells={"ort": cell})


def run_of(*rows: Row) -> Run:
    return Run(batch=1, backends={"ort": COLUMN}, rows=rows)


def printed(run: Run, *, width: int = 100, top: int | None = None) -> str:
    text = io.StringIO()
    profile = Profile(model="net", device="cpu", threads=1, runs=(run,))
    print_profile(profile, Console(file=text, width=width), top=top)
    return text.getvalue()


MANY = run_of(*(row(f"block{i // 10}.layer{i}.conv", i + 1) for i in range(40)))


def test_of_many_rows_the_costliest_twenty_stand_first_and_the_others_are_one() -> None:
    found = selected(MANY)
    assert [entry.modules[0] for entry in found.rows][:2] == ["block3.layer39.conv", "block3.layer38.conv"]
    assert (len(found.rows), found.count) == (20, 20)
    assert found.others is not None
    others = found.others.cells["ort"]
    assert others.latency_ms == sum(range(1, 21))
    assert others.share == pytest.approx(0.21)
    assert (found.others.macs, others.memory.weights_bytes) == (100, 80)


def test_of_few_rows_none_is_left_out() -> None:
    run = run_of(row("a", 1), row("b", 3), row("c", 2))
    assert [entry.label for entry in selected(run).rows] == ["b", "c", "a"]
    assert selected(run).others is None


def test_so_many_rows_are_shown_as_were_asked_for() -> None:
    assert [len(selected(MANY, top).rows) for top in (1, 30, 40, 99)] == [1, 30, 40, 40]
    assert selected(MANY, 0).rows == MANY.rows


def test_without_times_rows_are_ordered_by_their_products() -> None:
    static = dataclasses.replace(COLUMN, measured=False, latency_ms=None, layer_sum_ms=None)
    rows = [dataclasses.replace(row(name, 1, macs=macs), cells={}) for name, macs in (("a", 1), ("b", 9))]
    found = selected(Run(batch=1, backends={"ort": static}, rows=tuple(rows)))
    assert [entry.label for entry in found.rows] == ["b", "a"]
    assert found.order == "most multiply-adds first"


def test_totals_by_type_are_sums_and_the_smallest_of_many_are_one() -> None:
    run = run_of(row("a", 1), row("b", 5, "ReLU"), row("c", 3), row("d", 2, "Linear"))
    assert [(t.name, t.rows, t.ms["ort"]) for t in by_type(run)] == [
        ("ReLU", 1, 5), ("Conv2d", 2, 4), ("Linear", 1, 2),
    ]  # fmt: skip
    assert [(t.name, t.ms["ort"]) for t in by_type(run, 2)] == [("2 other types", 6), ("ReLU", 5)]


def test_a_stage_is_the_beginning_of_the_modules_paths_and_a_large_one_is_divided() -> None:
    names = ("body.one.a", "body.one.b", "body.two.a", "body.two.b", "head")
    moved = Row(modules=(), type="layout", caused_by="head", cells={"ort": Cell(latency_ms=2, share=0.002)})
    run = run_of(*(row(name, 10) for name in names), moved)
    assert [(t.name, t.rows, t.ms["ort"]) for t in by_stage(run)] == [
        ("body.one", 2, 20), ("body.two", 2, 20), ("head", 2, 12),
    ]  # fmt: skip


def test_names_that_the_graph_gave_are_divided_where_they_are_written_so() -> None:
    run = run_of(row("/layer1/conv/Conv", 5), row("/layer1/act/Relu", 4), row("/fc/Gemm", 1))
    assert [t.name for t in by_stage(run)] == ["/layer1/conv", "/layer1/act", "/fc"]


@given(st.lists(st.text("ab./", min_size=1, max_size=9), min_size=1, max_size=30, unique=True))
def test_every_row_stands_in_one_total_whatever_the_names_are(names: list[str]) -> None:
    run = run_of(*(row(name, 1 + i) for i, name in enumerate(names)))
    for totals in (by_type(run), by_stage(run)):
        assert sum(t.rows for t in totals) == len(names)
        assert sum(t.ms["ort"] or 0 for t in totals) == sum(range(1, len(names) + 1))


def test_later_modules_of_a_row_are_told_without_what_they_share() -> None:
    whole = dataclasses.replace(row("a.b.conv", 1), modules=("a.b.conv", "a.b.norm", "relu"))
    assert short_name(whole) == "a.b.conv + norm + relu"
    assert fitted_name("a.b.conv + norm + relu", 12) == "a.b.conv +2"
    assert short_name(row("a", 1)) == "a"


@given(st.text(max_size=60), st.integers(8, 40))
def test_a_name_is_cut_in_its_middle(text: str, width: int) -> None:
    cut = cut_middle(text, width)
    assert len(cut) == min(width, len(text))
    if len(text) > width:
        head, _, tail = cut.partition("…")
        assert text.startswith(head) or "…" in text
        assert text.endswith(tail) or "…" in text


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_line_is_wider_than_the_screen_and_no_figure_is_cut(width: int) -> None:
    long = "features.denseblock1.denselayer12.branch"
    run = run_of(*(row(f"{long}.conv{i}", 123.4 + i) for i in range(40)))
    run = dataclasses.replace(run, backends={"ort": COLUMN, "pytorch": COLUMN}, rows=tuple(
        dataclasses.replace(entry, cells={"ort": entry.cells["ort"], "pytorch": entry.cells["ort"]})
        for entry in run.rows
    ))  # fmt: skip
    text = printed(run, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("162.4") == 2
    assert "20 other rows" in text
    assert "conv39" in text
    if width >= 100:
        assert "16%" in text


def test_the_network_s_own_order_is_one_option_away() -> None:
    lines = [line for line in printed(MANY, top=0).splitlines() if ".conv" in line]
    assert [line.split()[0] for line in lines[:40]] == [entry.modules[0] for entry in MANY.rows]
