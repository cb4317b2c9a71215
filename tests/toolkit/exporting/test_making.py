"""What other commands make on their way takes no place of a file that nobody can tell the origin of."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.artifacts import open_artifact, shipped_root, sidecar
from toolkit.errors import CnnkitError
from toolkit.exporting import ExportOptions
from toolkit.exporting.making import make
from toolkit.telling import silent


def test_a_file_without_a_readable_passport_is_not_replaced_and_what_does_is_said(tmp_path: Path) -> None:
    graph = open_artifact(shipped_root() / "lenet-maxpool" / "lenet-maxpool.onnx")
    there = tmp_path / "lenet-maxpool" / "lenet-maxpool.fp16.onnx"
    there.parent.mkdir()
    there.write_bytes(b"the only copy")
    options = ExportOptions(root=tmp_path, precision="fp16")
    advice = rf"cnnkit export {graph.path} --format onnx --precision fp16 --fresh` replaces it"
    with pytest.raises(CnnkitError, match=f"it has no passport .*{advice}"):
        make(graph, "onnx", options, silent)
    sidecar(there).write_text("{")
    with pytest.raises(CnnkitError, match=f"its passport cannot be read .*{advice}"):
        make(graph, "onnx", options, silent)
    assert there.read_bytes() == b"the only copy"
