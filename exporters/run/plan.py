"""One export command: each format at each precision from what it needs, each step made once and checked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from exporters.graphs.form import unmet
from exporters.proving.proof import proven
from exporters.run.cache import export_key, stored
from exporters.run.context import RunContext
from exporters.run.ignored import typed_fields
from exporters.run.report import Missed, Report
from exporters.run.source import remove_leftovers
from toolkit.artifacts import Artifact
from toolkit.errors import CnnkitError, UnavailableError
from toolkit.exporting import (
    EXPORTERS,
    Exported,
    Exporter,
    ExportOptions,
    Need,
    begins,
    meets,
    need_of,
    reaches,
)
from toolkit.exporting.evidence import data_fingerprint
from toolkit.exporting.keys import asked
from toolkit.exporting.placing import export_path, refuse_another_network, refuse_unknown
from toolkit.graphs import GRAPH
from toolkit.passports import Dialect, Precision
from toolkit.publishing import make_writable
from toolkit.telling import Tell

# what a step is made once for: exporter, precision, dialect
Step = tuple[str, Precision, Dialect | None]


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What one export is asked for. `named` are the formats that were named rather than taken by default."""

    formats: tuple[str, ...]
    precisions: tuple[Precision, ...]
    options: ExportOptions
    named: frozenset[str] = frozenset()
    fresh: bool = False


