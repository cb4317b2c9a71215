"""ONNX graphs: read, named, counted and run."""

from __future__ import annotations

from toolkit.passports import Format

# the format that graphs are exchanged in
GRAPH: Format = "onnx"
