"""A pack for another machine: a network's graphs, their proofs and validation pictures, to choose by."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from exporters.run.context import context_of
from exporters.run.publish import inherited
from toolkit.artifacts import Artifact
from toolkit.checkpoints import tool_versions
from toolkit.choices import Budget
from toolkit.choosing import ChooseSettings
from toolkit.choosing.packs import SUFFIX, Unpacked, write_pack
from toolkit.choosing.pictures import ChoicePictures, pictures_for
from toolkit.errors import CnnkitError
from toolkit.exporting import Context, Exported, Exporter, ExportOptions, Need
from toolkit.exporting.placing import export_path
from toolkit.graphs import GRAPH
from toolkit.machine.cpu import cpu
from toolkit.passports import SYMMETRIC, UNSIGNED, Dialect, Format, Passport, Precision
from toolkit.publishing import proof_path, publish

# what a machine may be fastest with, beside the fp32 graph that the pack is made of
WANTED: tuple[tuple[Precision, Dialect | None], ...] = (
    ("fp16", None),
    ("int8", UNSIGNED),
    ("int8", SYMMETRIC),
)
INSIDE = "each file in the pack has its own"


class PackExporter(Exporter):
    """Writes `<name>.pack`; what it holds has been proven already, or is left out with the reason."""

    name = "pack"
    source_formats: ClassVar[tuple[Format, ...]] = (GRAPH,)
    format: ClassVar[Format] = "pack"
    suffix = SUFFIX
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32",)
    reads: ClassVar[tuple[str, ...]] = (
        *("precision", "name", "images", "seed", "data_dir", "model_file", "max_accuracy_drop"),
        *("calibration", "calibration_images"),
    )
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow")

    def needs(self, options: ExportOptions) -> Need | None:
        return Need(exporter=GRAPH, precision="fp32")

    def machine(self, options: ExportOptions) -> Mapping[str, Any]:
        return {"wide_int8": cpu().wide_int8}

    def export(self, source: Artifact, options: ExportOptions, context: Context | None = None) -> Exported:
        start = time.perf_counter()
        run, path = context_of(source, options, context), export_path(source, options, self)
        settings = ChooseSettings(seed=options.seed, data_dir=options.data_dir, model_file=options.model_file)
        key = run.key
        with pictures_for(source, settings, None) as pictures:
            files = [source]
            lacking: list[Unpacked] = []
            for precision, dialect in WANTED:
                need = Need(exporter=GRAPH, precision=precision, dialect=dialect)
                why = _why_not(precision, pictures, lacking)
                try:
                    if why is None:
                        files.append(run.made(need, _asked(options, settings)))
                except CnnkitError as error:
                    why = str(error)
                if why is not None:
                    lacking.append(Unpacked(precision=precision, dialect=dialect, why=why))
            proofs = [one for one in (proof_path(file.path) for file in files) if one.exists()]

            def draft(part: Path) -> Passport:
                write_pack(part, files, proofs, pictures, lacking)
                return _passport(source, key)

            made = publish(path, draft, lambda drafted: (drafted.passport, None))
        return Exported(artifact=made, seconds=time.perf_counter() - start)


def _asked(options: ExportOptions, settings: ChooseSettings) -> ExportOptions:
    """Return what is asked of the pack's files: int8 is looked for as long as choosing would look for it."""
    typed = options.max_accuracy_drop
    points = None if typed is None else Budget(max_accuracy_drop=typed).points
    return dataclasses.replace(options, max_accuracy_drop=points, search_s=settings.search_s)


def _why_not(precision: Precision, pictures: ChoicePictures, lacking: Sequence[Unpacked]) -> str | None:
    """Say why a file is not even tried; None where it is."""
    if pictures.labels is None:
        return "not made: no picture can judge it"
    if any(one.precision == precision for one in lacking):  # the second one rounds more coarsely
        return "not made: its other dialect, which is the finer one, could not be made"
    return None


def _passport(source: Artifact, key: str | None) -> Passport:
    return dataclasses.replace(
        inherited(source.passport, "outputs", "softmax"),
        format=PackExporter.format,
        source_sha256=source.passport.sha256,
        parity_why=INSIDE,
        tools=tool_versions(*PackExporter.packages),
        export_key=key,
    )


EXPORTER = PackExporter()
