"""The walk from a source to all that was asked for: checkpoint → ONNX → cast ONNX → engine → repository."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from exporters.proving.proof import proven
from exporters.run.cache import KEY, asked, export_key, stored
from exporters.run.fingerprint import data_fingerprint
from exporters.run.form import unmet
from exporters.run.int8 import Calibrated, calibrate
from exporters.run.paths import export_path, refuse_another_network
from exporters.run.publish import refuse_unwritable
from toolkit import catalog
from toolkit.artifacts import Artifact, Precision
from toolkit.errors import CnnkitError, GateError, UnavailableError, unknown_name
from toolkit.exporting import Exported, Exporter, ExportOptions
from toolkit.exporting.evidence import Evidence, gather

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Missed:
    """A format at a precision that was not made, why, and the exit status that it means."""

    format: str
    precision: str
    reason: str
    exit_status: int = UnavailableError.exit_status


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one command asks for. `named` tells whether the formats were typed or are the defaults."""

    formats: tuple[str, ...]
    precisions: tuple[Precision, ...]
    options: ExportOptions
    named: bool = False
    fresh: bool = False


@dataclass(kw_only=True)
class Report:
    """What an export made, what this machine cannot make, and what failed its checks."""

    artifacts: list[Exported] = field(default_factory=list)
    skipped: list[Missed] = field(default_factory=list)
    failed: list[Missed] = field(default_factory=list)


