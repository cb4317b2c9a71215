"""A damaged checkpoint, ONNX file or passport is told in one line: which file, what is wrong, what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.toolkit.inspection.conftest import Run
from toolkit.artifacts import hash_file, sidecar

ENDINGS = ("safetensors", "onnx")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _restamp(path: Path) -> None:
    """Cut the file and make its passport agree, as somebody who copies carelessly by hand might."""
    _cut(path)
    facts = json.loads(sidecar(path).read_text())
    sidecar(path).write_text(json.dumps({**facts, "sha256": hash_file(path)}))


def _drop_key(path: Path) -> None:
    facts = json.loads(sidecar(path).read_text())
    del facts["input"]
    sidecar(path).write_text(json.dumps(facts))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (_cut, "SHA-256 differs"),
    "cut and stamped": (_restamp, "cannot open|no readable safetensors"),
    "passport cut": (lambda path: _cut(sidecar(path)), "is damaged"),
    "passport without a key": (_drop_key, "is damaged: it lacks `input`"),
    "passport gone": (lambda path: sidecar(path).unlink(), "has no passport"),
    "file gone": (lambda path: path.unlink(), "no file"),
}


CASES = [
    (command, ending, damage)
    for command in ("eval", "predict", "show")
    for ending in ENDINGS
    for damage in DAMAGE
    # the passport alone says what show needs, and of a graph the graph itself
    if (command, damage) != ("show", "cut and stamped")
    and (command, ending, damage) != ("show", "onnx", "passport gone")
]


@pytest.mark.parametrize(("command", "ending", "damage"), CASES)
def test_damage_is_one_line_and_status_1(
    run: Run, exported: Path, boot: Path, tmp_path: Path, command: str, ending: str, damage: str
) -> None:
    shutil.copytree(exported / "lenet-maxpool", tmp_path / "lenet-maxpool")
    path = tmp_path / "lenet-maxpool" / f"lenet-maxpool.{ending}"
    spoil, message = DAMAGE[damage]
    spoil(path)
    words = {"eval": ("--dataset", "fashion-mnist-sample"), "predict": (boot,), "show": ()}[command]
    result = run(command, path, *words)
    assert result.exit_code == 1, result.output
    error = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert path.name in error[0]
    assert any(part in error[0] for part in message.split("|")), error[0]
