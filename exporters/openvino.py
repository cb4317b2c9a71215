"""OpenVINO: an ONNX graph → OpenVINO's own files (IR), which open without the ONNX reader, proven here."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from exporters.proving.parity import judge
from exporters.proving.proof import make_proof
from exporters.run.context import RunContext, context_of
from exporters.run.engine import compare_engine, hold_engine
from exporters.run.publish import LOSSES, inherited
from toolkit.artifacts import Artifact
from toolkit.backends import BACKENDS, EngineOptions
from toolkit.backends.openvino import GRAPH_FILE, IR
from toolkit.checkpoints import tool_versions
from toolkit.errors import CorruptError, UnavailableError
from toolkit.exporting import Context, Exported, Exporter, ExportOptions, Need
from toolkit.exporting.placing import export_path
from toolkit.graphs import GRAPH
from toolkit.machine.packages import package_version
from toolkit.passports import Format, Passport, Precision, Target
from toolkit.processes import child
from toolkit.publishing import publish_folder

# facts of the graph that are facts of what is made of it, too
PASSED_ON = ("outputs", "softmax", "int8_dialect", "reduced_range", *LOSSES)
# judged on pictures that training held out, besides by their first answers
GATED: frozenset[Precision] = frozenset({"bf16", "int8"})
# OpenVINO numbers what it makes up, from one count a process: equal graphs give equal bytes in a new one
SAVE = """
import sys, openvino
try:
    openvino.save_model(openvino.Core().read_model(sys.argv[1]), sys.argv[2], compress_to_fp16=False)
except RuntimeError as error:
    sys.exit(str(error))
"""


class OpenVinoExporter(Exporter):
    """Writes `<name>.openvino/{model.xml, model.bin}`; OpenVINO opens it before it is announced.

    bf16 has the files of fp32 and is computed in bf16 when they are opened.
    """

    name = "openvino"
    source_formats: ClassVar[tuple[Format, ...]] = (GRAPH,)
    format: ClassVar[Format] = IR
    suffix = ".openvino"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "bf16", "int8")
    reads: ClassVar[tuple[str, ...]] = (
        *("precision", "name", "images", "seed", "data_dir", "model_file", "max_accuracy_drop"),
    )
    packages: ClassVar[tuple[str, ...]] = ("openvino", "numpy", "pillow")

    def needs(self, options: ExportOptions) -> Need | None:
        stored = BACKENDS.load(self.name).computes.get(options.precision, options.precision)
        return Need(exporter=GRAPH, precision=stored)

    def prepare(self, options: ExportOptions) -> None:
        backend = BACKENDS.load(self.name)
        backend.require()
        why = backend.lacks(options.precision)
        if why:
            raise UnavailableError(f"{self.name} {options.precision} cannot be proven here: {why}")

    def export(self, source: Artifact, options: ExportOptions, context: Context | None = None) -> Exported:
        start = time.perf_counter()
        self.prepare(options)
        run, path = context_of(source, options, context), export_path(source, options, self)
        made = publish_folder(
            path,
            lambda folder: _save(source.path, folder, lambda: run.evidence_for(options.precision, source)),
            _passport(source, options, run),
            lambda drafted: _prove(drafted, source, path.name, options, run),
        )
        return Exported(artifact=made, seconds=time.perf_counter() - start)


def _save(graph: Path, folder: Path, meanwhile: Callable[[], object]) -> None:
    """Write a graph as IR, doing more meanwhile. Raises CorruptError where OpenVINO cannot read it."""
    # -P: a file of that name in the folder that the user works in is not OpenVINO
    command = [sys.executable, "-P", "-c", SAVE, str(graph), str(folder / GRAPH_FILE)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with child(command, grace_s=0, text=True, **pipes) as saving:
        meanwhile()
        said = saving.communicate()[1]
    if saving.returncode:
        why = (said.strip().splitlines() or ["no reason given"])[-1].removeprefix("-- ")
        raise CorruptError(f"OpenVINO cannot read {graph}: {why}")


def _prove(
    drafted: Artifact, source: Artifact, name: str, options: ExportOptions, run: RunContext
) -> tuple[Passport, bytes | None]:
    """Compare what was written with the reference, and hold bf16 and int8 to what they may lose."""
    passport = drafted.passport
    with BACKENDS.load(OpenVinoExporter.name).open(drafted, EngineOptions()) as engine:
        compared = compare_engine(engine, passport, source, options, run)
        # where every value is rounded, near ties fall either way: those are judged on pictures below
        judge(compared.parity, options.precision, name, ties=options.precision == "bf16")
        if options.precision in GATED:
            where = " by OpenVINO on this processor"
            passport = hold_engine(engine, passport, options, run, on=where)
        passport = dataclasses.replace(passport, parity=compared.parity, engine_types=engine.arithmetic)
    evidence = run.evidence_for(options.precision, source)
    return passport, make_proof(passport, evidence, compared.wanted, compared.found, beside=compared.beside)


def _passport(source: Artifact, options: ExportOptions, run: RunContext) -> Passport:
    known, version = source.passport, package_version(OpenVinoExporter.name)
    return dataclasses.replace(
        inherited(known, *PASSED_ON),
        format=IR,
        precision=options.precision,
        source_sha256=known.sha256,
        tools=tool_versions(*OpenVinoExporter.packages),
        target=Target(
            version=version,
            install=f"pip install {OpenVinoExporter.name}=={version}",
            instruction_set=known.target.instruction_set if known.target else None,
        ),
        source_parity=known.parity,
        export_key=run.key,
    )


EXPORTER = OpenVinoExporter()
