"""Which parts of TensorRT's Python API the code uses, read from the code itself, and what bindings offer.

Run as a script with a module's name it checks those bindings and prints JSON: what is missing, and
which calls do not fit a signature. It imports nothing of cnnkit, so that it runs in any environment.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[3]
FILES = (
    *sorted((REPO / "toolkit" / "tensorrt").glob("*.py")),
    REPO / "toolkit" / "backends" / "trt.py",
    *sorted((REPO / "exporters" / "engines").glob("*.py")),
)
# what a variable or attribute of that name is in the code; None is the module itself
NAMES: dict[str, tuple[str, ...]] = {
    "network": ("INetworkDefinition",),
    "builder": ("Builder",),
    "parser": ("OnnxParser",),
    "config": ("IBuilderConfig",),
    "shapes": ("IOptimizationProfile",),
    "error": ("ParserError",),
    "layer": ("ILayer", "IConvolutionLayer", "IConstantLayer"),
    "tensor": ("ITensor",),
    "engine": ("ICudaEngine",),
    "context": ("IExecutionContext",),
    "runtime": ("Runtime",),
    "_runtime": ("Runtime",),
    "inspector": ("EngineInspector",),
    "settings": ("IRuntimeConfig",),
    "kernels": ("IRuntimeCache",),
}
# names of our own objects that are spelled like TensorRT's
OURS = {
    "network": {"network", "log", "trt", "builder", "layers", "types", "inputs", "parser"},
    "kernels": {"save", "close"},
    "layer": {
        *("precision", "onnx_nodes", "output_types", "input_types", "output_shapes", "input_shapes"),
        *("weights_bytes", "computes", "__class__", "get", "kind", "inputs", "outputs"),
    },
}
# reached by getattr, where the name is put together or handed in
INDIRECT = (
    *(("layer", name, None) for name in ("num_inputs", "num_outputs")),
    *(("layer", name, 1) for name in ("get_input", "get_output")),
    *(("module", name, None) for name in ("IConvolutionLayer", "IDeconvolutionLayer")),
    *(("LayerType", name, None) for name in ("CONVOLUTION", "DECONVOLUTION")),
    *(("HardwareCompatibilityLevel", n, None) for n in ("NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY")),
    *(("ILogger", "log", 2), ("IProfiler", "report_layer_time", 2)),
)
# used only behind a question whether the flavour has it
RTX_ONLY = {
    *("ComputeCapability", "num_compute_capabilities", "set_compute_capability", "get_compute_capability"),
    *("get_engine_validity", "EngineInvalidityDiagnostics"),
    "DynamicShapesKernelSpecializationStrategy",
    "dynamic_shapes_kernel_specialization_strategy",
    *("create_runtime_cache", "set_runtime_cache", "kernels"),
}


def uses() -> list[tuple[str, str, int | None]]:
    """Return (class or `module`, attribute, positional arguments of a call or None) from the code."""
    found: set[tuple[str, str, int | None]] = set(INDIRECT)
    for file in FILES:
        tree = ast.parse(file.read_text("utf-8"))
        calls = {id(node.func): len(node.args) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute):
                continue
            owner = node.value
            name = _name(owner)
            if name == "trt":
                found.add(("module", node.attr, calls.get(id(node))))
            elif isinstance(owner, ast.Attribute) and _name(owner.value) == "trt":
                found.add((owner.attr, node.attr, calls.get(id(node))))
            elif name in NAMES and node.attr not in OURS.get(name, set()):
                found.add((name, node.attr, calls.get(id(node))))
    return sorted(found, key=str)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def check(module: Any, *, classic: bool) -> dict[str, list[str]]:
    """Hold every use against bindings; return what is missing and which calls cannot fit."""
    missing, unfit, seen = [], [], 0
    for owner, attribute, arguments in uses():
        if classic and RTX_ONLY & {owner, attribute}:
            continue
        if owner == "module":
            holders = [module]
        elif owner in NAMES:
            holders = [getattr(module, name) for name in NAMES[owner]]
        else:
            holders = [getattr(module, owner, None)]
        having = [holder for holder in holders if hasattr(holder, attribute)]
        seen += 1
        if not having:
            missing.append(f"{owner}.{attribute}")
        elif arguments is not None and not _fits(getattr(having[0], attribute), arguments):
            unfit.append(f"{owner}.{attribute} called with {arguments}")
    return {"missing": missing, "unfit": unfit, "seen": [str(seen)]}


def _fits(function: Any, arguments: int) -> bool:
    """Tell from a pybind docstring whether so many positional arguments can be given."""
    if isinstance(function, type):
        function = function.__init__
    lines = re.findall(r"^(?:\d+\. )?\w+\((.*)\) -> ", function.__doc__ or "", re.MULTILINE)
    if not lines or any(line.startswith("*args") for line in lines):
        lines = [line for line in lines if not line.startswith("*args")] or ["*"]
    if lines == ["*"]:
        return True
    return any(_accepts(line, arguments) for line in lines)


def _accepts(signature: str, arguments: int) -> bool:
    parts = [part for part in re.split(r",\s*(?=\w+: )", signature) if part.strip()]
    parts = [part for part in parts if not part.startswith("self")]
    needed = sum("=" not in part for part in parts)
    return needed <= arguments <= len(parts)


if __name__ == "__main__":
    print(json.dumps(check(importlib.import_module(sys.argv[1]), classic=sys.argv[1] != "tensorrt_rtx")))
