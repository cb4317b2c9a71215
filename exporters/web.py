"""web: an ONNX file becomes a folder that any static host serves, and that answers in anybody's browser."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from exporters.browser.choosing import FilledFolder, FolderMaker
from exporters.browser.runtime import PACKAGE, VERSION, WEBGPU_FILES, runtime
from exporters.browser.visiting import Browser, ProofRecord, find_browser, require_browser, visit
from exporters.proving.proof import proven
from exporters.run.context import context_of
from exporters.run.publish import LOSSES, inherited
from toolkit.artifacts import Artifact, now
from toolkit.checkpoints import tool_versions
from toolkit.errors import CnnkitError
from toolkit.exporting import Checked, Context, Exported, Exporter, ExportOptions, Need, Option
from toolkit.exporting.placing import export_path
from toolkit.figures import bytes_text
from toolkit.graphs import GRAPH
from toolkit.machine.cpu import cpu
from toolkit.passports import Format, Passport, Precision, Verification
from toolkit.publishing import proof_path, publish_folder
from toolkit.sites import SITE
from toolkit.telling import Tell

# what browsers' wasm has room for, weights and what is computed with them
MOST_BYTES = 2_000_000_000
PASSED_ON = (
    *("outputs", "softmax", "int8_dialect", "reduced_range", "parity", "parity_why", "source_parity"),
    *("target", *LOSSES),
)


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """What only this exporter is asked.

    `runtime` is a folder with the npm package, None for the cache, or npm; `webgpu` adds the build with it.
    """

    runtime: Annotated[
        str | None,
        Option(
            help=f"An unpacked npm package {PACKAGE} {VERSION} [default: cache, else npm].", metavar="DIR"
        ),
    ] = None
    webgpu: Annotated[
        bool,
        Option(
            help="Use WebGPU where it answers the proof in the visitor's page, and sooner than wasm; 6.6 MB."
        ),
    ] = False


class WebExporter(Exporter):
    """Writes `<name>.web/` with page, model, runtime, passport and proof; a browser here answers the proof.

    Where no precision was typed, the smallest file is taken that holds the accuracy budget, agrees in the
    browser and is not clearly slower there than fp32.
    """

    name = "web"
    source_formats: ClassVar[tuple[Format, ...]] = (GRAPH,)
    format: ClassVar[Format] = SITE
    suffix = ".web"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
    options = WebOptions
    # with the precision open, fp16 and int8 files are made on the way, by all that those depend on
    reads: ClassVar[tuple[str, ...]] = (
        *("precision", "open_precision", "name", "max_accuracy_drop", "calibration", "calibration_images"),
        *("images", "seed", "data_dir", "model_file"),
    )
    packages: ClassVar[tuple[str, ...]] = (
        *("rjsmin", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow"),
    )

    def needs(self, options: ExportOptions) -> Need | None:
        return Need(exporter=GRAPH, precision=options.precision)

    def prepare(self, options: ExportOptions) -> None:
        _runtimes(options)

    def machine(self, options: ExportOptions) -> Mapping[str, Any]:
        browser = find_browser()
        known = browser.version if browser else None
        return {"runtime": VERSION, "browser": known, "wide_int8": cpu().wide_int8}

    def export(self, source: Artifact, options: ExportOptions, context: Context | None = None) -> Exported:
        start = time.perf_counter()
        run, path = context_of(source, options, context), export_path(source, options, self)
        key = run.key
        _refuse(source)
        (files, webgpu), browser = _runtimes(options), find_browser()
        if browser is None:
            run.tell("not run in a browser, as none is here: `cnnkit verify` does it where one is")
        kept: list[Passport] = []

        def fill(folder: Path) -> None:
            maker = FolderMaker(
                folder=folder,
                runtime=files,
                webgpu=webgpu,
                browser=browser,
                tell=run.tell,
                made=lambda precision: run.made(Need(exporter=GRAPH, precision=precision), options),
            )
            kept.append(_passport(maker.fill(source, options.open_precision), browser, key))

        def prove(drafted: Artifact) -> tuple[Passport, None]:
            return dataclasses.replace(kept[0], sha256=drafted.passport.sha256), None

        made = publish_folder(path, fill, source.passport, prove)
        return Exported(artifact=made, seconds=time.perf_counter() - start)

    def check(self, artifact: Artifact, threads: int | None, tell: Tell) -> Checked:
        browser = require_browser()
        tell(f"answering the proof in {browser.version} …")
        record = visit(artifact.path, browser, threads=threads)
        return Checked(
            images=record.images,
            agree=record.agree,
            max_abs_diff=float("nan") if record.max_abs_diff is None else record.max_abs_diff,
            latency_ms=record.latency_ms,
            batch=record.batch,
            wrong=record.wrong,
            device=_device(browser, record),
            tools=_tools(),
        )


def _runtimes(options: ExportOptions) -> tuple[Path, Path | None]:
    """Return the folders with the runtime, and with its build with WebGPU where that is asked for."""
    asked = options.own_of(WebOptions)
    given = None if asked.runtime is None else Path(asked.runtime)
    return runtime(given), runtime(given, files=WEBGPU_FILES) if asked.webgpu else None


def _refuse(source: Artifact) -> None:
    """Raise CnnkitError for a graph that no browser could show pictures to, or has room for."""
    known, name = source.passport, source.path.name
    if known.preprocessing is None:
        raise CnnkitError(
            f"{name} does not say how pictures become its input, so that a page cannot make it of one: "
            "`cnnkit import` the file with `--mean` and `--std`, or `--dataset NAME`, and export that"
        )
    if known.input.dtype not in ("float32", "uint8"):
        raise CnnkitError(
            f"{name} takes {known.input.dtype}, and a page gives float32 or uint8; export it anew"
        )
    size = source.path.stat().st_size
    if size > MOST_BYTES:
        raise CnnkitError(
            f"{name} has {bytes_text(size)}, and a browser's wasm has room for {bytes_text(MOST_BYTES)}; "
            "try --precision int8 or fp16"
        )
    if not proven(source):
        raise CnnkitError(
            f"{name} has no proof beside it ({proof_path(source.path).name}), which the page answers: export "
            "the checkpoint, or the ONNX file by its name"
        )


def _passport(filled: FilledFolder, browser: Browser | None, key: str | None) -> Passport:
    known, record = filled.graph.passport, filled.record
    made = dataclasses.replace(
        inherited(known, *PASSED_ON),
        format=SITE,
        precision=known.precision,
        source_sha256=known.sha256,
        tools=_tools(),
        precision_why=filled.why,
        export_key=key,
    )
    if record is None or browser is None:
        return made
    first = Verification(
        date=now(),
        machine=platform.node(),
        device=_device(browser, record),
        tools=_tools(),
        images=record.images,
        agree=record.agree,
        max_abs_diff=record.max_abs_diff,
        latency_ms=record.latency_ms,
        batch=record.batch,
    )
    return dataclasses.replace(made, verified=(first,))


def _tools() -> dict[str, str]:
    return {**tool_versions(), PACKAGE: VERSION}


def _device(browser: Browser, record: ProofRecord) -> str:
    threads = f"{record.threads} thread{'s' if record.threads > 1 else ''}"
    return f"{browser.version}, {'WebGPU' if record.provider == 'webgpu' else threads}"


EXPORTER = WebExporter()
