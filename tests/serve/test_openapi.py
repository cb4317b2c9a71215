"""Schemathesis reads /openapi.json and tries what it allows, and what it does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serve.api.openapi import document
from tests.serve.conftest import MODEL, Server


def test_every_documented_path_is_routed(api: Server) -> None:
    for path, item in document([MODEL])["paths"].items():
        real = path.format(model=MODEL, version="fp32")
        for method in set(item) - {"parameters"}:
            body = b"{}" if method == "post" else None
            answer = api.ask(method.upper(), real, body)
            assert answer.status not in (404, 405, 500), (method, real)


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
