"""A network in Chromium: cnnkit's classifier against a bare loop of onnxruntime-web, and against native.

    python -m tests.benchmarks.bench_web [NETWORK …]

- one picture, one thread, in one page, in turn, means over at least 100 ms: at most 1.1 × the bare loop
- the same file by native ONNX Runtime with one thread: the ratio is printed
- from an empty cache on this machine: opened to first answer, at most 1.5 s
- the size of each part of the folder, and as it is sent
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from exporters.run.export import export
from toolkit.artifacts import open_artifact, size_bytes
from toolkit.backends import BACKENDS, DEFAULT_BACKEND, EngineOptions
from toolkit.exporting import ExportOptions
from toolkit.figures import bytes_text
from toolkit.sites import site
from toolkit.traces import timed

ARGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
IN_TURN = """async () => {
  const { load } = await import("./classifier.js");
  const net = await load(".", { threads: 1 });
  const ort = net.ort;
  const input = net.blank();
  const tensor = new ort.Tensor(net.passport.input.dtype, input, [net.batch, ...net.shape]);
  const bare = () => net.session.run({ [net.passport.input.name]: tensor }, [net.passport.output.name]);
  const ours = () => net.run(input);
  const mean = async (call) => {
    let runs = 0;
    const start = performance.now();
    while (performance.now() - start < 150) { await call(); runs++; }
    return (performance.now() - start) / runs;
  };
  for (let i = 0; i < 20; i++) { await bare(); await ours(); }
  const found = [];
  for (let i = 0; i < 7; i++) found.push([await mean(bare), await mean(ours)]);
  return found;
}"""
PARTS = {
    "wasm": ("ort-wasm-simd-threaded.wasm.gz",),
    "runtime's scripts": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs"),
    "model": ("model.onnx",),
    "proof and passport": ("proof.safetensors", "passport.json", "web.json"),
    "page and classifier": (
        *("app.js", "check.js", "classifier.js", "decoding.js", "pixels.js", "sw.js"),
        *("index.html", "style.css"),
    ),
}


def made(name: str, precision: str, root: Path) -> Path:
    """Export an untrained network to a folder; what it answers takes as long."""
    options = ExportOptions(root=root, images=16, calibration_images=32)
    report = export(name, formats=["web"], precisions=[precision], untrained=True, options=options)  # type: ignore[list-item]
    return report.require().artifacts[-1].artifact.path


def native_ms(graph: Path) -> float:
    """Return the median of one picture by native ONNX Runtime with one thread."""
    artifact = open_artifact(graph)
    shape = tuple(extent or 1 for extent in artifact.passport.input.shape)
    with BACKENDS.load(DEFAULT_BACKEND).open(artifact, EngineOptions(threads=1)) as engine:
        batch = np.zeros(shape, dtype=artifact.passport.input.dtype)
        timed(lambda: engine.run(batch), 50)
        return statistics.median(timed(lambda: engine.run(batch), 300))


def table(folder: Path) -> None:
    """Print the size of each part, as it lies and as it is sent packed."""
    print(f"folder {bytes_text(size_bytes(folder))}")
    for part, names in PARTS.items():
        files = [folder / name for name in names]
        packed = [folder / f"{name}.gz" for name in names]
        sent = sum((p if p.exists() else f).stat().st_size for f, p in zip(files, packed, strict=True))
        print(
            f"  {part:<20} {bytes_text(sum(f.stat().st_size for f in files)):>9} sent {bytes_text(sent):>9}"
        )


def first_answer_s(browser: Any, url: str) -> float:
    """Return the seconds from opening the page, with nothing kept, to its being ready to answer."""
    context = browser.new_context()
    tab = context.new_page()
    start = time.perf_counter()
    tab.goto(url)
    tab.locator("html[data-state=ready]").wait_for(timeout=60_000)
    tab.locator("#paper").click()
    tab.locator("#bars li").first.wait_for()
    context.close()
    return time.perf_counter() - start


def main() -> None:
    from playwright.sync_api import sync_playwright

    names = sys.argv[1:] or ["lenet-maxpool", "resnet18-cifar"]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGS)
        print(f"Chromium {browser.version}")
        for name in names:
            for precision in ("fp32", "int8"):
                folder = made(name, precision, Path(place))
                kind = "" if precision == "fp32" else f".{precision}"
                native = native_ms(folder.with_name(folder.name.split(".")[0] + f"{kind}.onnx"))
                with site(folder) as server:
                    opened = statistics.median(first_answer_s(browser, server.url) for _ in range(3))
                    tab = browser.new_page()
                    tab.goto(server.url)
                    pairs = tab.evaluate(IN_TURN)
                    tab.close()
                bare, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
                ratio = statistics.median(two / one for one, two in pairs)
                print(
                    f"{name} {precision}: bare {bare:.3f} ms, ours {ours:.3f} ms ({ratio:.2f} ×, "
                    f"at most 1.1), "
                    f"native {native:.3f} ms ({ours / native:.1f} ×), "
                    f"first answer {opened:.2f} s (at most 1.5)"
                )
            table(folder)
        browser.close()


if __name__ == "__main__":
    main()
