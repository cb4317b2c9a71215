"""ONNX Runtime: runs ONNX files on the CPU, or on an NVIDIA GPU where its CUDA provider really loads."""

from __future__ import annotations

import functools
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Artifact
from toolkit.backends import Availability, Backend, BackendSetting, Engine, EngineOptions, Examination
from toolkit.backends._ort_profile import SPELLING, read_events, read_optimized, read_profile
from toolkit.backends._ort_providers import load_cuda_libraries
from toolkit.errors import CorruptError, UnavailableError, is_out_of_memory
from toolkit.graphs.reasons import reason_of
from toolkit.machine.cpu import cpu, saturates
from toolkit.machine.cuda import gpus
from toolkit.passports import Format
from toolkit.traces import ForeignFiles, ForeignTrace, Trace, timed, trimmed_mean

HOW_TO_GET = "pip install cnnkit"
# words for GraphOptimizationLevel, from nothing to everything
LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "all": "ORT_ENABLE_ALL",
}
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
NO_CUDA = "ONNX Runtime has no working CUDA provider here"
NO_CUDA_HINT = "; `--device cpu` runs on this machine"
# ONNX Runtime's workers spin for about a millisecond after a run and take cores from what comes next
IDLE_S = 0.005


class OrtEngine(Engine):
    """An ONNX file in an inference session."""

    backend = "ort"

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, options)
        target = artifact.passport.target
        wrong = saturates(target.instruction_set, cpu()) if target else None
        self.device = BACKEND.device_for(options)
        if wrong and self.device == "cpu":
            warnings.warn(wrong, RuntimeWarning, stacklevel=3)
        self.session = self._session(self._settings())

    def _settings(self) -> Any:
        import onnxruntime as ort

        settings = ort.SessionOptions()
        settings.log_severity_level = 4  # what fails is raised, without lines of its source
        if self.options.threads:
            settings.intra_op_num_threads = self.options.threads
        # a server's idle workers must not spin, unless that was measured to pay and chosen
        spins = BACKEND.setting(self.options, "spinning") == "on"
        if not spins or (self.options.yields and "spinning" not in self.options.chosen):
            settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        level = LEVELS[BACKEND.setting(self.options, "level")]
        settings.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        return settings

    def _session(self, settings: Any) -> Any:
        import onnxruntime as ort

        path, (kind, index) = self.artifact.path, self._place
        wanted, chosen = PROVIDERS[kind], {}
        if kind == "cuda":
            load_cuda_libraries()
            # by default products are rounded to TF32, too coarse for the proof of an fp32 file, and each
            # shape's kernels are those that were fastest once: other ones, and other sums, in each process
            chosen = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
            if ":" in self.device:
                chosen["device_id"] = str(index)
        try:
            graph = self.options.graph or path
            # what it falls back to would be told on stdout
            session = ort.InferenceSession(graph, settings, providers=[(wanted, chosen)], enable_fallback=0)
        except Exception as error:  # the runtime's own errors share no base class
            why = reason_of(error)
            if kind == "cuda" and "CUDA" in why:
                raise UnavailableError(f"{NO_CUDA} ({why}){NO_CUDA_HINT}") from None
            raise CorruptError(f"ONNX Runtime cannot open {path}: {why}") from None
        # a session that was asked for CUDA falls back to the CPU without a word: look, never assume
        if wanted not in session.get_providers():
            raise UnavailableError(NO_CUDA + NO_CUDA_HINT)
        return session

    @property
    def _place(self) -> tuple[str, int]:
        """The kind of device, and which one of that kind."""
        kind, _, index = self.device.partition(":")
        return kind, int(index or 0)

    def feed(self, batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return what the session is fed for a batch, values of further inputs included."""
        return {**self.options.feed, self._input_name: np.ascontiguousarray(batch)}

    @functools.cached_property
    def _input_name(self) -> str:
        return str(self.session.get_inputs()[0].name)

    @functools.cached_property
    def output_names(self) -> tuple[str, ...]:
        """The outputs' names, that of the scores first: a file from elsewhere may have it anywhere."""
        names = [output.name for output in self.session.get_outputs()]
        scores = self.artifact.passport.output.name
        return tuple(sorted(names, key=lambda name: name != scores))

    def run(self, batch: NDArray[Any]) -> list[NDArray[Any]]:
        self.check(batch)
        try:
            found = self.session.run(self.output_names, self.feed(batch))
        except Exception as error:  # the runtime's own errors share no base class
            if is_out_of_memory(error):
                raise self.no_memory(batch) from None
            shape = "×".join(map(str, batch.shape))
            raise CorruptError(
                f"ONNX Runtime cannot run {self.artifact.path} on {shape}: {reason_of(error)}; "
                "a graph that holds one batch only must name it as its input's"
            ) from None
        return [np.asarray(value) for value in found]

    def bind(self, batch: NDArray[Any]) -> Callable[[], object]:
        self.check(batch)
        return self._call(self.session, batch)

    def _call(self, session: Any, batch: NDArray[Any]) -> Callable[[], object]:
        """Return one run of a session: on a GPU the input lies there already, and the output stays there."""
        feed, (kind, index) = self.feed(batch), self._place
        if kind != "cpu":
            with self.within_memory(batch):
                on_device = bound_run(session, feed, kind, index)

            def call() -> object:
                try:
                    return on_device()
                except Exception as error:  # the runtime's own errors share no base class
                    if is_out_of_memory(error):
                        raise self.no_memory(batch) from None
                    raise

            return call
        run = session.run
        return lambda: run(None, feed)

    def trace(self, batch: NDArray[Any], *, windows: int, runs: int) -> Trace:
        self.check(batch)
        with tempfile.TemporaryDirectory(prefix="cnnkit-") as folder:
            settings = self._settings()
            settings.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
            settings.enable_profiling = True
            settings.profile_file_prefix = str(Path(folder) / "profile")
            session = self._session(settings)
            run = self._call(session, batch)
            with self.within_memory(batch):
                run()  # the first run pays for arenas and packing
            totals = []
            for _ in range(windows):
                totals.append(float(trimmed_mean(np.array(timed(run, runs)))))
                time.sleep(IDLE_S)
            events = read_events(Path(session.end_profiling()))
            graph = read_optimized(Path(settings.optimized_model_filepath))
        on_cpu = self._place[0] == "cpu"  # a GPU's kernels are only launched in the time that is told
        return read_profile(events, graph, windows=windows, runs=runs, totals=tuple(totals), timed=on_cpu)


def bound_run(session: Any, feed: Mapping[str, NDArray[Any]], kind: str, index: int) -> Callable[[], object]:
    """Return a run whose inputs and outputs lie on a device; it returns when the device is done."""
    import onnxruntime as ort

    binding = session.io_binding()
    for name, value in feed.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value, kind, index))
    for output in session.get_outputs():
        binding.bind_output(output.name, kind, index)

    def run() -> object:
        session.run_with_iobinding(binding)
        return binding

    return run


