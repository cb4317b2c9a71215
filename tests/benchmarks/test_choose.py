"""What the benchmark of choosing holds its figures for, and that its table holds all that choosing tries."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.benchmarks import bench_choose, choose_picks
from tests.benchmarks.bench_choose import OneTable
from tests.benchmarks.choose_explained import BASELINE, PICK, RowPart, explanation, joined
from tests.benchmarks.choose_networks import NETWORKS, Configuration, configurations, network_of
from tests.benchmarks.choose_picks import Case, Chooser
from tests.benchmarks.choose_report import Outcome, said, summary
from tests.benchmarks.choose_store import NotMeasuredError, Store, TimeUpError
from tests.benchmarks.choose_table import Table, TableEntry, keeps, measured
from toolkit.artifacts import Artifact, open_artifact, shipped_root
from toolkit.choices import Contender
from toolkit.choosing import Candidate, ChooseSettings, candidates
from toolkit.choosing.candidates import variants
from toolkit.errors import CnnkitError, NotFoundError

LENET = NETWORKS[0]
LOST: dict[str, Any] = {"accuracy": 0.9, "points": 0.1, "ci95": [0.0, 0.2], "images": 6000, "why": None}


def store(folder: Path, *, ends: float = math.inf, report: bool = False) -> Store:
    return Store(folder=folder, ends=ends, report=report)


@pytest.mark.parametrize("cores", [1, 2, 4, 16])
@pytest.mark.parametrize("batch", [1, 4, 32])
def test_the_table_holds_all_that_choosing_may_try(
    monkeypatch: pytest.MonkeyPatch, cores: int, batch: int
) -> None:
    monkeypatch.setattr(candidates, "cpu", lambda: SimpleNamespace(cores=cores))
    monkeypatch.setattr("shutil.which", lambda word: f"/usr/bin/{word}")
    rows = list(configurations(batch, cores=cores, compiles=True))
    assert len({(*vars(one).values(),).__repr__() for one in rows}) == len(rows)

    def held(one: Candidate) -> bool:
        return any(
            (row.backend, row.threads, dict(row.settings)) == (one.backend, one.threads, dict(one.settings))
            for row in rows
        )

    for backend, ending in (("ort", "onnx"), ("openvino", "onnx"), ("pytorch", "safetensors")):
        file = open_artifact(shipped_root() / LENET.name / f"{LENET.name}.{ending}")
        one = Candidate(backend=backend, artifact=file)
        tried = [one, *variants(one, ChooseSettings(), batch)]
        assert [other.key for other in tried if not held(other)] == []
        kinds = {(row.precision, row.dialect) for row in rows if row.backend == backend}
        assert all(
            Configuration(
                backend=backend, precision=p, dialect=d, threads=other.threads, settings=other.settings
            )
            in rows
            for p, d in kinds
            for other in tried
        )


def test_figures_are_those_of_what_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here: dict[str, Any] = {"machine": {"processor": "A"}, "rows": ["a"]}
    assert store(tmp_path).kept("one.json", here, lambda: {"ms": (1.0, 2.0)}) == {"ms": [1.0, 2.0]}
    assert store(tmp_path).kept("one.json", here, list) == {"ms": [1.0, 2.0]}
    other = {**here, "machine": {"processor": "B"}}
    assert store(tmp_path).kept("one.json", other, lambda: 3) == 3
    assert "one.json …, anew: other machine.processor" in capsys.readouterr().out
    (tmp_path / "one.json").write_text('{"pick": "of an older release"}')
    with pytest.raises(NotMeasuredError):
        store(tmp_path, report=True).kept("one.json", here, list)
    with pytest.raises(TimeUpError, match="the time is up before one"):
        store(tmp_path, ends=0.0).kept("one.json", here, list)
    assert store(tmp_path, ends=0.0).kept("one.json", here, lambda: 4, begun=True) == 4
    assert store(tmp_path).kept("one.json", here, lambda: 5, again=lambda four: four == 4) == 5


def test_any_network_that_can_be_trained_is_measured_and_a_typo_is_told() -> None:
    assert network_of("lenet-maxpool") == LENET
    assert network_of("cifarnet-bn:48").size == 48
    assert network_of("lenet").grey
    with pytest.raises(NotFoundError, match="Did you mean 'lenet-maxpool'"):
        network_of("lenet-maxpol")


def table() -> Table:
    entries = [
        TableEntry(key=backend, contender=contender(backend, ms), why=None)
        for backend, ms in (("ort", 2.0), ("openvino", 1.0))
    ]
    return Table(entries=tuple(entries), timing_s=80.0, compiling_s=20.0, judging_s=20.0)


def contender(backend: str, ms: float) -> Contender:
    plain = Contender(backend=backend, artifact="/x/lenet.onnx", precision="fp32")
    return measured(plain, ms, 2 * ms, LOST)


def row() -> dict[str, Any]:
    from toolkit import schema

    return {
        "network": LENET.name,
        "batch": 1,
        "points": 0.5,
        "within_ms": None,
        "table_seconds": 100.0,
        "table_compiling_s": 20.0,
        "table_rows": 2,
        "making_s": 0.1,
        "seconds": 20.0,
        "machine": {"processor": "A", "cores": 2, "instruction_sets": [], "system": "x", "versions": {}},
        "chosen": schema.plain(contender("openvino", 1.0)),
        "baseline": schema.plain(contender("ort", 2.0)),
        "pick": "openvino fp32",
        "pick_ms": 1.02,
        "pick_p95_ms": 2.0,
        "lost": LOST,
        "kept": True,
        "right": True,
        "best": "openvino fp32",
        "best_ms": 1.0,
        "over_best": 1.0,
        "usual": {"ort": 0.5, "pytorch": 0.1},
        "lossy": [],
        "queue": None,
    }


def asked(tmp_path: Path, **more: Any) -> Any:
    return SimpleNamespace(
        **{
            "folder": tmp_path,
            "points": [0.5, 2.0],
            "within": False,
            "explain": (),
            "benchmark_app": (),
            "cold": False,
            "plots": None,
            "cifar": None,
            **more,
        }
    )


def test_a_report_counts_what_is_planned_measured_and_missing_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, found = store(tmp_path), Outcome(planned=2)
    kept.kept("lenet-maxpool.b1.2.0.pick.json", {}, lambda: {**row(), "points": 2.0})
    kept.kept("lenet-maxpool.b1.table.json", {}, table().plain)
    words = asked(tmp_path, plots=tmp_path / "images")
    reader = store(tmp_path, report=True)
    OneTable(network=LENET, batch=1, asked=words, store=reader, found=found).run()
    summary(found)
    said_all = capsys.readouterr().out
    assert "cases: 2 planned, 1 measured, 0 failed, 1 not measured" in said_all
    assert "within 5% of the table's best: 1 of 1 (100%; wanted 95%)" in said_all
    assert "choose 20 s, table 100 s, 20% of it (25% without what torch.compile took)" in said_all
    assert found.status == 0
    drawn = (tmp_path / "images/choose-lenet-maxpool-b1.svg").read_text()
    parsed = ElementTree.fromstring(drawn)
    assert parsed.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(parsed.findall("{http://www.w3.org/2000/svg}circle")) == 3  # openvino, the pick and its ring
    assert len(parsed.findall("{http://www.w3.org/2000/svg}rect")) == 1


def test_what_fails_costs_its_own_cases_and_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> Artifact:
        raise CnnkitError("no pictures")

    monkeypatch.setattr(bench_choose, "train", fails)
    found = Outcome(planned=3)
    OneTable(network=LENET, batch=1, asked=asked(tmp_path), store=store(tmp_path), found=found).run()
    found.rows.append({**row(), "right": False})
    summary(found)
    assert found.status == 1
    told = capsys.readouterr().out
    assert "3 planned, 1 measured, 2 failed, 0 not measured" in told
    assert "best: 0 of 3" in told


def test_an_interrupted_choosing_ends_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_picks, "choose", lambda *_, **__: SimpleNamespace(partial=True, chosen=None))
    monkeypatch.setattr(choose_picks, "find_files", lambda *_, **__: SimpleNamespace(later=[]))
    nothing: Any = None
    chooser = Chooser(
        source=nothing, root=tmp_path, table=table(), ones={}, judge=nothing, store=store(tmp_path)
    )
    with pytest.raises(KeyboardInterrupt):
        chooser.row(Case(network=LENET, batch=1, points=0.5))
    assert list(tmp_path.iterdir()) == []


def test_a_broken_budget_is_told_with_what_is_lost() -> None:
    broken = {**row(), "kept": False, "lost": {**LOST, "ci95": [0.0, 0.7]}}
    assert "BROKEN: +0.10 points (+0.00 to +0.70) on 6,000 images" in said(broken)
    assert not keeps(broken["lost"], 0.5)
    assert keeps(LOST, 0.5)
    assert not keeps({**LOST, "ci95": None}, 0.5)


def test_rows_of_two_profiles_are_joined_by_their_modules() -> None:
    parts = [
        RowPart(modules=("conv1", "act1"), label="conv1 + act1", column=BASELINE, ms=3.0),
        RowPart(modules=("pool",), label="pool", column=BASELINE, ms=1.0),
        RowPart(modules=("fc",), label="fc", column=BASELINE, ms=1.0),
        RowPart(modules=("conv1",), label="conv1", column=PICK, ms=1.0),
        RowPart(modules=("act1", "pool"), label="act1 + pool", column=PICK, ms=0.5),
        RowPart(modules=("fc",), label="fc", column=PICK, ms=0.9),
        RowPart(modules=(), label="Reorder for fc", column=PICK, ms=0.25),
    ]
    found = joined(parts)
    assert found[0] == {"row": "conv1 + act1 + pool", BASELINE: 4.0, PICK: 1.5}
    assert {one["row"] for one in found} == {"conv1 + act1 + pool", "fc", "Reorder for fc"}
    calls = {BASELINE: {"ms": 5.5}, PICK: {"ms": 3.0}}
    names = {"network": "x", "batch": 1, "points": 0.5, "pick": "openvino fp32", "baseline": "ort fp32"}
    lines = explanation({**names, "profiles": 2, "calls": calls, "rows": found}).splitlines()
    assert "| conv1 + act1 + pool | 4.0000 | 1.5000 | +2.5000 |" in lines
    assert "| other rows | 0.0000 | 0.0000 | +0.0000 |" in lines
    assert "| **the call, not traced** | 5.5000 | 3.0000 | +2.5000 |" in lines