class ExportRun:
    """One export command over one source."""

    def __init__(self, source: Artifact, request: ExportRequest, tell: Tell) -> None:
        self.source, self.request, self.tell = source, request, tell
        self.report = Report(named=request.named)
        self.context = RunContext(source, request.options, tell)
        self.context.made = self._made_beside
        self._made: dict[Step, Artifact | None] = {}

    def run(self) -> Report:
        """Make everything that was asked for; what fails or is not here is reported, not raised."""
        options = self.request.options
        if not self.request.fresh:
            refuse_another_network(self.source, options)
        wanted = [(name, precision) for precision in self._precisions() for name in self.request.formats]
        if wanted:
            make_writable(export_path(self.source, options, EXPORTERS.load(wanted[0][0])).parent)
        for name, precision in [step for step in wanted if self._can(*step)]:
            self._step(name, dataclasses.replace(options, precision=precision))
        if self.request.fresh and self.report.artifacts:
            remove_leftovers(self.source, options, self.tell)
        return self.report

    def _precisions(self) -> tuple[Precision, ...]:
        """Return the precisions to make: an end, as an engine, has the one that it has.

        So has a graph that came halved or quantised, which fp32 stands for; others are refused.
        """
        known, asked = self.source.passport, self.request.precisions
        name = self.source.path.name
        if not begins(self.source, self.request.options):
            if self.request.options.open_precision:
                return (known.precision,)
            own = tuple(one for one in asked if one == known.precision)
            for precision in [one for one in asked if one not in own]:
                why = f"{name} is {known.precision} and cannot become {precision}"
                self._refuse(
                    self.request.formats[0],
                    precision,
                    f"{why}: leave --precision away, or export the checkpoint or fp32 graph behind it",
                )
            return own
        if known.quantised_by is None:
            return asked
        how = "quantised" if known.precision == "int8" else "halved"
        own = tuple(one for one in asked if one == "fp32" or (one == known.precision and one != "int8"))
        for precision in [one for one in asked if one not in own]:
            why = f"{name} was {how} already by its {known.quantised_by}, and is {known.precision}"
            self._refuse(
                GRAPH,
                precision,
                f"{why}: leave --precision away to take it as it is, or export the file that it was made of",
            )
        if own:
            self.tell(f"{name} was {how} already by its {known.quantised_by}: it is taken as it is")
        return (known.precision,) if own else ()

    def _refuse(self, format: str, precision: Precision, reason: str) -> None:
        self.report.failed.append(
            Missed(format=format, precision=precision, reason=reason, exit_status=CnnkitError.exit_status)
        )

    def _can(self, name: str, precision: Precision) -> bool:
        """Tell, before any work, whether a format can be had at a precision; note why it cannot."""
        exporter = EXPORTERS.load(name)
        try:
            if precision not in exporter.precisions:
                able = ", ".join(exporter.precisions)
                raise UnavailableError(f"{name} files have no {precision}; possible: {able}")
            options = dataclasses.replace(self.request.options, precision=precision)
            if not reaches(self.source, name, options):
                raise UnavailableError(
                    f"{self.source.path.name} is {self.source.passport.format}, of which it cannot be made: "
                    "name its checkpoint or .onnx file instead"
                )
            exporter.prepare(options)
        except UnavailableError as error:
            self.report.skipped.append(Missed(format=name, precision=precision, reason=str(error)))
            return False
        return True

    def _step(self, name: str, options: ExportOptions) -> Artifact | None:
        """Make one artifact and what it needs, or take it from its stored result; None where that failed."""
        step = (name, options.precision, options.dialect)
        if step not in self._made:
            self._made[step] = None  # what fails is tried once
            self._made[step] = self._tried(EXPORTERS.load(name), options)
        return self._made[step]

    def _tried(self, exporter: Exporter, options: ExportOptions) -> Artifact | None:
        try:
            given = self._given(need_of(exporter, self.source, options), options)
            made = self._make(exporter, given, options) if given else None
        except CnnkitError as error:  # the others are still made; the exit status tells
            into = self.report.skipped if isinstance(error, UnavailableError) else self.report.failed
            into.append(
                Missed(
                    format=exporter.name,
                    precision=options.precision,
                    reason=str(error),
                    exit_status=error.exit_status,
                )
            )
            return None
        if made is not None:
            self.report.artifacts.append(made)
        return made.artifact if made else None

    def _made_beside(self, need: Need, options: ExportOptions) -> Artifact:
        """Make what a step needs besides its source, or take it as it was made. Raises CnnkitError."""
        asked = need.options(options)
        step = (need.exporter, asked.precision, asked.dialect)
        known = self._made.get(step)
        if known is not None:
            return known
        exporter = EXPORTERS.load(need.exporter)
        given = self._given(need_of(exporter, self.source, asked), asked)
        if given is None:
            raise CnnkitError(f"what {need.exporter} {need.precision} is made of could not be made")
        made = self._make(exporter, given, asked)
        self._made[step] = made.artifact
        self.report.artifacts.append(made)
        return made.artifact

    def _given(self, need: Need | None, options: ExportOptions) -> Artifact | None:
        """Return what an export is made from; None where making that failed, which was reported."""
        if need is None or self._serves(need, options):
            return self.source
        return self._step(need.exporter, need.options(options))

    def _serves(self, need: Need, options: ExportOptions) -> bool:
        """Tell whether the run's source is what is needed, as it lies there.

        A graph is not: its own exporter takes it first, proves it and gives it its place.
        """
        maker = EXPORTERS.load(need.exporter)
        again = maker.needs(need.options(options)) is None
        taken = again and self.source.passport.format in maker.source_formats
        return not taken and meets(self.source, need)

    def _make(self, exporter: Exporter, source: Artifact, options: ExportOptions) -> Exported:
        path = export_path(source, options, exporter)
        if source.path.resolve() == path.resolve() and (known := self._in_place(exporter, path)):
            return known
        key = export_key(source, asked(exporter, options, lambda: self._data), exporter.packages)
        found = None if self.request.fresh else stored(path, key)
        if found:
            return Exported(artifact=found, seconds=0.0, cached=True)
        refuse_unknown(path, source.path, fresh=self.request.fresh, tell=self.tell)
        self.tell(f"exporting {source.path.name} to {path.name} …")
        self.context.key = key
        return exporter.export(source, options, self.context)

    def _in_place(self, exporter: Exporter, path: Path) -> Exported | None:
        """Return the run's source where it is proven and lies where its own export would.

        Made from itself again, it would be proven against itself. Raises CnnkitError where its other
        form would replace it, or an option would not be heeded; None where it has no proof yet.
        """
        own = list(typed_fields(exporter, self.request.options))
        if own:
            raise CnnkitError(
                f"{path.name} is what was named to export from, and stays as it is: leave --{own[0]} away, "
                "or name the checkpoint that it came from"
            )
        changed = unmet(self.source.passport, self.request.options)
        if changed:
            raise CnnkitError(
                f"{path.name} would be replaced by what {changed} makes of it; add `--name NAME` for another "
                "place, or name its checkpoint instead"
            )
        if not proven(self.source):
            return None
        if self.request.fresh:
            self.tell(f"{path.name} is not made again: it is what was named to export from")
        return Exported(artifact=self.source, seconds=0.0, cached=True)

    @cached_property
    def _data(self) -> str | None:
        return data_fingerprint(self.source.passport, self.request.options.data_dir)
