"""Quartet: runs graphs and crates of graphs on the CPU, at most four pictures a call.

Its engine is ONNX Runtime without any optimisation. A convolution and the ReLU behind it count as one
node, a `duo`; every other node is a `solo`. Tensors are `voice:<tensor>`.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Artifact
from toolkit.backends import Availability, Backend, BackendSetting, Engine, EngineOptions, Examination
from toolkit.errors import CorruptError
from toolkit.passports import Format, Precision
from toolkit.traces import ExecutedNode, NodeSpelling, Trace, TraceMemory, trimmed_mean

MOST = 4
MAGIC = b"CRATE "
KERNEL = "_kernel_time"
EXECUTION = {"slow": 0, "brisk": 1}  # sequential, parallel


class QuartetEngine(Engine):
    """A graph in a session that changes nothing of it."""

    backend = "quartet"

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        BACKEND.device_for(options)
        self.graph = options.graph or _unpacked(artifact.path)
        self.session: Any = self._session(self._settings())

    def _settings(self) -> Any:
        import onnxruntime as ort

        settings = ort.SessionOptions()
        settings.log_severity_level = 4
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.execution_mode = ort.ExecutionMode(EXECUTION[BACKEND.setting(self.options, "tempo")])
        settings.intra_op_num_threads = self.options.threads or 0
        if self.options.yields:
            settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return settings

    def _session(self, settings: Any) -> Any:
        import onnxruntime as ort

        try:
            return ort.InferenceSession(self.graph, settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own errors share no base class
            first = str(error).strip().splitlines()[0]
            raise CorruptError(f"Quartet cannot open {self.artifact.path}: {first}") from None

    @property
    def batch_sizes(self) -> tuple[int, int | None]:
        least, most = super().batch_sizes
        return least, most or MOST

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.session.get_outputs())

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        self.check(batch)
        found = [np.asarray(value) for value in self.session.run(None, self._feed(self.session, batch))]
        return [rounded(value) for value in found] if self.artifact.passport.precision == "bf16" else found

    def _feed(self, session: Any, batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {**self.options.feed, session.get_inputs()[0].name: np.ascontiguousarray(batch)}

    def trace(self, batch: NDArray[Any], *, windows: int, runs: int) -> Trace:
        self.check(batch)
        with tempfile.TemporaryDirectory() as folder:
            settings = self._settings()
            settings.enable_profiling = True
            settings.profile_file_prefix = str(Path(folder) / "quartet")
            session = self._session(settings)
            feed, totals = self._feed(session, batch), []
            session.run(None, feed)
            for _ in range(windows):
                start = time.perf_counter()
                for _ in range(runs):
                    session.run(None, feed)
                totals.append((time.perf_counter() - start) / runs * 1e3)
            events = json.loads(Path(session.end_profiling()).read_bytes())
        return _trace(events, self.graph, totals=tuple(totals), runs=runs)

    def close(self) -> None:
        self.session = None


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values cut off to those that bf16 has: the upper halves of their bits."""
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _unpacked(path: Path) -> bytes:
    """Return the graph of a file: what is behind a crate's first line, or the whole file."""
    data = path.read_bytes()
    return data.partition(b"\n")[2] if data.startswith(MAGIC) else data


def _trace(events: list[Mapping[str, Any]], graph: bytes, *, totals: tuple[float, ...], runs: int) -> Trace:
    import onnx

    microseconds = defaultdict(list)
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(KERNEL):
            microseconds[name.removesuffix(KERNEL)].append(float(event["dur"]))
    known = {node.name: node for node in onnx.load_from_string(graph).graph.node}
    first_readers = {tensor: node for node in reversed(known.values()) for tensor in node.input}
    inside: dict[str, str] = {}  # a ReLU → the convolution that takes it in
    for name, node in known.items():
        reader = first_readers.get(node.output[0])
        if node.op_type == "Conv" and reader is not None and reader.op_type == "Relu":
            inside[reader.name] = name
    nodes, node_ms = [], []
    for name in (one for one in microseconds if one not in inside):
        pair = [name, *(relu for relu, conv in inside.items() if conv == name)]
        nodes.append(_node(name, known.get(name), fused=len(pair) > 1))
        spent = sum(np.array(microseconds[one][1:]) for one in pair)
        node_ms.append(trimmed_mean(np.reshape(spent, (len(totals), runs)) / 1e3))
    why = "Quartet does not watch its memory"
    return Trace(
        nodes=tuple(nodes),
        node_ms=np.stack(node_ms, axis=1),
        total_ms=totals,
        runs=len(totals) * runs,
        memory=TraceMemory(why={"peak_activation_bytes": why}),
    )


def _node(name: str, node: Any, *, fused: bool) -> ExecutedNode:
    if node is None:  # put in by the runtime, to compute in a type that this processor has
        return ExecutedNode(name=f"solo {name}", type="Cast", moves_data=True)
    if fused:
        return ExecutedNode(name=f"duo {name}", type="ConvRelu")
    return ExecutedNode(
        name=f"solo {name}",
        type=node.op_type,
        inputs=tuple(f"voice:{tensor}" for tensor in node.input),
        outputs=tuple(f"voice:{tensor}" for tensor in node.output),
    )


class Quartet(Backend):
    """Runs `.onnx` and `.crate` files in a session of ONNX Runtime."""

    name = "quartet"
    title = "Quartet"
    summary = "four pictures at a time"
    platform = "quartet_graph"
    formats: ClassVar[Mapping[Format, str | None]] = {"crate": "crate", "onnx": "onnx"}
    device_words = ("cpu", "podium")
    computes: ClassVar[Mapping[Precision, Precision]] = {"bf16": "fp32"}
    settings: ClassVar[Mapping[str, BackendSetting]] = {
        "tempo": BackendSetting(choices=tuple(EXECUTION), default="slow", help="How fast Quartet plays.")
    }
    spelling = NodeSpelling(
        taken_in=re.compile("^duo "), moved=re.compile("^voice:"), folds=frozenset({"Relu"})
    )

    def availability(self) -> Availability:
        return Availability(available=True, version="4.4", devices=("cpu",))

    def examine(self) -> Examination:
        return Examination(parts={"first violin": None, "cello": "its strings are missing"})

    def open(self, artifact: Artifact, options: EngineOptions) -> Engine:
        return QuartetEngine(artifact, options)


BACKEND = Quartet()
