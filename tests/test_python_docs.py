"""Every block of docs/python.md runs, in its order, in an empty folder; the first serves what it trained."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cnnkit
from tests.served import served

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
LONGEST_EXAMPLE = 25
# each block knows only what it imports itself; one process, so that torch is imported once
EACH = """
import sys
if __name__ == "__main__":
    for block in sys.argv[1:]:
        exec(compile(block, block, "exec"), {"__name__": "block"})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("torch", "onnx", "uvicorn"):
        pytest.importorskip(package)
    return tmp_path_factory.mktemp("python")


def test_the_example_from_training_to_serving_serves_what_it_trained(folder: Path) -> None:
    first = BLOCKS[0]
    assert len(first.splitlines()) < LONGEST_EXAMPLE
    code = first.replace("port=8000", "port=0")
    assert code != first
    with served(code, "shoes", folder) as run:
        run.send_signal(signal.SIGINT)
        output, errors = run.communicate(timeout=60)
        assert run.returncode == 0, errors
    assert "64 of 64 agree" in output
    assert (folder / "shoes.html").read_text().startswith("<!doctype html>")


def test_the_other_blocks_run_as_they_stand(folder: Path) -> None:
    assert len(BLOCKS) >= 6
    done = subprocess.run(
        [sys.executable, "-c", EACH, *BLOCKS[1:]], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr


def test_the_page_names_every_function() -> None:
    functions = [name for name in dir(cnnkit) if name.islower() and not name.startswith("_")]
    lacking = [name for name in functions if name != "errors" and f"`{name}(" not in PAGE]
    assert not lacking
