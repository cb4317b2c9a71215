"""Schemathesis reads /openapi.json and tries what it allows, and what it does not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed (extra serve)")

from serve.api import messages
from serve.api.openapi import OPERATIONS, document
from serve.lifetime import assemble
from serve.lineup import line_up
from serve.settings import OpeningSettings, ServeSettings
from tests.serve.conftest import MODEL, Server


def test_every_documented_path_is_routed(api: Server) -> None:
    for path, item in document([MODEL])["paths"].items():
        real = path.format(model=MODEL, version="fp32")
        for method in set(item) - {"parameters"}:
            body = b"{}" if method == "post" else None
            answer = api.ask(method.upper(), real, body)
            assert answer.status not in (404, 405, 500), (method, real)


def test_every_route_is_documented_but_the_documentation(shipped: Path, tmp_path: Path) -> None:
    settings = ServeSettings(opening=OpeningSettings(root=tmp_path), page=False)
    app = assemble(line_up([MODEL], settings.backend, settings.opening, others=False), settings)
    routed = {path: set(handlers) - {"HEAD"} for path, handlers in app.routes.items()}
    documented = {path: {one.method.upper()} for path, one in OPERATIONS.items()}
    assert {p: m for p, m in routed.items() if not p.startswith(("/docs", "/openapi"))} == documented


def test_the_types_that_are_read_and_written_are_the_ones_documented() -> None:
    schemas = document([MODEL])["components"]["schemas"]
    kinds = [kind for kind in vars(messages).values() if isinstance(kind, type(msgspec.Struct))]
    bodies = {kind for kind in kinds if kind not in (msgspec.Struct, messages.ClassifyQuery)}
    assert len(bodies) > 20
    for kind in bodies:
        assert set(schemas[kind.__name__]["properties"]) == set(kind.__struct_fields__)
    assert schemas["InferRequest"]["properties"]["inputs"]["maxItems"] == 1
    assert schemas["OutputParameters"]["properties"]["classification"]["minimum"] == 0
    assert '"null"' not in json.dumps(schemas)


def _tool() -> str:
    beside = Path(sys.executable).with_name("schemathesis")
    found = str(beside) if beside.is_file() else shutil.which("schemathesis")
    if found is None:
        pytest.skip("schemathesis is not installed (extra test)")
    return found


@pytest.mark.parametrize(
    "examples", [pytest.param(8), pytest.param(80, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_schemathesis_finds_nothing(api: Server, tmp_path: Path, examples: int) -> None:
    command = [_tool(), "run", f"{api.url}/openapi.json", "--max-examples", str(examples), "--no-color"]
    command += ["--phases", "examples,coverage,fuzzing", "--seed", "1"]
    # what is refused is refused for reasons no schema can say: a picture that is none, rows that do not fit
    command += ["--exclude-checks", "positive_data_acceptance,negative_data_rejection"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:]
