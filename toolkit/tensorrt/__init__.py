"""TensorRT in both flavours: networks, layers, kernels and what is known without a GPU."""

from __future__ import annotations

from toolkit.passports import Format

# the format of its engines
PLAN: Format = "trt"
