"""One contract over every exporter × every network of the zoo × every precision that it claims.

The small networks run always, the large ones in `make test-all`. Weights are seeded and untrained:
what is asked here is that everything exports, opens in its consumer and answers like its source.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exporters.conftest import cnnkit_json
from toolkit import zoo
from toolkit.artifacts import open_artifact
from toolkit.exporting import EXPORTERS, Exporter

LIGHT = ("lenet", "lenet-dropout", "cifarnet-bn")


def precisions() -> list[str]:
    claimed = (EXPORTERS.load(name).precisions for name in EXPORTERS.names())
    return sorted({precision for each in claimed for precision in each})


def cases() -> list[object]:
    marks = {name: () if name in LIGHT else (pytest.mark.slow,) for name in zoo.models()}
    return [pytest.param(name, marks=marks[name]) for name in zoo.models()]


@pytest.mark.parametrize("model", cases())
def test_every_exporter_makes_every_precision_it_claims_of_every_model(model: str, tmp_path: Path) -> None:
    payload = cnnkit_json(
        *("export", model, "--untrained", "--format", ",".join(EXPORTERS.names())),
        *("--precision", ",".join(precisions()), "--images", 8, "--calibration-images", 8),
        *("--artifacts", tmp_path),
        status=3,  # every precision is named, and not every format has each of them
    )
    assert payload["failed"] == []
    lacking = {
        (name, precision)
        for name in EXPORTERS.names()
        for precision in precisions()
        if precision not in EXPORTERS.load(name).precisions
    }
    assert {(m["format"], m["precision"]) for m in payload["skipped"]} == lacking
    made = {(entry["format"], entry["precision"]) for entry in payload["artifacts"]}
    for name in EXPORTERS.names():
        exporter: Exporter = EXPORTERS.load(name)
        assert {(exporter.format, precision) for precision in exporter.precisions} <= made
    for entry in payload["artifacts"]:
        passport = open_artifact(Path(entry["path"])).passport
        assert passport.trained is False
        assert (entry["parity"] or {}).get("images") == 8 or entry["parity_why"]
        assert Path(entry["path"]).suffix in {EXPORTERS.load(name).suffix for name in EXPORTERS.names()}


@pytest.mark.parametrize("name", EXPORTERS.names())
def test_every_exporter_declares_what_it_is(name: str) -> None:
    exporter: Exporter = EXPORTERS.load(name)
    assert isinstance(exporter, Exporter)
    assert exporter.name == name
    assert exporter.precisions
    assert exporter.source_formats
    assert "precision" in exporter.reads
