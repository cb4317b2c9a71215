"""One profile: open the columns, check their answers, time them clean, trace them, align the rows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from toolkit.allocation import allocator
from toolkit.artifacts import CHECKPOINT, now
from toolkit.backends import BACKENDS, Backend, Engine, EngineOptions
from toolkit.errors import CnnkitError, OutOfMemoryError, ShapeError, UnavailableError
from toolkit.figures import duration_text
from toolkit.graphs.counting import SourceGraph, count_graph
from toolkit.profiling.columns import ColumnSources
from toolkit.profiling.judging.agreement import Agreements
from toolkit.profiling.measuring.batches import batches_of, feed
from toolkit.profiling.measuring.latency import measure
from toolkit.profiling.measuring.machine import describe_machine
from toolkit.profiling.measuring.memory import process_peak
from toolkit.profiling.measuring.tracing import TRACE_WINDOWS, TracePlan, joined
from toolkit.profiling.measuring.yardstick import TRACED, Yardstick
from toolkit.profiling.network.modules import Module, NetworkKey, modules_of, network_of, shared
from toolkit.profiling.result import Profile, Run, SkippedColumn
from toolkit.profiling.rows.align import align
from toolkit.profiling.rows.cells import columns_of, rows_of
from toolkit.profiling.rows.matching import claim
from toolkit.profiling.rows.observed import ObservedColumn
from toolkit.profiling.settings import ProfileSettings
from toolkit.telling import Tell, silent
from toolkit.traces import ExecutedNode

T = TypeVar("T")

# what starting a trace anew may cost beside its runs; a large graph in ONNX Runtime costs more, and gets two
START_S = 0.5
# calls of a column whose call outlasts the duration: its peak memory, three clean windows, four to trace it
CALLS = 8
PATIENCE_S = 20.0


def run_columns(chosen: ColumnSources, settings: ProfileSettings, tell: Tell) -> Profile:
    """Profile the chosen columns at every batch size; on Ctrl-C return what is complete, marked partial.

    Raises CnnkitError for a batch size that a file does not take.
    """
    runs: list[Run] = []
    batches = batches_of([target.artifact for target in chosen.targets], settings.batches, tell)
    for batch in batches:
        try:
            run = run_batch(chosen, settings, batch, tell)
        except OutOfMemoryError as error:
            if not runs:
                raise
            tell(f"batch {batch}: {error}; what was complete before it is kept")
            break
        if run is not None:
            runs.append(run)
        if run is None or run.partial:
            break
    if not runs:
        tell("interrupted before anything was complete")
        raise KeyboardInterrupt
    return Profile(
        model=", ".join(dict.fromkeys(target.artifact.passport.model for target in chosen.targets)),
        device=devices_of(runs) or settings.device or "cpu",
        threads=settings.threads,
        runs=tuple(runs),
        partial=any(run.partial for run in runs) or len(runs) < len(batches),
        machine=describe_machine(settings.threads),
        skipped=tuple(dict.fromkeys(entry for run in runs for entry in run.skipped)),
        created=now(),
    )


def devices_of(runs: Iterable[Run]) -> str:
    """Name each device that columns ran on, by commas; nothing where none did."""
    columns = (column for run in runs for column in run.backends.values() if column.measured)
    return ", ".join(dict.fromkeys(column.device for column in columns if column.device))


def run_batch(
    chosen: ColumnSources, settings: ProfileSettings, batch: int, tell: Tell = silent
) -> Run | None:
    """Profile the chosen columns at one batch size, without a word of the machine; None where nothing ran.

    On Ctrl-C what is complete is returned, marked partial.
    """
    return _Bench(chosen, settings, batch, tell).run()


class _Bench:
    """One batch size: every column is opened once, timed in turn with the others, then traced."""

    def __init__(self, chosen: ColumnSources, settings: ProfileSettings, batch: int, tell: Tell) -> None:
        self.chosen, self.settings, self.batch, self.tell = chosen, settings, batch, tell
        self.seen = {target.key: ObservedColumn(target=target) for target in chosen.targets}
        self.skipped = list(chosen.skipped)
        self.partial = False
        self.beside_clean, self.beside_trace = Yardstick(settings.threads), Yardstick(settings.threads)

    def run(self) -> Run | None:
        try:
            self._read()
            with ExitStack() as stack:
                engines = self._open(stack)
                agreement, reference = self._agreement(engines)
                self._clean(self._left(engines))
                if not self.partial:
                    self._trace(self._left(engines))
        except KeyboardInterrupt:
            self.partial = True
        if not any(seen.latency or seen.trace for seen in self.seen.values()):
            return None
        modules = self._modules()
        parts = align(modules, {key: seen.claims for key, seen in self.seen.items()})
        rows = rows_of(parts, self.seen)
        return Run(
            batch=self.batch,
            backends=columns_of(self.seen, rows),
            rows=rows,
            skipped=tuple(self.skipped),
            agreement=agreement,
            reference=reference,
            yardstick={
                **self.beside_clean.medians(),
                **{f"{TRACED}{name}": ms for name, ms in self.beside_trace.medians().items()},
            },
            partial=self.partial,
        )

    def _read(self) -> None:
        graphs: dict[Path, SourceGraph] = {}
        for seen in self.seen.values():
            path = seen.target.graph
            if path is not None:
                graphs[path] = graphs.get(path) or count_graph(path, batch=self.batch)
                seen.graph = graphs[path]
                seen.notes += seen.graph.notes

    def _modules(self) -> tuple[Module, ...]:
        """Give each column the modules of its network; return those of all networks.

        A network's are those of its first column, then those that only later columns know.
        """
        networks: dict[NetworkKey, dict[str, Module]] = {}
        for seen in self.seen.values():
            network = network_of(seen.target.artifact)
            found = networks.setdefault(network, {})
            own = modules_of(
                seen.target.artifact.passport if self.settings.walks or seen.graph is None else None,
                seen.graph,
                batch=self.batch,
                model_file=self.settings.model_file,
                ran=self._calls_of(network),
            )
            for module in own:
                known = found.setdefault(module.name, module)
                if known.flow is None:
                    found[module.name] = dataclasses.replace(known, flow=module.flow)
        for seen in self.seen.values():
            seen.modules = tuple(networks[network_of(seen.target.artifact)].values())
        return shared(network.values() for network in networks.values())

    def _calls_of(self, network: NetworkKey) -> tuple[ExecutedNode, ...]:
        """Return the calls of a checkpoint of that network in this profile; empty where none was run."""
        for seen in self.seen.values():
            own = network_of(seen.target.artifact)
            if seen.target.artifact.passport.format == CHECKPOINT and seen.trace and own == network:
                return seen.trace.nodes
        return ()

    def _open(self, stack: ExitStack) -> dict[str, Engine]:
        engines: dict[str, Engine] = {}
        for key, seen in list(self.seen.items()):
            target = seen.target
            if target.static_why is not None:
                continue
            backend = BACKENDS.load(target.backend)
            options = self._options(backend, seen)
            try:
                seen.device = backend.device_for(options)
                engine = stack.enter_context(backend.open(target.artifact, options))
                engine.check(self._input(key))
            except (UnavailableError, ShapeError) as error:
                self._leave_out(key, error)
                continue
            engines[key] = engine
            if without := engine.not_applied(len(self._input(key))):
                seen.notes.append(without)
        return engines

    def _left(self, engines: Mapping[str, Engine]) -> dict[str, Engine]:
        """Return the engines of columns that were not left out since."""
        return {key: engine for key, engine in engines.items() if key in self.seen}

    def _leave_out(self, key: str, error: CnnkitError) -> None:
        """Skip a column without this device, batch or memory; raise for one that was named or is alone."""
        if self.chosen.named or len(self.seen) == 1:
            raise error
        target = self.seen.pop(key).target
        self.tell(f"batch {self.batch}: left out {key}: {error}")
        precision = target.artifact.passport.precision
        self.skipped.append(SkippedColumn(backend=target.backend, precision=precision, reason=str(error)))

    def _options(self, backend: Backend, seen: ObservedColumn) -> EngineOptions:
        """Return how a column is opened: with the graph whose nodes have names, and all its inputs fed."""
        settings, graph = self.settings, seen.graph
        others = list(graph.inputs.items())[1:] if graph else []
        return EngineOptions(
            device=settings.device,
            threads=settings.threads,
            model_file=settings.model_file,
            graph=graph.renamed if graph else None,
            feed={n: feed(s, d, batch=self.batch, seed=settings.seed) for n, (d, s) in others},
            chosen={name: value for name, value in settings.chosen.items() if name in backend.settings},
        )

    def _input(self, key: str) -> NDArray[Any]:
        spec = self.seen[key].target.artifact.passport.input
        return feed(spec.shape, spec.dtype, batch=self.batch, seed=self.settings.seed)

    def _agreement(self, engines: Mapping[str, Engine]) -> tuple[dict[str, float | None], dict[str, str]]:
        """Return each column's largest difference from the first of its network's, and that one's name."""
        agreements = Agreements()
        for key, engine in engines.items():
            given, start = self._input(key), time.perf_counter()
            try:
                answer = engine.logits(given)
            except OutOfMemoryError as error:
                self._leave_out(key, error)
                continue
            except (TypeError, ValueError) as error:
                self.seen[key].notes.append(f"its answer is no array of numbers ({error}); not compared")
                continue
            finally:  # a runtime compiles, packs and allocates in its first call
                if key in self.seen:
                    self.seen[key].first_call_ms = (time.perf_counter() - start) * 1e3
            if not np.isfinite(answer).all():
                self.seen[key].notes.append("its answers hold NaN or infinite numbers")
            if alone := agreements.add(key, self.seen[key].target.artifact.passport, answer):
                self.seen[key].notes.append(alone)
        return agreements.found, agreements.reference

    def _clean(self, engines: Mapping[str, Engine]) -> None:
        if not engines:
            return  # what is static takes no time to measure
        self.tell(f"batch {self.batch}: timing {', '.join(engines)} …")
        self._warn_of_patience(engines)
        calls = self._where_it_fits(
            {key: partial(engine.bind, self._input(key)) for key, engine in engines.items()}
        )
        peaks = self._where_it_fits({key: partial(process_peak, call) for key, call in calls.items()})
        calls = {key: call for key, call in calls.items() if key in peaks}
        latencies, self.partial = measure(
            calls, duration_s=self.settings.duration_s, between=self.beside_clean
        )
        for key, latency in latencies.items():
            self.seen[key].process_peak_bytes = peaks[key]
            self.seen[key].allocator = allocator()
            if latency is None:
                continue
            first = self.seen[key].first_call_ms
            self.seen[key].latency = dataclasses.replace(latency, first_call_ms=first)
            if latency.runs < TRACE_WINDOWS:
                self.seen[key].notes.append(
                    f"one call lasts {duration_text(latency.median / 1e3)}: {latency.runs} runs only"
                )

    def _where_it_fits(self, work: Mapping[str, Callable[[], T]]) -> dict[str, T]:
        """Do each column's work and return what comes of it; leave out columns that have no memory for it."""
        found: dict[str, T] = {}
        for key, do in work.items():
            try:
                found[key] = do()
            except OutOfMemoryError as error:
                self._leave_out(key, error)
        return found

    def _warn_of_patience(self, engines: Iterable[str]) -> None:
        """Say beforehand what calls that outlast the duration will take."""
        first = {key: (self.seen[key].first_call_ms or 0) / 1e3 for key in engines}
        slow = {key: seconds for key, seconds in first.items() if seconds > self.settings.duration_s}
        whole_s = CALLS * sum(slow.values())
        if whole_s >= PATIENCE_S:
            said = ", ".join(f"{key} {duration_text(seconds)} a call" for key, seconds in slow.items())
            whole = duration_text(whole_s, rough=True)
            self.tell(f"{said}: about {whole} to come; Ctrl-C keeps what is complete")

    def _trace(self, engines: Mapping[str, Engine]) -> None:
        plans = {
            key: TracePlan.after(
                self.seen[key].latency,
                duration_s=self.settings.duration_s,
                windows=self.settings.windows,
            )
            for key in engines
        }
        try:
            for key, seen in self.seen.items():
                if key in engines:
                    self.tell(f"batch {self.batch}: profiling {key} …")
                else:
                    backend = BACKENDS.load(seen.target.backend)
                    seen.trace = backend.static(seen.target.artifact, seen.target.graph, batch=self.batch)
            while any(plan.left for plan in plans.values()):
                self.beside_trace()
                for key, plan in plans.items():
                    if plan.left:
                        self._piece(key, engines[key], plan)
            if engines:
                self.beside_trace()
        finally:  # what was complete counts, on Ctrl-C too
            for seen in self.seen.values():
                if seen.trace is not None:
                    spelling = BACKENDS.load(seen.target.backend).spelling
                    seen.claims = claim(seen.trace.nodes, seen.graph, spelling)

    def _piece(self, key: str, engine: Engine, plan: TracePlan) -> None:
        """Trace one column's next windows: all that are left, where starting anew would cost too much."""
        seen, start = self.seen[key], time.perf_counter()
        try:
            piece = engine.trace(self._input(key), windows=plan.windows, runs=plan.runs)
        except (OutOfMemoryError, UnavailableError) as error:
            # a profiler holds more than a call does, and knows not every way to run
            seen.notes.append(f"no layers' times: {error}")
            plan.left = 0
            return
        start_s = time.perf_counter() - start - sum(piece.total_ms) * plan.runs / 1e3
        seen.trace = joined(seen.trace, piece)
        plan.left -= plan.windows
        if start_s > START_S and not self.settings.turns:
            plan.windows = plan.left
        if seen.copies is None:
            seen.copies = engine.call_times(self._input(key), runs=TRACE_WINDOWS)
