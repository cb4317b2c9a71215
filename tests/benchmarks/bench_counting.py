"""Multiply-adds and memory peaks of 40 networks against torch's own counter and events, and fvcore.

    python -m tests.benchmarks.bench_counting [--onnx] [NAME ...]

- PyTorch: our walk without data, our walk on the CPU, `torch.utils.flop_counter.FlopCounterMode` on torch's
  meta device, fvcore's counter where it is installed (its convolutions, dense layers and products alone)
- ONNX, with --onnx (minutes): our count of the graph that `torch.onnx.export` wrote
- memory: the most that torch's allocator held in a call, by our timeline and by torch's own profiler

All networks untrained, one picture of 64x64, or as large as the network needs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from toolkit.backends._torch_trace import trace_module
from toolkit.graphs.counting import count_graph
from toolkit.modules import visit

TORCHVISION = (
    "alexnet", "convnext_tiny", "densenet121", "densenet169", "efficientnet_b0", "efficientnet_v2_s",
    "googlenet", "inception_v3", "mnasnet0_5", "mnasnet1_0", "mobilenet_v2", "mobilenet_v3_small",
    "mobilenet_v3_large", "regnet_y_400mf", "regnet_x_800mf", "resnet18", "resnet50", "resnext50_32x4d",
    "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg16_bn",
    "wide_resnet50_2", "vit_b_16", "swin_t", "swin_v2_t", "maxvit_t",
)  # fmt: skip
TIMM = (
    "convmixer_768_32", "cspresnet50", "ghostnet_100", "hrnet_w18_small", "mixer_s32_224",
    "mobileone_s0", "repvgg_a0", "resnest14d", "tinynet_e", "lambda_resnet26t", "levit_128s",
)  # fmt: skip
SIDES = {
    "inception_v3": 96, "vit_b_16": 224, "swin_t": 64, "maxvit_t": 224, "mixer_s32_224": 224,
    "levit_128s": 224, "alexnet": 96, "lambda_resnet26t": 256,
}  # fmt: skip
PRODUCTS = {"conv", "addmm", "linear", "matmul", "bmm", "einsum", "baddbmm"}


def build(name: str) -> torch.nn.Module:
    """Return a network of torchvision or timm, untrained."""
    if name in TORCHVISION:
        import torchvision

        extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(name, weights=None, **extra).eval()  # type: ignore[no-any-return]
    import timm

    return timm.create_model(name, pretrained=False).eval()


def by_walk(module: torch.nn.Module, shape: tuple[int, ...], device: str) -> int | None:
    """Return the multiply-adds of our walk."""
    with torch.inference_mode():
        rows = visit(module, torch.zeros(shape, device=device))
    found = [row.macs for row in rows if row.macs is not None]
    return sum(found) if len(found) == len(rows) else None


def by_flop_counter(module: torch.nn.Module, shape: tuple[int, ...]) -> int:
    """Return half of what torch's own counter says."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():  # type: ignore[no-untyped-call]
        module(torch.zeros(shape, device="meta"))
    return int(counter.get_total_flops()) // 2


def by_fvcore(module: torch.nn.Module, shape: tuple[int, ...]) -> int | None:
    """Return fvcore's multiply-adds of what both count; None where it is not installed."""
    try:
        from fvcore.nn import FlopCountAnalysis
    except ImportError:
        return None
    counter = FlopCountAnalysis(module, torch.zeros(shape)).unsupported_ops_warnings(False)
    counter.uncalled_modules_warnings(False).tracer_warnings("none")
    return int(sum(count for op, count in counter.by_operator().items() if op in PRODUCTS))


def by_graph(module: torch.nn.Module, shape: tuple[int, ...]) -> int | None:
    """Return the multiply-adds of the ONNX graph that torch writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        torch.onnx.export(module, (torch.zeros(shape),), path, dynamo=True, verbose=False)
        nodes = count_graph(path, batch=1).nodes
    found = [node.macs for node in nodes if node.macs is not None]
    return sum(found) if len(found) == len(nodes) else None


def torchs_peak(module: torch.nn.Module, shape: tuple[int, ...]) -> int:
    """Return the most that torch's profiler saw allocated in a call."""
    from torch.profiler import ProfilerActivity, profile

    given = torch.zeros(shape)
    with torch.inference_mode():
        module(given)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            module(given)
    held = most = 0
    for size in _allocations(profiler):
        held += size
        most = max(most, held)
    return most


def _allocations(profiler: Any) -> list[int]:
    events = profiler.profiler.kineto_results.events()
    told = [event for event in events if event.name() == "[memory]"]
    return [int(event.nbytes()) for event in sorted(told, key=lambda event: event.start_ns())]


def line(name: str, *, onnx: bool) -> tuple[str, bool]:
    """Return a line of the table, and whether all counts of it agree."""
    side = SIDES.get(name, 64)
    shape = (1, 3, side, side)
    module = build(name)
    with torch.inference_mode():
        trace = trace_module(module, np.zeros(shape, np.float32), torch.device("cpu"), windows=1, runs=1)
    on_cpu = sum(node.macs or 0 for node in trace.nodes)
    peak, theirs = trace.memory.peak_activation_bytes, torchs_peak(module, shape)
    owner = trace.nodes[int(np.argmax(trace.alive_bytes))].name if trace.alive_bytes else "–"
    counts: dict[str, Callable[[], int | None]] = {
        "fvcore": lambda: by_fvcore(module, shape),
        "graph": (lambda: by_graph(module, shape)) if onnx else lambda: None,
        "walk": lambda: by_walk(module.to("meta"), shape, "meta"),
        "torch": lambda: by_flop_counter(module, shape),
    }
    found = {key: _tried(count) for key, count in counts.items()}
    agree = found["walk"] == on_cpu == found["torch"] and abs((peak or 0) - theirs) <= 0.01 * theirs
    cells = [name, str(side), _text(found["walk"]), _text(on_cpu)]
    cells += [_text(found[key]) for key in ("torch", "fvcore", "graph")]
    cells += [_text(peak), _text(theirs), f"`{owner}`"]
    return f"| {' | '.join(cells)} |", agree


def _tried(count: Callable[[], int | None]) -> int | str | None:
    try:
        return count()
    except Exception as error:  # another package's own: the table says so
        return type(error).__name__


def _text(value: int | str | None) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else value


COLUMNS = (
    "network", "side", "walk, no data", "walk, CPU", "FlopCounter", "fvcore", "ONNX graph", "peak, bytes",
    "by torch's events", "set by",
)  # fmt: skip


def main() -> int:
    """Print the table; return 1 where counts disagree."""
    options = argparse.ArgumentParser()
    options.add_argument("--onnx", action="store_true", help="count the exported graphs, too (minutes)")
    options.add_argument("names", nargs="*", default=[*TORCHVISION, *TIMM])
    asked = options.parse_args()
    torch.set_num_threads(1)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    agree = True
    for name in asked.names:
        text, alike = line(name, onnx=asked.onnx)
        agree &= alike
        print(text, flush=True)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