class Ort(Backend):
    """ONNX Runtime, part of the base install."""

    name = "ort"
    title = "ONNX Runtime"
    summary = "ONNX Runtime"
    platform = "onnxruntime_onnx"
    formats: ClassVar[Mapping[Format, str | None]] = {"onnx": "onnx"}
    device_words = ("cpu", "cuda", "cuda:N")
    order = 1
    spelling = SPELLING
    foreign = ("ONNX Runtime's own profile (`enable_profiling`)",)
    settings: ClassVar[Mapping[str, BackendSetting]] = {
        "level": BackendSetting(
            choices=tuple(LEVELS),
            default="all",
            help="How far ONNX Runtime optimises the graph.",
            tries=("extended",),
        ),
        "spinning": BackendSetting(
            choices=("on", "off"),
            default="on",
            help="Whether ONNX Runtime's idle workers spin for their next work.",
            tries=("off",),
        ),
    }

    def variants(self, artifact: Artifact, *, threads: int, batch: int) -> Iterator[Mapping[str, str]]:
        for one in super().variants(artifact, threads=threads, batch=batch):
            if threads > 1 or "spinning" not in one:  # a single thread has nobody to wait for
                yield one

    def availability(self) -> Availability:
        try:
            import onnxruntime as ort
        except ImportError:
            return Availability(
                available=False, why_not="ONNX Runtime is not installed", how_to_get=HOW_TO_GET
            )
        return Availability(available=True, version=str(ort.__version__), devices=("cpu",))

    def import_runtime(self) -> None:
        import onnxruntime  # noqa: F401

    def examine(self) -> Examination:
        from toolkit.backends._ort_providers import problems, providers

        parts = providers()
        works = parts.get(PROVIDERS["cuda"], "not compiled in") is None
        devices = tuple(f"cuda:{gpu.index}" for gpu in gpus()) if works else ()
        return Examination(parts=parts, problems=problems(), devices=devices)

    def read_foreign(self, files: ForeignFiles) -> ForeignTrace | None:
        from toolkit.backends._ort_foreign import read_foreign

        return read_foreign(files)

    def open(self, artifact: Artifact, options: EngineOptions) -> Engine:
        self.require()
        return OrtEngine(artifact, options)


BACKEND = Ort()
