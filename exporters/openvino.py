"""OpenVINO: an ONNX graph → OpenVINO's own files (IR), which open without the ONNX reader, proven here."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

from exporters.graphs.form import wanted_answers
from exporters.proving.parity import compare, judge
from exporters.proving.proof import make_proof
from exporters.run.context import RunContext, context_of
from exporters.run.int8 import drop_record, judge_engine, refusal
from exporters.run.publish import inherited, publish_folder
from exporters.run.source import export_path
from toolkit.answering import answers
from toolkit.artifacts import Artifact
from toolkit.backends import BACKENDS, Engine, EngineOptions
from toolkit.backends.openvino import GRAPH_FILE, IR
from toolkit.checkpoints import tool_versions
from toolkit.errors import CorruptError, UnavailableError
from toolkit.exporting import Context, Exported, Exporter, ExportOptions, Need
from toolkit.exporting.heldout import hold_out
from toolkit.graphs import GRAPH
from toolkit.machine.packages import package_version
from toolkit.passports import Format, Passport, Precision, Target

# facts of the graph that are facts of what is made of it, too
PASSED_ON = (
    *("outputs", "softmax", "kept_fp32", "kept_float", "int8_dialect", "reduced_range", "calibration"),
    *("accuracy_drop", "accuracy_drop_why"),
)
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
            lambda folder: _save(source.path, folder),
            _passport(source, options, run),
            lambda drafted: _prove(drafted, source, path.name, options, run),
        )
        return Exported(artifact=made, seconds=time.perf_counter() - start)


def _save(graph: Path, folder: Path) -> None:
    """Write a graph as IR. Raises CorruptError for one that OpenVINO cannot read."""
    # -P: a file of that name in the folder that the user works in is not OpenVINO
    command = [sys.executable, "-P", "-c", SAVE, str(graph), str(folder / GRAPH_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("-- ")
        raise CorruptError(f"OpenVINO cannot read {graph}: {why}")


def _prove(
    drafted: Artifact, source: Artifact, name: str, options: ExportOptions, run: RunContext
) -> tuple[Passport, bytes | None]:
    """Compare what was written with the reference, and hold bf16 and int8 to what they may lose."""
    evidence = run.evidence_for(options.precision, source)
    reference, passport = run.reference, drafted.passport
    wanted = wanted_answers(reference, evidence, passport, model_file=options.model_file)
    with BACKENDS.load(OpenVinoExporter.name).open(drafted, EngineOptions()) as engine:
        found = answers(engine, evidence.inputs_for(passport))
        parity = compare(
            wanted,
            found,
            source=f"{reference.path.name} ({evidence.told(reference.passport)})",
            precision=options.precision,
            labels=evidence.labels,
            probable=passport.softmax,
            random_inputs=evidence.why_random is not None,
        )
        # where every value is rounded, near ties fall either way: those are judged on pictures below
        judge(parity, options.precision, name, ties=options.precision == "bf16")
        passport = _gated(engine, passport, reference, options)
        passport = dataclasses.replace(passport, parity=parity, engine_types=engine.arithmetic)
    return passport, make_proof(passport, evidence, wanted, found)


def _gated(engine: Engine, passport: Passport, reference: Artifact, options: ExportOptions) -> Passport:
    """Hold an engine to the accuracy drop that is allowed. Raises GateError.

    Without pictures that training held out nothing is judged, as of an int8 graph.
    """
    if options.precision not in GATED:
        return passport
    held = hold_out(passport, images=1, seed=options.seed, data_dir=options.data_dir)
    if held.validation is None:
        return passport
    allowed = options.allowed_points
    drop = judge_engine(engine, reference, held, allowed, model_file=options.model_file)
    if drop.judge(allowed) != "pass":
        raise refusal(drop, allowed, [], on=" by OpenVINO on this processor", precision=options.precision)
    return dataclasses.replace(passport, engine_accuracy_drop=drop_record(drop, allowed, held))


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
