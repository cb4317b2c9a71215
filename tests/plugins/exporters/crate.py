"""Crate: an ONNX graph in a file of its own kind, with the wood that it is made of on its first line."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from exporters.graphs.form import wanted_answers
from exporters.proving.parity import compare, judge
from exporters.run.context import context_of
from exporters.run.publish import inherited
from toolkit.artifacts import Artifact
from toolkit.checkpoints import tool_versions
from toolkit.exporting import Context, Exported, Exporter, ExportOptions, Need, Option
from toolkit.exporting.evidence import answers_of
from toolkit.exporting.placing import export_path
from toolkit.passports import Format, Passport, Precision
from toolkit.publishing import proof_path, publish


@dataclass(frozen=True, kw_only=True)
class CrateOptions:
    """What only this exporter is asked."""

    wood: Annotated[Literal["pine", "oak"], Option(help="Wood of the crate.", choices=("pine", "oak"))] = (
        "pine"
    )


class CrateExporter(Exporter):
    """Packs a graph, and asks whoever opens crates for its answers."""

    name = "crate"
    source_formats: ClassVar[tuple[Format, ...]] = ("onnx",)
    format: ClassVar[Format] = "crate"
    suffix = ".crate"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16")
    options = CrateOptions
    reads: ClassVar[tuple[str, ...]] = ("precision", "images", "seed", "data_dir", "model_file", "name")
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime-gpu", "onnxruntime", "numpy")

    def needs(self, options: ExportOptions) -> Need | None:
        return Need(exporter="onnx", precision=options.precision)

    def export(self, source: Artifact, options: ExportOptions, context: Context | None = None) -> Exported:
        start = time.perf_counter()
        run, path = context_of(source, options, context), export_path(source, options, self)

        def draft(part: Path) -> Passport:
            label = f"CRATE {options.own_of(CrateOptions).wood}\n".encode()
            part.write_bytes(label + source.path.read_bytes())
            return dataclasses.replace(
                inherited(source.passport, "outputs", "softmax", "kept_fp32"),
                format=self.format,
                source_sha256=source.passport.sha256,
                tools=tool_versions(*self.packages),
                export_key=run.key,
            )

        def prove(drafted: Artifact) -> tuple[Passport, bytes | None]:
            wanted = wanted_answers(
                run.reference, run.evidence, drafted.passport, model_file=options.model_file
            )
            parity = compare(
                wanted,
                answers_of(drafted, run.evidence),
                source=f"{run.reference.path.name} ({run.evidence.source})",
                precision=options.precision,
                labels=run.evidence.labels,
            )
            judge(parity, options.precision, path.name)
            return dataclasses.replace(drafted.passport, parity=parity), proof_path(source.path).read_bytes()

        made = publish(path, draft, prove)
        return Exported(artifact=made, seconds=time.perf_counter() - start)


EXPORTER = CrateExporter()
