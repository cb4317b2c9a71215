"""A network's pick beside OpenVINO's own: its calls with two hints, and what its `benchmark_app` tells."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from toolkit.artifacts import Artifact
from toolkit.backends import BACKENDS, EngineOptions
from toolkit.choosing import Candidate
from toolkit.errors import CnnkitError
from toolkit.profiling.measuring.batches import feed
from toolkit.profiling.measuring.latency import measure

# seconds of each call's windows, and of the full queue
DURATION_S, QUEUE_S = 0.5, 0.5
HINTS = ("LATENCY", "THROUGHPUT")
QUEUE = "openvino queue"
# seconds that benchmark_app measures, and may take beside that to compile
APP_S, APP_MORE_S = 5, 120
APP = "benchmark_app"


def beside_hints(pick: Candidate, graph: Artifact, batch: int) -> dict[str, float]:
    """Return the pick's time over that of OpenVINO's calls with each hint, and of those of its full queue.

    The queue holds as many requests as the throughput hint asks for, and its time is by the call: it answers
    another question, as no one caller has its answer so soon. A fresh process is started for all.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(_beside_hints, pick, graph, batch).result()


def _beside_hints(pick: Candidate, graph: Artifact, batch: int) -> dict[str, float]:
    from openvino import Core, Tensor

    takes = pick.artifact.passport.input
    given = feed(graph.passport.input.shape, graph.passport.input.dtype, batch=batch, seed=0)
    options = EngineOptions(threads=pick.threads, chosen=dict(pick.settings))
    calls: dict[str, Callable[[], object]] = {}
    core = Core()
    with BACKENDS.load(pick.backend).open(pick.artifact, options) as engine:
        calls["pick"] = engine.bind(feed(takes.shape, takes.dtype, batch=batch, seed=0))
        for hint in HINTS:
            model = core.read_model(graph.path)
            model.reshape(list(given.shape))
            compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": hint})
            request = compiled.create_infer_request()
            request.set_input_tensor(Tensor(given, shared_memory=True))
            calls[f"openvino {hint.lower()} hint"] = request.infer
        found, interrupted = measure(calls, duration_s=DURATION_S)
        if interrupted:
            raise KeyboardInterrupt
        own = found.pop("pick")
        assert own is not None
        queued_ms = _queued_ms(compiled, given)
    return {name: own.median / one.median for name, one in found.items() if one} | {
        QUEUE: own.median / queued_ms
    }


def _queued_ms(compiled: object, given: object) -> float:
    """Return the milliseconds for each call of a full queue, of as many requests as are best."""
    from openvino import AsyncInferQueue

    queue, done = AsyncInferQueue(compiled), 0
    for _ in range(len(queue)):  # the first call of each packs weights
        queue.start_async({0: given})
    queue.wait_all()
    start = time.perf_counter()
    while time.perf_counter() - start < QUEUE_S:
        queue.start_async({0: given})
        done += 1
    queue.wait_all()
    return (time.perf_counter() - start) * 1e3 / done


def benchmark_app(graph: Artifact, batch: int, hint: str) -> dict[str, float]:
    """Run OpenVINO's `benchmark_app` on a graph with a hint; return what it tells, and `by_call_ms`.

    That is its whole time by its calls: its median is told in hundredths of a millisecond. Raises CnnkitError
    where it is not here or fails.
    """
    program = Path(sys.executable).with_name(APP)
    if not program.exists():
        raise CnnkitError(f"no {APP} beside {sys.executable}; pip install 'cnnkit[openvino]' brings it")
    shape = feed(graph.passport.input.shape, graph.passport.input.dtype, batch=batch, seed=0).shape
    with tempfile.TemporaryDirectory() as folder:
        words = ["-m", graph.path, "-d", "CPU", "-hint", hint.lower(), "-t", APP_S]
        # left to itself it feeds pictures as bytes, and converts them
        words += ["-shape", f"[{','.join(map(str, shape))}]", "-ip", "f32"]
        words += ["-report_type", "no_counters", "-json_stats", "-report_folder", folder]
        try:
            done = subprocess.run(
                [program, *map(str, words)],
                capture_output=True,
                text=True,
                check=False,
                timeout=APP_S + APP_MORE_S,
            )
        except subprocess.TimeoutExpired:
            raise CnnkitError(f"{APP} -hint {hint.lower()} took over {APP_S + APP_MORE_S} s") from None
        report = Path(folder) / "benchmark_report.json"
        if done.returncode or not report.exists():
            last = (done.stdout + done.stderr).strip().splitlines() or ["nothing"]
            raise CnnkitError(f"{APP} ended with status {done.returncode} and said last: {last[-1]}")
        told = {
            name: float(text) for name, text in json.loads(report.read_text())["execution_results"].items()
        }
    calls = told["total number of iterations"]
    return {**told, "by_call_ms": told["total execution time (ms)"] / calls, "calls": calls}
