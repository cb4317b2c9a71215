"""One contract over every exporter × every network of the zoo × every precision that it claims.

The small networks run always, the large ones in `make test-all`. Weights are seeded and untrained:
what is asked here is that everything exports, opens in its consumer and answers like its source.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from exporters.commands._own_options import own_fields
from tests.exporters.conftest import cnnkit_json
from tests.networks import light_models
from toolkit import zoo
from toolkit.artifacts import open_artifact
from toolkit.backends import openers
from toolkit.errors import UnavailableError
from toolkit.exporting import EXPORTERS, Exporter, ExportOptions
from toolkit.passports import Precision


def precisions() -> list[str]:
    claimed = (EXPORTERS.load(name).precisions for name in EXPORTERS.names())
    return sorted({precision for each in claimed for precision in each})


def cases() -> list[object]:
    light = light_models()
    marks = {name: () if name in light else (pytest.mark.slow,) for name in zoo.models()}
    return [pytest.param(name, marks=marks[name]) for name in zoo.models()]


@pytest.mark.parametrize("model", cases())
def test_every_exporter_makes_every_precision_it_claims_of_every_model(
    model: str, tmp_path: Path, web_runtime: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a browser and a server for each would take minutes
    monkeypatch.setenv("CNNKIT_BROWSER", "none")
    monkeypatch.setenv("CNNKIT_TRIAL", "none")
    command = (
        *("export", model, "--untrained", "--format", ",".join(EXPORTERS.names())),
        *("--precision", ",".join(precisions()), "--images", 8, "--calibration-images", 8),
        *("--artifacts", tmp_path),
    )
    # every precision is named, and not every format has each of them
    payload = cnnkit_json(*command, status=3)
    assert payload["failed"] == []
    lacking = {
        (name, precision)
        for name in EXPORTERS.names()
        for precision in precisions()
        if precision not in EXPORTERS.load(name).precisions or not computes_here(name, precision)
    }
    assert {(m["format"], m["precision"]) for m in payload["skipped"]} == lacking
    made = {(entry["format"], entry["precision"]) for entry in payload["artifacts"]}
    for name in EXPORTERS.names():
        exporter: Exporter = EXPORTERS.load(name)
        assert {(exporter.format, p) for p in exporter.precisions if computes_here(name, p)} <= made
    for entry in payload["artifacts"]:
        passport = open_artifact(Path(entry["path"])).passport
        assert passport.trained is False
        assert (entry["parity"] or {}).get("images") == 8 or entry["parity_why"]
        assert Path(entry["path"]).suffix in {EXPORTERS.load(name).suffix for name in EXPORTERS.names()}
        if Path(f"{entry['path']}.proof.safetensors").exists() and opens_here(passport.format):
            assert cnnkit_json("verify", entry["path"], "--artifacts", tmp_path)["ok"]
    again = cnnkit_json(*command, status=3)["artifacts"]
    assert [(entry["path"], entry["cached"]) for entry in again] == [
        (entry["path"], True) for entry in payload["artifacts"]
    ]


def computes_here(name: str, precision: Precision) -> bool:
    try:
        EXPORTERS.load(name).prepare(ExportOptions(root=Path(), precision=precision))
    except UnavailableError:
        return False
    return not any(backend.lacks(precision) for backend in openers(EXPORTERS.load(name).format)[:1])


def opens_here(kind: str) -> bool:
    return any(backend.availability().available for backend in openers(kind)[:1])


@pytest.mark.parametrize("name", EXPORTERS.names())
def test_every_exporter_declares_what_it_is(name: str) -> None:
    exporter: Exporter = EXPORTERS.load(name)
    assert isinstance(exporter, Exporter)
    assert exporter.name == name
    assert exporter.precisions
    assert exporter.source_formats
    assert "precision" in exporter.reads
    assert set(exporter.reads) <= {field.name for field in dataclasses.fields(ExportOptions)}
    for field in own_fields(exporter):
        assert field.option.help


def test_no_two_exporters_write_the_same_file() -> None:
    every = EXPORTERS.all()
    for precision in precisions():
        options = ExportOptions(root=Path(), precision=precision)
        endings = [one.ending(options) for one in every if precision in one.precisions]
        assert len(set(endings)) == len(endings)
    assert len({one.format for one in every}) == len(every)
