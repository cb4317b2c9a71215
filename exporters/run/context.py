"""What the exports of one run share: pictures and calibration, gathered when first needed, and only once."""

from __future__ import annotations

from functools import cached_property

from exporters.run.int8 import Calibrated, calibrate
from toolkit.artifacts import Artifact
from toolkit.exporting import Context, ExportOptions
from toolkit.exporting.evidence import Evidence, gather
from toolkit.graphs.reading import read_graph
from toolkit.telling import Tell, silent


class RunContext:
    """The context of one export command, or of a single export that was asked for alone.

    `reference` is the artifact that the run began with; `key` the hash that its present step is stored
    under, None where nothing is stored.
    """

    def __init__(self, reference: Artifact, options: ExportOptions, tell: Tell = silent) -> None:
        self.reference = reference
        self.options = options
        self.tell = tell
        self.key: str | None = None
        self._calibrated: Calibrated | None = None

    @cached_property
    def evidence(self) -> Evidence:
        """The pictures that this run's exports are judged on; that they are random is said."""
        found = gather(
            self.reference.passport,
            images=self.options.images,
            seed=self.options.seed,
            data_dir=self.options.data_dir,
            beside=self.reference.path,
        )
        if found.why_random:
            self.tell(f"judged on seeded random images: {found.why_random}")
        return found

    def calibrated(self, graph: Artifact) -> Calibrated:
        """Return the one calibration, of an fp32 graph, that all int8 graphs of this run share."""
        if self._calibrated is None:
            self.tell("calibrating int8 …")
            self._calibrated = calibrate(
                read_graph(graph.path), graph.passport, self.options, beside=graph.path
            )
            held = self._calibrated.held
            self.tell(f"calibrated on {held.calibration_source}")
            if held.why_unjudged:
                self.tell(f"int8 is NOT judged, no accuracy gate was applied: {held.why_unjudged}")
        return self._calibrated


def context_of(source: Artifact, options: ExportOptions, given: Context | None) -> RunContext:
    """Return the context of a run as it was handed on; a new one for an export that was asked for alone."""
    return given if isinstance(given, RunContext) else RunContext(source, options)
