"""A network's pick beside OpenVINO's own calls with its two hints, in turn in a process of their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from toolkit.artifacts import Artifact
from toolkit.backends import BACKENDS, EngineOptions
from toolkit.choosing import Candidate
from toolkit.profiling.measuring.batches import feed
from toolkit.profiling.measuring.latency import measure

# seconds of each call's windows, and of the full queue
DURATION_S, QUEUE_S = 0.5, 0.5
HINTS = ("LATENCY", "THROUGHPUT")
QUEUE = "openvino queue"


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
    with BACKENDS.load(pick.backend).open(pick.artifact, options) as engine:
        calls["pick"] = engine.bind(feed(takes.shape, takes.dtype, batch=batch, seed=0))
        for hint in HINTS:
            model = Core().read_model(graph.path)
            model.reshape(list(given.shape))
            compiled = Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": hint})
            request = compiled.create_infer_request()
            request.set_input_tensor(Tensor(given, shared_memory=True))
            calls[f"openvino {hint.lower()} hint"] = request.infer
        found, _ = measure(calls, duration_s=DURATION_S)
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
