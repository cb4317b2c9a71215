"""A profile's JSON: what was written is read again, and whatever else stands in it is refused in one line."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st

from cnnkit import front_door
from toolkit.errors import CnnkitError, CorruptError, NotFoundError
from toolkit.profiling.comparing.differences import compare
from toolkit.profiling.machine import MachineFacts, Peaks
from toolkit.profiling.reports.html import html_report
from toolkit.profiling.result import (
    Cell,
    CellMemory,
    Column,
    Explanation,
    Latency,
    Memory,
    Profile,
    Row,
    Run,
    SkippedColumn,
)

LATENCY = Latency(
    median=1.0, mean=1.1, p90=1.2, p95=1.3, p99=1.4, spread=0.02, runs=100, windows=(1.0, 1.01, 0.99),
    warmup_runs=5, stable=True, first_call_ms=3.5,
)  # fmt: skip
COLUMN = Column(
    backend="ort", artifact="/a/net.onnx", precision="fp32", measured=True, device="cpu", why_not="it is",
    latency_ms=LATENCY, layer_sum_ms=0.8, layout_ms=0.1, unmatched_ms=0.01, residual_ms=-0.1,
    overhead_ms=-0.2, distortion_ms=-0.1, upload_ms=0.1, download_ms=0.2,
    memory=Memory(
        weights_bytes=400, peak_activation_bytes=300, workspace_bytes=0, process_peak_bytes=10**9,
        predicted_peak_activation_bytes=310, peak_module="conv1", timeline=(("conv1", 310), ("fc", 40)),
        why_null={"workspace_bytes": "static"}, note="static",
    ),
    coverage=1.0, time_coverage=0.9, profiled_runs=50, version="1.2", flags=("red",), notes=("said",),
)  # fmt: skip
CELL = Cell(
    latency_ms=0.5, share=0.6, windows=(0.5, 0.51), memory=CellMemory(weights_bytes=4, activation_bytes=8),
    nodes=("conv1/Conv",), ops=("Conv",), dtype="float", match="name", macs=1000, ideal_bytes=500,
    gflops=4.0, gbytes_s=1.0, attainable=0.2, bound="compute",
)  # fmt: skip
SKIPPED = (SkippedColumn(backend="trt", precision="fp32", reason="no GPU"),)
FULL = Profile(
    model="net", device="cpu", threads=2, partial=False, skipped=SKIPPED, notes=("n",), created="2026-11-28",
    machine=MachineFacts(
        processor="EPYC", cores=4, threads=2, threads_say="2", affinity=(0, 1), system="Linux x86_64",
        python="3.11", load_average=(0.1, 0.2, 0.3), gpus=("H100 (SM90)",),
        peaks=Peaks(
            threads=2, gflops={"fp32": 100.0, "bf16": None}, gbytes_s={"L2": 50.0, "memory": 20.0},
            cache_bytes={"L2": 1000}, cores=4, others_cores=0.1,
        ),
    ),
    runs=(
        Run(
            batch=1, backends={"ort": COLUMN, "ort:int8": COLUMN}, skipped=SKIPPED, findings=("f",),
            explanations={
                "ort": (Explanation(row="conv1 + act1", latency_ms=0.5, share=0.6, why="so", advice="or"),)
            },
            agreement={"ort:int8": 0.01}, reference={"ort:int8": "ort"}, yardstick={"compute_ms": 0.7},
            rows=(
                Row(
                    modules=("conv1", "act1"), type="Conv2d + ReLU", output_shape=(1, 6, 28, 28),
                    parameters=156, macs=1000, ideal_bytes=500, saved_bytes=20, caused_by="x", source="net:3",
                    cells={"ort": CELL, "ort:int8": CELL},
                ),
                Row(modules=(), type="overhead", cells={"ort": Cell(latency_ms=0.1)}),
            ),
        ),
    ),
)  # fmt: skip
# one value of each type that JSON has, and numbers that it has not
VALUES = (None, True, 3, -7, 2.5, -0.5, math.nan, math.inf, "text", [], ["text"], {}, {"key": "text"})

Path_ = tuple[str | int, ...]


def places(data: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Yield the path of every value inside JSON values."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def at(data: Any, path: Path_) -> Any:
    for step in path:
        data = data[step]
    return data


def replaced(data: Any, path: Path_, value: Any) -> Any:
    found = copy.deepcopy(data)
    at(found, path[:-1])[path[-1]] = value
    return found


def kind_of(value: Any) -> str:
    """Return what JSON calls a value; a whole number is a number too, but not the other way round."""
    return "null" if value is None else type(value).__name__


JSON = json.loads(json.dumps(FULL.to_json(), allow_nan=False))
PLACES = tuple(places(JSON))


def refusal(path: Path_, value: Any) -> str | None:
    """Return how a profile is refused in which one value was replaced; None where it is read as it stands."""
    data = replaced(JSON, path, value)
    try:
        found = Profile.from_json(data, what="p.json")
    except CorruptError as error:
        return str(error)
    assert at(found.to_json(), path) == value  # neither dropped nor made another value
    return None


@given(st.sampled_from(PLACES), st.sampled_from(VALUES) | st.text() | st.integers() | st.floats())
def test_a_value_of_another_type_is_refused_in_one_line_that_names_its_place(path: Path_, value: Any) -> None:
    assume(kind_of(value) != kind_of(at(JSON, path)))
    said = refusal(path, value)
    if said is not None:
        place = ".".join(map(str, path))
        assert len(said.splitlines()) == 1
        assert f"`{place}" in said or path in (("schema",), ("runs",))


def test_nearly_every_value_of_another_type_is_refused() -> None:
    tried = [
        (path, value) for path in PLACES for value in VALUES if kind_of(value) != kind_of(at(JSON, path))
    ]
    read = [(path, value) for path, value in tried if refusal(path, value) is None]
    assert len(tried) > 1500
    # an optional field may be null and a number may be whole; of all else nothing is read
    assert all(
        value is None or (kind_of(value), kind_of(at(JSON, path))) == ("int", "float")
        or at(JSON, path) is None
        for path, value in read
    )  # fmt: skip
    assert len(read) < 0.08 * len(tried)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("runs", 0, "batch"), "one", '`runs.0.batch` is "one"; a whole number belongs there'),
        (("runs", 0, "batch"), 0, "`runs.0.batch` is 0; a whole number >= 1 belongs there"),
        (
            ("runs", 0, "rows", 0, "ort:int8", "windows", 1),
            -1.0,
            "`runs.0.rows.0.ort:int8.windows.1` is -1.0; a number >= 0.0 belongs there",
        ),
        (
            ("runs", 0, "backends", "ort", "latency_ms", "median"),
            math.nan,
            "`runs.0.backends.ort.latency_ms.median` is NaN; a finite number belongs there",
        ),
        (
            ("runs", 0, "rows", 0, "ort", "latency_ms"),
            math.inf,
            "`runs.0.rows.0.ort.latency_ms` is Infinity; a finite number belongs there",
        ),
        (
            ("runs", 0, "rows", 0, "ort", "bound"),
            "luck",
            '`runs.0.rows.0.ort.bound` is "luck"; "compute" or "memory" or null belongs there',
        ),
        (("machine", "peaks", "gbytes_s", "L2"), 0, "`machine.peaks.gbytes_s.L2` is 0; a number > 0.0"),
        (("skipped", 0, "reason"), None, "`skipped.0.reason` is null; text belongs there"),
        (("runs", 0, "rows", 0, "ort"), 7, "`runs.0.rows.0.ort` is 7; an object belongs there"),
        (("runs", 0, "backends"), [], "`runs.0.backends` is []; an object belongs there"),
        (("schema",), True, "`schema` is true; a whole number belongs there"),
    ],
)
def test_what_is_wrong_is_told_as_it_stands_in_the_file(path: Path_, value: Any, said: str) -> None:
    assert f"p.json is damaged: {said}" in (refusal(path, value) or "")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "it is []; an object belongs there"),
        ({"runs": []}, "is no profile of cnnkit: it lacks `schema`"),
        ({**JSON, "schema": 99}, "has schema 99; this release reads 1"),
        ({**JSON, "runs": []}, "holds no run"),
        ({**JSON, "runs": [{"batch": 1}]}, "it lacks `runs.0.backends`"),
        ({**JSON, "runs": 7}, "`runs` is 7; a list belongs there"),
    ],
)
def test_a_damaged_profile_is_refused_in_words(data: Any, said: str) -> None:
    with pytest.raises(CorruptError) as caught:
        Profile.from_json(data, what="p.json")
    assert said in str(caught.value)
    assert "profile again" in str(caught.value)


def test_a_profile_survives_its_json() -> None:
    assert Profile.from_json(JSON) == FULL


def test_numbers_that_json_has_not_are_null_in_it() -> None:
    run = dataclasses.replace(FULL.runs[0], agreement={"ort:int8": math.nan})
    data = dataclasses.replace(FULL, runs=(run,)).to_json()
    assert data["runs"][0]["agreement"] == {"ort:int8": None}
    assert Profile.from_json(json.loads(json.dumps(data, allow_nan=False))).runs[0].agreement == {
        "ort:int8": None
    }


def test_a_file_without_the_keys_that_came_later_opens() -> None:
    later = {
        "device", "unmatched_ms", "upload_ms", "download_ms", "macs", "ideal_bytes", "reference", "yardstick",
        "first_call_ms", "peaks", "explanations",
    }  # fmt: skip
    old = copy.deepcopy(JSON)
    (run,) = old["runs"]
    cells = [row[key] for row in run["rows"] for key in run["backends"] if key in row]
    for part in (run, old["machine"], *run["backends"].values(), *cells):
        for key in later & part.keys():
            del part[key]
    found = Profile.from_json(old)
    assert found.runs[0].backends["ort"].latency_ms == LATENCY
    assert found.runs[0].rows[0].cells["ort"].latency_ms == 0.5
    assert found.machine.peaks is None


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    with pytest.raises(
        NotFoundError, match=r"no file .*p\.json; `cnnkit profile MODEL --output .*` writes one"
    ):
        Profile.read(path)
    path.write_text(json.dumps(JSON))
    assert Profile.read(path) == FULL


def test_compare_refuses_a_wrong_value_with_status_1_and_one_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(JSON))
    bad.write_text(json.dumps(replaced(JSON, ("runs", 0, "batch"), "one")))
    for sides in ((bad, good), (good, bad)):
        result = CliRunner().invoke(front_door.main, ["compare", *map(str, sides)])
        assert result.exit_code == 1
        assert result.stderr.splitlines() == [
            f'error: {bad} is damaged: `runs.0.batch` is "one"; a whole number belongs there; profile again'
        ]


@given(st.sampled_from(PLACES), st.sampled_from(VALUES) | st.integers() | st.floats(0, 1e13) | st.text())
def test_what_is_read_is_compared_and_drawn_or_refused_in_words(path: Path_, value: Any) -> None:
    try:
        found = compare(FULL, Profile.from_json(replaced(JSON, path, value)))
        compare(found.after, FULL)
    except CnnkitError:
        return
    assert "</html>" in html_report(found.after, found)
