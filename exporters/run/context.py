"""What the exports of one run share: pictures and calibration, gathered when first needed, and only once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property

from exporters.run.int8 import NOISE, Calibrated, calibrate
from toolkit.artifacts import Artifact
from toolkit.exporting import Context, ExportOptions, Need
from toolkit.exporting.evidence import Evidence, answers_of, gather, random_evidence
from toolkit.exporting.making import make
from toolkit.graphs.asking import scale_of
from toolkit.graphs.reading import read_graph
from toolkit.passports import Precision
from toolkit.telling import Tell, silent

# noise that is answered in so long, by the reference and as long again by each file, is enough of it
PASS_S = 10.0
FEWEST = 64


class RunContext:
    """The context of one export command, or of a single export that was asked for alone.

    `reference` is the artifact that the run began with; `key` the hash that its present step is stored
    under, None where nothing is stored. `made` returns what a step needs besides its source, and raises
    CnnkitError where that cannot be made.
    """

    def __init__(self, reference: Artifact, options: ExportOptions, tell: Tell = silent) -> None:
        self.reference = reference
        self.options = options
        self.tell = tell
        self.key: str | None = None
        self.made: Callable[[Need, ExportOptions], Artifact] = self._made_alone
        self._calibrated: Calibrated | None = None
        self._narrow: Evidence | None = None

    @cached_property
    def evidence(self) -> Evidence:
        """The pictures that this run's exports are judged on; that they are random is said."""
        options = self.options
        found = gather(
            self.reference.passport,
            images=options.images,
            seed=options.seed,
            data_dir=options.data_dir,
            beside=self.reference.path,
        )
        if options.batches == (1,):
            found.batch = 1
        if found.why_random:
            found = self._limited(found)
            self.tell(f"judged on {found.source}: {found.why_random}")
        return found

    def evidence_for(self, precision: Precision, graph: Artifact) -> Evidence:
        """Return what files of a precision that are made of a graph are judged on.

        Noise of all scales is for fp32. What rounds is judged on noise of the scale that the network most
        likely takes: at others it would be judged by what it was never made for, as int8 was calibrated on
        that one.
        """
        found, known = self.evidence, self.reference.passport
        rounds = precision != "fp32" and known.quantised_by is None
        if not rounds or found.why_random is None or known.preprocessing is not None:
            return found
        if self._narrow is None:
            scale = scale_of(read_graph(graph.path))
            self._narrow = random_evidence(
                known, len(found.inputs), self.options.seed, found.why_random, scales=(scale,)
            )
            self._narrow.batch = found.batch
        return self._narrow

    def _made_alone(self, need: Need, options: ExportOptions) -> Artifact:
        return make(self.reference, need.exporter, need.options(options), self.tell)

    def _limited(self, found: Evidence) -> Evidence:
        """Return as much random evidence as the reference answers in its time: more would prove nothing."""
        answered = answers_of(
            self.reference,
            found,
            model_file=self.options.model_file,
            tell=self.tell,
            seconds=PASS_S,
            fewest=FEWEST,
        )
        if len(answered) == len(found.inputs):
            return found
        limited = found.first(len(answered))
        return dataclasses.replace(limited, source=f"{limited.source}, as many as fit {2 * PASS_S:g} s")

    def calibrated(self, graph: Artifact) -> Calibrated:
        """Return the one calibration, of an fp32 graph, that all int8 graphs of this run share."""
        if self._calibrated is None:
            self.tell("calibrating int8 …")
            self._calibrated = calibrate(
                read_graph(graph.path), graph.passport, self.options, self.tell, beside=graph.path
            )
            held = self._calibrated.held
            self.tell(f"calibrated on {self._calibrated.source}")
            if held.on_noise:
                self.tell(NOISE)
            if held.why_unjudged:
                self.tell(f"int8 is NOT judged, no accuracy gate was applied: {held.why_unjudged}")
        return self._calibrated


def context_of(source: Artifact, options: ExportOptions, given: Context | None) -> RunContext:
    """Return the context of a run as it was handed on; a new one for an export that was asked for alone."""
    return given if isinstance(given, RunContext) else RunContext(source, options)
