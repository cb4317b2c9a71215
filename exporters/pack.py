"""A pack for another machine: a network's graphs, their proofs and validation pictures, to choose by."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import ClassVar

from exporters.proving.proof import proof_path
from exporters.run.context import context_of
from exporters.run.publish import inherited, publish
from toolkit.artifacts import Artifact
from toolkit.checkpoints import tool_versions
from toolkit.choices import Budget
from toolkit.choosing import ChooseSettings
from toolkit.choosing.candidates import FileFinder
from toolkit.choosing.judging import pictures_for
from toolkit.choosing.packs import SUFFIX, Unpacked, write_pack
from toolkit.exporting import Context, Exported, Exporter, ExportOptions, Need
from toolkit.exporting.placing import export_path
from toolkit.graphs import GRAPH
from toolkit.passports import SYMMETRIC, UNSIGNED, Dialect, Format, Passport, Precision

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
    )
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow")

    def needs(self, options: ExportOptions) -> Need | None:
        return Need(exporter=GRAPH, precision="fp32")

    def export(self, source: Artifact, options: ExportOptions, context: Context | None = None) -> Exported:
        start = time.perf_counter()
        run, path = context_of(source, options, context), export_path(source, options, self)
        settings = ChooseSettings(seed=options.seed, data_dir=options.data_dir, model_file=options.model_file)
        budget = Budget(max_accuracy_drop=options.allowed_points)
        with pictures_for(source, settings, None) as pictures:
            finder = FileFinder(
                source, options.root, settings, budget, run.tell, judged=pictures.labels is not None
            )
            files, lacking = [source], []
            for precision, dialect in WANTED:
                found = finder.file(GRAPH, precision, dialect)
                if isinstance(found, Artifact):
                    files.append(found)
                else:
                    lacking.append(Unpacked(precision=precision, dialect=dialect, why=found))
            proofs = [one for one in (proof_path(file.path) for file in files) if one.exists()]

            def draft(part: Path) -> Passport:
                write_pack(part, files, proofs, pictures, lacking)
                return _passport(source, run.key)

            made = publish(path, draft, lambda drafted: (drafted.passport, None))
        return Exported(artifact=made, seconds=time.perf_counter() - start)


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
