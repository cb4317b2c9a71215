"""The walk from a source to all that was asked for: checkpoint → ONNX → cast ONNX → engine → repository."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporters import Exported, Exporter, ExportOptions
from exporters.flow.cache import KEY, export_key, stored
from exporters.proving.evidence import Evidence, gather
from toolkit import catalog
from toolkit.artifacts import Artifact, Precision, artifact_path
from toolkit.errors import CnnkitError, GateError, UnavailableError, unknown_name

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Missed:
    """A format at a precision that was not made, and why."""

    format: str
    precision: str
    reason: str


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

    def run(self) -> Report:
        """Make everything that was asked for; what fails or is not here is reported, not raised."""
        able = [(name, precision) for name, precision in self._wanted() if self._can(name, precision)]
        plain = self._plain()
        if plain is None:
            return self.report
        for precision in self.request.precisions:
            graph = plain if precision == "fp32" else self._step("onnx", plain, precision)
            for name in self.request.formats:
                if name != "onnx" and graph is not None and (name, precision) in able:
                    self._step(name, graph, precision)
        return self.report

    def _wanted(self) -> list[tuple[str, Precision]]:
        return [(name, precision) for precision in self.request.precisions for name in self.request.formats]

    def _can(self, name: str, precision: Precision) -> bool:
        """Tell, before any work, whether a format can be had at a precision; note why it cannot."""
        exporter = self._exporter(name)
        try:
            if precision not in exporter.precisions:
                able = ", ".join(exporter.precisions)
                raise UnavailableError(f"{name} has no {precision}; possible: {able}")
            exporter.prepare(dataclasses.replace(self.request.options, precision=precision))
        except UnavailableError as error:
            self.report.skipped.append(Missed(format=name, precision=precision, reason=str(error)))
            return False
        return True

    def _plain(self) -> Artifact | None:
        """Return the fp32 graph that all others are made from."""
        known = self.source.passport
        if known.format == "onnx" and self.source.path == self._path("onnx", "fp32"):
            return self.source
        return self._step("onnx", self.source, "fp32")

    def _path(self, name: str, precision: Precision) -> Path:
        exporter = self._exporter(name)
        return artifact_path(self.request.options.root, self.source.name, exporter.format, precision)

    def _exporter(self, name: str) -> Exporter:
        found: Exporter = catalog.load("exporter", name)
        return found

    def _step(self, name: str, source: Artifact, precision: Precision) -> Artifact | None:
        """Make one artifact, or take it from its stored result; None where that did not work."""
        missed = Missed(format=name, precision=precision, reason="")
        try:
            made = self._make(self._exporter(name), source, precision)
        except GateError as error:
            self.report.failed.append(dataclasses.replace(missed, reason=str(error)))
            return None
        except UnavailableError as error:
            self.report.skipped.append(dataclasses.replace(missed, reason=str(error)))
            return None
        self.report.artifacts.append(made)
        return made.artifact

    def _make(self, exporter: Exporter, source: Artifact, precision: Precision) -> Exported:
        options = dataclasses.replace(self.request.options, precision=precision)
        key = export_key(source, {"exporter": exporter.name, **_asked(options, exporter.reads)})
        path = self._path(exporter.name, precision)
        found = None if self.request.fresh else stored(path, key)
        if found:
            return Exported(artifact=found, seconds=0.0, cached=True)
        self.tell(f"exporting {source.path.name} to {path.name} …")
        extra = {**options.extra, KEY: key, "evidence": self.evidence, "reference": self.source}
        return exporter.export(source, dataclasses.replace(options, extra=extra))

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


def _asked(options: ExportOptions, reads: tuple[str, ...]) -> dict[str, Any]:
    """Return the options that one exporter's result depends on, as plain values."""
    return {name: getattr(options, name, options.extra.get(name)) for name in reads}


def check_formats(formats: tuple[str, ...]) -> None:
    """Raise NotFoundError with the nearest match for a format that no exporter makes."""
    known = catalog.names("exporter")
    for name in formats:
        if name not in known:
            raise unknown_name("format", name, known)


def raise_first(report: Report, *, named: bool) -> None:
    """Raise the failure that decides the exit status: a failed check, then a named format not here."""
    if report.failed:
        raise GateError("; ".join(f"{m.format} {m.precision}: {m.reason}" for m in report.failed))
    if report.skipped and named:
        raise UnavailableError("; ".join(f"{m.format} {m.precision}: {m.reason}" for m in report.skipped))
    if not report.artifacts:
        reasons = "; ".join(m.reason for m in report.skipped)
        raise CnnkitError(f"nothing could be exported: {reasons}")