class Walk:
    """One export command's run over one source; the evidence is gathered when first needed."""

    def __init__(self, source: Artifact, request: Request, tell: Tell) -> None:
        self.source = source
        self.request = request
        self.tell = tell
        self.report = Report()
        self._evidence: Evidence | None = None
        self._calibrated: Calibrated | None = None

    def run(self) -> Report:
        """Make everything that was asked for; what fails or is not here is reported, not raised."""
        if not self.request.fresh:
            refuse_another_network(self.source, self.request.options)
        refuse_unwritable(export_path(self.source, self.request.options, "onnx").parent)
        able = [(name, precision) for name, precision in self._wanted() if self._can(name, precision)]
        if self.source.passport.format == "trt":
            return self._from_engine()
        plain = self._plain()
        if plain is None:
            return self.report
        for precision in self.request.precisions:
            self._branch(plain, precision, [name for name, p in able if p == precision])
        return self.report

    def _branch(self, plain: Artifact, precision: Precision, formats: list[str]) -> None:
        """Make one precision's graphs and what is built from them.

        int8 has two graphs, one in each runtime's dialect; bf16 has none that a CPU could run, so
        its engine is built from the fp32 graph.
        """
        others = [name for name in formats if name != "onnx"]
        if self._serves_plan() and "triton" in others:
            others.remove("triton")
            others += [] if "trt" in others else ["trt"]
        if precision in ("fp32", "bf16"):
            for name in others:
                self._then_served(name, self._step(name, plain, precision), precision)
            return
        purposes = ("cpu", "trt") if precision == "int8" else ("",)
        for purpose in purposes:
            built = [name for name in others if precision != "int8" or (name == "trt") == (purpose == "trt")]
            if not built and not (purpose in ("", "cpu") and "onnx" in formats):
                continue
            graph = self._step("onnx", plain, precision, purpose=purpose)
            if graph is not None:
                for name in built:
                    self._then_served(name, self._step(name, graph, precision), precision)

    def _serves_plan(self) -> bool:
        """Tell whether a repository was asked for whose model is a plan of classic TensorRT."""
        return "triton" in self.request.formats and self.request.options.extra.get("flavour") == "classic"

    def _then_served(self, name: str, made: Artifact | None, precision: Precision) -> None:
        if name == "trt" and made is not None and self._serves_plan():
            self._step("triton", made, precision)

    def _from_engine(self) -> Report:
        """An engine can only be served; it cannot be turned back into a graph."""
        for name in self.request.formats:
            if name == "triton":
                self._step(name, self.source, self.source.passport.precision)
                continue
            reason = f"{self.source.path.name} is an engine: name its checkpoint or .onnx file instead"
            self.report.skipped.append(
                Missed(format=name, precision=self.source.passport.precision, reason=reason)
            )
        return self.report

    def _wanted(self) -> list[tuple[str, Precision]]:
        return [(name, precision) for precision in self.request.precisions for name in self.request.formats]

    def _can(self, name: str, precision: Precision) -> bool:
        """Tell, before any work, whether a format can be had at a precision; note why it cannot."""
        exporter = self._exporter(name)
        try:
            if precision not in exporter.precisions:
                able = ", ".join(exporter.precisions)
                raise UnavailableError(f"{name} files have no {precision}; possible: {able}")
            exporter.prepare(dataclasses.replace(self.request.options, precision=precision))
        except UnavailableError as error:
            self.report.skipped.append(Missed(format=name, precision=precision, reason=str(error)))
            return False
        return True

    def _plain(self) -> Artifact | None:
        """Return the fp32 graph that all others are made from.

        A proven graph that lies in its own place already is that graph: made from itself again, it
        would be proven against itself. Raises CnnkitError where its other form would replace it.
        """
        known = self.source.passport
        own = export_path(self.source, self.request.options, "onnx")
        if known.format != "onnx" or self.source.path.resolve() != own.resolve():
            return self._step("onnx", self.source, "fp32")
        changed = unmet(known, self.request.options)
        if changed:
            raise CnnkitError(
                f"{own.name} would be replaced by what {changed} makes of it; add `--name NAME` for another "
                "place, or name its checkpoint instead"
            )
        if not proven(self.source):
            return self._step("onnx", self.source, "fp32")
        if self.request.fresh:
            self.tell(f"{own.name} is not made again: it is what was named to export from")
        self.report.artifacts.append(Exported(artifact=self.source, seconds=0.0, cached=True))
        return self.source

    def _exporter(self, name: str) -> Exporter:
        found: Exporter = catalog.load("exporter", name)
        return found

    def _step(
        self, name: str, source: Artifact, precision: Precision, *, purpose: str = ""
    ) -> Artifact | None:
        """Make one artifact, or take it from its stored result; None where that did not work."""
        missed = Missed(format=name, precision=precision, reason="")
        try:
            made = self._make(self._exporter(name), source, precision, purpose)
        except UnavailableError as error:
            self.report.skipped.append(dataclasses.replace(missed, reason=str(error)))
            return None
        except CnnkitError as error:  # the others are still made; the exit status tells
            self.report.failed.append(
                dataclasses.replace(missed, reason=str(error), exit_status=error.exit_status)
            )
            return None
        self.report.artifacts.append(made)
        return made.artifact

    def _make(self, exporter: Exporter, source: Artifact, precision: Precision, purpose: str) -> Exported:
        given = {**self.request.options.extra, "purpose": purpose or None}
        options = dataclasses.replace(self.request.options, precision=precision, extra=given)
        path = export_path(source, options, exporter.format)
        key = export_key(source, asked(exporter, options, lambda: self._data))
        found = None if self.request.fresh else stored(path, key)
        if found:
            return Exported(artifact=found, seconds=0.0, cached=True)
        self.tell(f"exporting {source.path.name} to {path.name} …")
        handed = {
            **{KEY: key, "evidence": self.evidence, "calibrated": self.calibrated, "tell": self.tell},
            "reference": self.source,
        }
        return exporter.export(source, dataclasses.replace(options, extra={**given, **handed}))

    @cached_property
    def _data(self) -> str | None:
        return data_fingerprint(self.source.passport, self.request.options.data_dir)

    def calibrated(self, source: Artifact) -> Calibrated:
        """Return the one calibration that all int8 graphs of this run share."""
        if self._calibrated is None:
            from toolkit.graphs.reading import read_graph

            self.tell("calibrating int8 …")
            model = read_graph(source.path)
            self._calibrated = calibrate(model, source.passport, self.request.options)
            held = self._calibrated.held
            self.tell(f"calibrated on {held.calibration_source}")
            if held.why_unjudged:
                self.tell(f"int8 is NOT judged, no accuracy gate was applied: {held.why_unjudged}")
        return self._calibrated

    def evidence(self) -> Evidence:
        """The pictures that this run's exports are judged on."""
        if self._evidence is None:
            options = self.request.options
            self._evidence = gather(
                self.source.passport, images=options.images, seed=options.seed, data_dir=options.data_dir
            )
            if self._evidence.why_random:
                self.tell(f"judged on seeded random images: {self._evidence.why_random}")
        return self._evidence


def check_formats(formats: tuple[str, ...]) -> None:
    """Raise NotFoundError with the nearest match for a format that no exporter makes."""
    known = catalog.names("exporter")
    for name in formats:
        if name not in known:
            raise unknown_name("format", name, known)


def raise_first(report: Report, *, named: bool) -> None:
    """Raise the failure that decides the exit status: a failed check, then a named format not here."""
    if report.failed:
        kind = GateError if any(m.exit_status == 4 for m in report.failed) else CnnkitError
        raise kind("; ".join(f"{m.format} {m.precision}: {m.reason}" for m in report.failed))
    if report.skipped and named:
        raise UnavailableError("; ".join(f"{m.format} {m.precision}: {m.reason}" for m in report.skipped))
    if not report.artifacts:
        reasons = "; ".join(m.reason for m in report.skipped)
        raise CnnkitError(f"nothing could be exported: {reasons}")
