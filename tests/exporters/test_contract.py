"""One contract over every exporter × every network of the zoo × every precision that it claims.

The small networks run always, the large ones in `make test-all`. Weights are seeded and untrained:
what is asked here is that everything exports, opens in its consumer and answers like its source.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exporters.conftest import cnnkit_json
from toolkit import catalog
from toolkit.artifacts import SUFFIXES, open_artifact
from toolkit.exporting import Exporter

LIGHT = ("lenet", "lenet-dropout", "cifarnet-bn")


def precisions() -> list[str]:
    claimed = (catalog.load("exporter", name).precisions for name in catalog.names("exporter"))
    return sorted({precision for each in claimed for precision in each})


def cases() -> list[object]:
    marks = {name: () if name in LIGHT else (pytest.mark.slow,) for name in catalog.models()}
    return [pytest.param(name, marks=marks[name]) for name in catalog.models()]


@pytest.mark.parametrize("model", cases())
def test_every_exporter_makes_every_precision_it_claims_of_every_model(model: str, tmp_path: Path) -> None:
    payload = cnnkit_json(
        *("export", model, "--untrained", "--format", ",".join(catalog.names("exporter"))),
        *("--precision", ",".join(precisions()), "--images", 8, "--calibration-images", 8),
        *("--artifacts", tmp_path),
        status=3,  # bf16 is named, and neither ONNX files nor Triton have it
    )
    assert payload["failed"] == []
    assert {(m["format"], m["precision"]) for m in payload["skipped"]} == {
        ("onnx", "bf16"),
        ("triton", "bf16"),
    }
    made = {(entry["format"], entry["precision"]) for entry in payload["artifacts"]}
    for name in catalog.names("exporter"):
        exporter: Exporter = catalog.load("exporter", name)
        assert {(exporter.format, precision) for precision in exporter.precisions} <= made
    for entry in payload["artifacts"]:
        passport = open_artifact(Path(entry["path"])).passport
        assert passport.trained is False
        if entry["format"] != "trt":
            assert entry["parity"]["images"] == 8
        if entry["format"] in ("onnx", "trt"):
            assert Path(entry["path"]).suffix in SUFFIXES


@pytest.mark.parametrize("name", catalog.names("exporter"))
def test_every_exporter_declares_what_it_is(name: str) -> None:
    exporter: Exporter = catalog.load("exporter", name)
    assert isinstance(exporter, Exporter)
    assert exporter.name == name
    assert exporter.precisions
    assert exporter.source_formats
    assert "precision" in exporter.reads
