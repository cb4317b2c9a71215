"""An engine of OpenVINO: a graph compiled for the batch sizes that are asked for, called without copies."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Artifact
from toolkit.backends import Engine, EngineOptions
from toolkit.backends._openvino_cache import compile_model
from toolkit.backends._openvino_files import GRAPH_FILE, WEIGHTS_FILE, core, reason, refuse
from toolkit.backends._openvino_layers import computed_in, layer_times, mismatch, read_layers, said
from toolkit.backends._openvino_nodes import executed_nodes, read_operations
from toolkit.backends._openvino_streams import StreamedBatch, put_in
from toolkit.errors import CorruptError, UnavailableError
from toolkit.figures import shape_text
from toolkit.graphs import GRAPH
from toolkit.machine.cpu import cpu, saturates
from toolkit.passports import Precision
from toolkit.traces import Trace, TraceMemory, timed, trimmed_mean

# what the float parts of a file are computed in; fp16 files hold halves, which no CPU here computes in
HINTS: Mapping[Precision, str] = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}
# calls that pack weights and fill caches; what they took is left out of every layer's mean
WARM_UP = 2
MICROSECOND = 1e-3
NO_PEAK = "OpenVINO does not tell what its activations take"
WHOLE = "layers' times are means in whole microseconds, rounded down: what is missing is in the residual"


class OpenVinoEngine(Engine):
    """A graph compiled for one picture, for the first other batch size that is asked for, and for all others.

    A compiled model of its own makes a LeNet 16 % faster, others a few, and holds the weights once more.
    """

    backend = "openvino"

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        refuse(artifact)
        target = artifact.passport.target
        wrong = saturates(target.instruction_set, cpu()) if target else None
        if wrong:
            warnings.warn(wrong, RuntimeWarning, stacklevel=4)
        self.model: Any = self._read()
        self._requests: dict[int | None, Any] = {}
        self._streamed: dict[int, StreamedBatch] = {}
        self._shared_is_known = False  # what the one for all other sizes computes in shows when it has run
        self._request(artifact.passport.input.shape[0] or 1)  # what cannot be compiled is told now

    def _read(self) -> Any:
        path = self.artifact.path
        try:
            if self.options.graph:
                return core().read_model(self.options.graph)
            if self.artifact.passport.format == GRAPH:
                return core().read_model(path)
            # by its path it would be mapped, and change with the file
            return core().read_model(*((path / name).read_bytes() for name in (GRAPH_FILE, WEIGHTS_FILE)))
        except (OSError, RuntimeError) as error:  # RuntimeError is OpenVINO's own
            raise CorruptError(f"OpenVINO cannot open {path}: {reason(error)}") from None

    def _compiled(self, size: int | None, **more: Any) -> Any:
        """Return the graph compiled for a batch size, or for any. Raises CorruptError, UnavailableError."""
        known, options = self.artifact.passport, self.options
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[known.precision],
            "NUM_STREAMS": 1,  # one call at a time, on all threads
            "PERFORMANCE_HINT": "LATENCY",
            **({"INFERENCE_NUM_THREADS": options.threads} if options.threads else {}),
            **more,
        }
        as_it_lies = not (more or options.graph or options.feed)
        try:
            model = self.model.clone()
            if size is not None:
                shapes = {name: list(value.shape) for name, value in options.feed.items()}
                model.reshape({**shapes, self._first: [size, *known.input.shape[1:]]})
            compiled = compile_model(model, settings, self.artifact if as_it_lies else None, f"batch {size}")
        except RuntimeError as error:
            raise CorruptError(f"OpenVINO cannot run {self.artifact.path}: {reason(error)}") from None
        if size is not None:
            self._insist(compiled)
        return compiled

    @property
    def _first(self) -> str:
        """The name of the input that pictures go into."""
        return str(self.model.inputs[0].any_name)

    def _insist(self, compiled: Any) -> None:
        """Raise UnavailableError where a compiled model computes in what its name does not say."""
        known = self.artifact.passport
        wrong = mismatch(computed_in(read_layers(compiled)), known.precision)
        if wrong:
            raise UnavailableError(
                f"OpenVINO was asked to compute {self.artifact.path} in {known.precision}, and {wrong}"
            )

    def _request(self, size: int) -> Any:
        """Return what runs batches of a size: made for it if it is one of the first two, else for all others.

        An own one is faster; of more than two, none would stay small.
        """
        fixed = self.artifact.passport.input.shape[0]
        own = [known for known in self._requests if known is not None]
        key = size if size in own or len(own) < 2 or fixed else None
        if key not in self._requests:
            self._requests[key] = self._fed(self._compiled(key))
        return self._requests[key]

    @property
    def _streams_asked(self) -> int:
        return int(self.options.chosen.get("streams", "1"))

    def not_applied(self, batch: int) -> str | None:
        streams = self._streams_asked
        if streams < 2 or batch % streams == 0:
            return None
        return f"--streams {streams} does not divide a batch of {batch}: one stream runs it"

    def _streams(self, size: int) -> StreamedBatch | None:
        """Return what divides a batch among streams; None with one stream, or where the rows do not divide.

        Only of the first two sizes, as each holds the weights once more.
        """
        streams = self._streams_asked
        if streams < 2 or size % streams or (size not in self._streamed and len(self._streamed) > 1):
            return None
        if size not in self._streamed:
            compiled = self._compiled(size // streams, NUM_STREAMS=streams)
            self._streamed[size] = StreamedBatch([self._fed(compiled) for _ in range(streams)])
        return self._streamed[size]

    def _fed(self, compiled: Any) -> Any:
        """Return a request of a compiled model with the values of further inputs in it."""
        request = compiled.create_infer_request()
        for name, value in self.options.feed.items():
            request.set_tensor(name, _tensor(value))
        return request

    @property
    def arithmetic(self) -> Mapping[str, int]:
        compiled = next(iter(self._requests.values())).get_compiled_model()
        return dict(computed_in(read_layers(compiled)))

    @property
    def output_names(self) -> tuple[str, ...]:
        first = self.artifact.passport.output.name
        names = [sorted(str(name) for name in output.names) for output in self.model.outputs]
        return tuple(first if first in own else own[0] for own in names)

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        self.check(batch)
        streamed = self._streams(len(batch))
        if streamed is not None:
            self._first_call(streamed.bind(batch), batch)
            return streamed.outputs()
        request = self._request(len(batch))
        self._first_call(_bound(request, batch), batch)
        shared = request is self._requests.get(None)
        if shared and not self._shared_is_known:
            self._insist(request.get_compiled_model())
            self._shared_is_known = True
        # the answers lie in memory that the next call writes to
        return [np.array(tensor.data) for tensor in request.output_tensors]

    def _first_call(self, call: Callable[[], object], batch: NDArray[Any]) -> None:
        """Call. Raises CorruptError in one line."""
        try:
            call()
        except RuntimeError as error:
            path, shape = self.artifact.path, shape_text(batch.shape)
            raise CorruptError(f"OpenVINO cannot run {path} on {shape}: {reason(error)}") from None

    def bind(self, batch: NDArray[Any]) -> Callable[[], object]:
        self.check(batch)
        streamed = self._streams(len(batch))
        call = streamed.bind(batch) if streamed else _bound(self._request(len(batch)), batch)
        self._first_call(call, batch)
        return call

    def trace(self, batch: NDArray[Any], *, windows: int, runs: int) -> Trace:
        """Compile the graph anew for each window: a layer's mean is one since then and is never reset."""
        self.check(batch)
        if self._streams(len(batch)) is not None:
            raise UnavailableError(
                "OpenVINO tells no layers' times of several streams; leave out `--streams`"
            )
        times, totals = [], []
        for _ in range(windows):
            compiled = self._compiled(len(batch), PERF_COUNT=True)
            call = _bound(self._fed(compiled), batch)
            for _ in range(WARM_UP):
                self._first_call(call, batch)
            cold = read_layers(compiled)
            totals.append(float(trimmed_mean(np.array(timed(call, runs)))))
            layers = read_layers(compiled)
            times.append(layer_times(layers, cold=cold, warm_up=WARM_UP, runs=runs))
        return Trace(
            nodes=executed_nodes(layers, read_operations(self.model)),
            node_ms=np.array(times).reshape(windows, -1),
            resolution_ms=MICROSECOND,
            total_ms=tuple(totals),
            runs=windows * runs,
            memory=TraceMemory(why={"peak_activation_bytes": NO_PEAK}),
            note=f"computed in {said(computed_in(layers))}; {WHOLE}",
        )

    def close(self) -> None:
        self._requests.clear()
        self._streamed.clear()
        self.model = None


def _tensor(values: NDArray[Any]) -> Any:
    from openvino import Tensor

    return Tensor(np.ascontiguousarray(values), shared_memory=False)


def _bound(request: Any, batch: NDArray[Any]) -> Callable[[], object]:
    """Return one call of a request with a batch in its input, whose memory it shares.

    Of two calls of one request, each puts its own batch back.
    """
    # OpenVINO shares memory that it may write to alone; what a request brought may not be written to
    given = np.require(batch, requirements=["C", "W"])
    put_in(request, given)
    infer = request.infer

    def call() -> object:
        if request.given is not given:
            put_in(request, given)
        infer()
        return given

    return call
