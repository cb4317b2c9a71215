"""Which ONNX file goes into the folder: each is answered in a browser, and the smallest good one stays."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from exporters.browser.folder import WebFacts, change_facts, fill_folder
from exporters.browser.visiting import Browser, ProofRecord, RaceRecord, race, visit
from toolkit.artifacts import Artifact
from toolkit.errors import CnnkitError, GateError
from toolkit.figures import bytes_text, ms_text
from toolkit.passports import Precision
from toolkit.telling import Tell

# the smaller precisions in the order of their size
SMALLER: tuple[Precision, ...] = ("int8", "fp16")
# networks that answer sooner lose more by waking a second thread than it computes
THREADS_FROM_MS = 5.0
MOST_THREADS = 4
# more threads are taken where they need this share of one thread's time at most
FASTER = 0.95
# a smaller file is taken unless it needs more than so many times fp32's time: less is a tie
SLOWER = 1.1


@dataclass(frozen=True, kw_only=True)
class FilledFolder:
    """The ONNX file in a folder, how a browser answered its proof (None without one), and why this one."""

    graph: Artifact
    record: ProofRecord | None
    why: str | None = None


@dataclass(frozen=True, kw_only=True)
class FolderMaker:
    """Fills one folder. `made` returns the ONNX file at a precision; raises CnnkitError where none can be."""

    folder: Path
    runtime: Path
    webgpu: Path | None
    browser: Browser | None
    made: Callable[[Precision], Artifact]
    tell: Tell

    def fill(self, source: Artifact, open_precision: bool) -> FilledFolder:
        """Fill the folder with a file, or with a smaller one of it where its precision is open.

        Raises GateError where the browser answers differently, CnnkitError where it cannot run the file.
        """
        chosen = self._answered(source)
        if open_precision and source.passport.precision == "fp32":
            chosen = self._smallest(chosen)
        facts = WebFacts(why=chosen.why)
        self._write(chosen.graph, facts)
        threaded = self._threaded(chosen)
        if threaded is not None:
            facts = dataclasses.replace(facts, threads=threaded.threads)
            change_facts(self.folder, facts)
            chosen = dataclasses.replace(chosen, record=threaded)
        if self.webgpu:
            chosen = self._on_gpu(chosen, dataclasses.replace(facts, webgpu=True))
        if chosen.why:
            self.tell(f"{chosen.graph.passport.precision} was taken: {chosen.why}")
        return chosen

    def _answered(self, graph: Artifact) -> FilledFolder:
        """Fill the folder and let the browser answer. Raises GateError where it disagrees."""
        if self.browser is None:
            return FilledFolder(graph=graph, record=None)
        self._write(graph, WebFacts())
        record = visit(self.folder, self.browser)
        said = f"{record.agree} of {record.images} agree in {self.browser.version}"
        self.tell(f"{graph.path.name}: {said}, {ms_text(record.latency_ms)} ms a picture")
        if record.agree < record.images:
            raise GateError(f"{graph.path.name}: only {said}; nothing was written")
        return FilledFolder(graph=graph, record=record)

    def _smallest(self, plain: FilledFolder) -> FilledFolder:
        """Return the smallest file that holds the budget and is not clearly slower, and why."""
        if plain.record is None:
            return dataclasses.replace(plain, why="no browser was here to try smaller ones in")
        rejected: list[str] = []
        with tempfile.TemporaryDirectory(prefix="cnnkit-web-") as place:
            beside = Path(shutil.copytree(self.folder, Path(place) / "plain"))
            for precision in SMALLER:
                why, found = self._rival(precision, plain.graph, beside)
                if found is not None:
                    return dataclasses.replace(found, why="; ".join((*rejected, f"{precision}: {why}")))
                rejected.append(f"{precision} {why}")
        return dataclasses.replace(plain, why="; ".join(rejected))

    def _rival(self, precision: Precision, plain: Artifact, beside: Path) -> tuple[str, FilledFolder | None]:
        """Return what is to be said of a smaller file, and the file where it may be taken.

        `beside` is a folder with fp32: the two are timed in turn, as another moment is no measure.
        """
        try:
            graph = self.made(precision)
            drop = graph.passport.accuracy_drop
            if precision == "int8" and drop is None:
                return f"was not judged ({graph.passport.accuracy_drop_why or 'no pictures'})", None
            found = self._answered(graph)
            assert self.browser is not None
            raced = race(beside, self.folder, self.browser)
        except CnnkitError as error:
            return f"failed ({error})", None
        before_ms, after_ms = median(raced.one_ms), median(raced.other_ms)
        times = f"{ms_text(after_ms)} ms in {precision} and {ms_text(before_ms)} in fp32, in turn"
        if _ratio(raced) > SLOWER:
            return f"is slower here ({times})", None
        sizes = " and ".join(bytes_text(one.path.stat().st_size) for one in (graph, plain))
        lost = f"loses {drop.points:.2f} points of {drop.allowed:g} allowed, " if drop else ""
        return f"{lost}{times}, {sizes}", found

    def _threaded(self, chosen: FilledFolder) -> ProofRecord | None:
        """Return how the folder is answered on more threads, where they are faster here."""
        one, cores = chosen.record, min(MOST_THREADS, os.cpu_count() or 1)
        if self.browser is None or one is None or one.latency_ms < THREADS_FROM_MS or cores < 2:
            return None
        try:
            raced = race(self.folder, self.folder, self.browser, threads=cores)
            times = f"{ms_text(median(raced.other_ms))} ms on {cores} threads"
            self.tell(f"{chosen.graph.path.name}: {times}, {ms_text(median(raced.one_ms))} on one, in turn")
            if _ratio(raced) > FASTER:
                return None
            more = visit(self.folder, self.browser, threads=cores)
        except CnnkitError as error:
            self.tell(f"one thread: {error}")
            return None
        return more if more.agree == more.images else None

    def _on_gpu(self, chosen: FilledFolder, facts: WebFacts) -> FilledFolder:
        """Add WebGPU to the folder, and tell what the browser here makes of it."""
        self._write(chosen.graph, facts, self.webgpu)
        if self.browser is None:
            return chosen
        record = visit(self.folder, self.browser)
        took = "taken" if record.provider == "webgpu" else record.gpu_why
        self.tell(f"WebGPU in {self.browser.version}: {took}; each visitor's page tries it anew")
        return dataclasses.replace(chosen, record=record)

    def _write(self, graph: Artifact, facts: WebFacts, webgpu: Path | None = None) -> None:
        for path in self.folder.iterdir():
            path.unlink()
        fill_folder(self.folder, graph, self.runtime, facts, webgpu)


def _ratio(raced: RaceRecord) -> float:
    """Return how many times the one's time the other needs: the median over the rounds."""
    return median(two / one for one, two in zip(raced.one_ms, raced.other_ms, strict=True))
