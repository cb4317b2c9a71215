"""What one export is judged on and against: handed on by the walk, or gathered for a single exporter."""

from __future__ import annotations

from collections.abc import Callable

from exporters.run.int8 import Calibrated, calibrate
from toolkit.artifacts import Artifact
from toolkit.exporting import ExportOptions
from toolkit.exporting.evidence import Evidence, gather
from toolkit.graphs.reading import read_graph


def evidence_for(source: Artifact, options: ExportOptions) -> Evidence:
    """Return the pictures of this run: those of the walk (`options.extra["evidence"]`), else gathered."""
    given = options.extra.get("evidence")
    if callable(given):
        found: Evidence = given()
        return found
    return gather(source.passport, images=options.images, seed=options.seed, data_dir=options.data_dir)


def reference_for(source: Artifact, options: ExportOptions) -> Artifact:
    """Return what answers are held against: the checkpoint at the start of the walk, else the source."""
    given = options.extra.get("reference")
    return given if isinstance(given, Artifact) else source


def calibrated_for(source: Artifact, options: ExportOptions) -> Calibrated:
    """Return the calibration of this run, shared by both emitters, else one made now."""
    given = options.extra.get("calibrated")
    if callable(given):
        found: Calibrated = given(source)
        return found
    return calibrate(read_graph(source.path), source.passport, options)


def teller(options: ExportOptions) -> Callable[[str], None]:
    """Return where an exporter says things to people: as handed on, else nowhere."""
    given = options.extra.get("tell")
    return given if callable(given) else lambda _: None
