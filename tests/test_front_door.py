"""`cnnkit` starts fast and light: no command's help imports a heavy package, and typos are answered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import cnnkit

HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "gradio", "matplotlib")
WORDS = sorted(cnnkit._commands())

# Prints which heavy packages are in sys.modules after `cnnkit ARGS` ended.
PROBE = f"""
import json, sys, cnnkit
try:
    cnnkit.main(sys.argv[1:])
except SystemExit as end:
    status = end.code
print("\\n" + json.dumps([status, [name for name in {HEAVY!r} if name in sys.modules]]))
"""


def heavy_after(*args: str) -> tuple[int, list[str]]:
    command = [sys.executable, "-c", PROBE, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    status, heavy = json.loads(done.stdout.splitlines()[-1])
    return status, heavy


def test_help_imports_no_heavy_package() -> None:
    assert heavy_after("--help") == (0, [])


@pytest.mark.parametrize("word", WORDS)
def test_help_of_each_command_imports_no_heavy_package(word: str) -> None:
    assert heavy_after(word, "--help") == (0, [])


def test_the_probe_sees_a_heavy_package_when_there_is_one() -> None:
    probe = PROBE.replace("import json, sys, cnnkit", "import json, sys, cnnkit, onnxruntime")
    done = subprocess.run([sys.executable, "-c", probe, "--help"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])[1] == ["onnxruntime"]


def test_every_command_of_the_design_is_there() -> None:
    wanted = "train eval predict export verify profile compare sweep show serve import models datasets doctor"
    assert set(wanted.split()) <= set(WORDS)


@pytest.mark.parametrize("word", WORDS)
def test_every_command_says_what_it_does(word: str) -> None:
    result = CliRunner().invoke(cnnkit.main, [word, "--help"])
    assert result.exit_code == 0
    assert "--json" in result.output or word == "serve"


def test_an_unknown_command_names_the_nearest_match() -> None:
    result = CliRunner().invoke(cnnkit.main, ["tarin", "lenet"])
    assert result.exit_code == 2
    assert "Did you mean 'train'?" in result.output


def test_the_module_form_works_from_an_empty_directory(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cnnkit", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith("cnnkit, version ")
