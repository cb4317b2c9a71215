"""What is exported, and where it goes: `<name>.onnx`, `<name>.fp16.onnx`, `<name>.int8-trt.onnx` …"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from exporters.graphs.ends import require_provable
from exporters.graphs.form import refuse_softmax
from toolkit.artifacts import (
    Artifact,
    find_artifacts,
    open_artifact,
)
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.exporting import ExportOptions
from toolkit.exporting.placing import both_elsewhere, others_of
from toolkit.graphs import GRAPH
from toolkit.graphs.asking import Nature, ask
from toolkit.graphs.ends import close_extents
from toolkit.graphs.facts import input_spec, scores_spec
from toolkit.graphs.reading import hash_graph, read_normalised
from toolkit.graphs.recognising import dialect_of
from toolkit.graphs.source import is_bare_graph
from toolkit.importing.placing import name_for
from toolkit.opening import Selection, is_path, open_model
from toolkit.passports import BY_SOURCE, Passport, TensorSpec
from toolkit.presence import is_file
from toolkit.publishing import remove_artifact
from toolkit.telling import Tell, silent


def open_source(model: str | None, selection: Selection, options: ExportOptions, tell: Tell) -> Artifact:
    """Open what MODEL names: its checkpoint, else (a network that came as ONNX) its fp32 graph.

    A path to an .onnx file without a passport is taken as a network from elsewhere.
    """
    if model is not None and is_path(model):
        path = Path(model)
        if is_file(path) and is_bare_graph(path):
            return _imported_before(path, options, tell) or adopt(path, options, tell)
        source = open_model(model, selection)
        known = source.passport
        if known.format == GRAPH and known.precision != "fp32" and known.quantised_by is None:
            raise CnnkitError(
                f"{path.name} is {known.precision} already; exports start from a checkpoint or an fp32 "
                f"graph: `cnnkit export {source.name}`, or {source.name}.onnx"
            )
        return source
    graphs = Selection(root=selection.root, formats=(GRAPH,), untrained=selection.untrained)
    try:
        return open_model(model, selection)
    except NotFoundError:
        with contextlib.suppress(NotFoundError):
            return open_model(model, graphs)
        raise


def _imported_before(path: Path, options: ExportOptions, tell: Tell) -> Artifact | None:
    """Return what a file was imported as, with all that is known of it since; None where it was not."""
    name = options.name or name_for(path, None)
    for placed, known in find_artifacts(options.root, name):
        whole = known.format == GRAPH and (known.precision == "fp32" or known.quantised_by is not None)
        if whole and known.preprocessing is not None and known.imported_sha256 == hash_graph(path):
            tell(f"{path} was imported as {name}: {placed.name} is taken, with what its passport says")
            return open_artifact(placed)
    return None


def adopt(path: Path, options: ExportOptions | None = None, tell: Tell = silent) -> Artifact:
    """Return a plain ONNX file as an artifact; nothing is known of its training, data or classes.

    The graph is asked about itself: which output holds the scores, whether they are probabilities, in which
    batches it runs. Raises CnnkitError where it is no classifier, or where it can be proven in no way.
    """
    asked = options or ExportOptions()
    read = read_normalised(path)
    model, own = read.model, read.form is not None or read.precision != "fp32"
    taken = input_spec(model)
    if asked.size is not None:
        close_extents(model, asked.size)
        taken = input_spec(model)
    _refuse_open_extents(path, model, taken)
    nature = _asked(model, path, asked.output)
    batch = require_provable(nature, path.name, asked.batches, read.form)
    refuse_softmax(nature, path.name, asked)
    for note in (*read.notes, *_said(nature, taken, batch)):
        tell(note if note.startswith(path.name) else f"{path.name}: {note}")
    scores = next(value for value in model.graph.output if value.name == nature.outputs[0])
    passport = Passport(
        format=GRAPH,
        model=path.stem,
        precision=read.precision,
        trained=None,
        input=dataclasses.replace(taken, shape=(batch, *taken.shape[1:])),
        output=dataclasses.replace(scores_spec(scores), shape=(batch, nature.columns), layout="NC"),
        classes=tuple(str(index) for index in range(nature.columns)),
        preprocessing=None,
        sha256=(sha256 := hash_graph(path)),
        imported_sha256=sha256,
        softmax=nature.probabilities,
        outputs=nature.outputs,
        quantised_by=BY_SOURCE if own else None,
        int8_dialect=dialect_of(model) if own else None,
    )
    return Artifact(path=path, passport=passport)


def _asked(model: Any, path: Path, output: str | None) -> Nature:
    """Ask a graph about itself; what is wrong with it is told with its file's name."""
    try:
        return ask(model, output=output)
    except CnnkitError as error:
        raise type(error)(f"{path}: {error}") from None


def _said(nature: Nature, taken: TensorSpec, batch: int | None) -> list[str]:
    """Return what people are told of a network that was looked at, where it is not as most are."""
    said = []
    if len(nature.outputs) > 1:
        others = ", ".join(repr(name) for name in nature.outputs[1:])
        said.append(
            f"the scores are its output {nature.outputs[0]!r}, not {others} (--output NAME for another)"
        )
    if batch is not None and taken.shape[0] is None:
        why = "as others change its answers" if nature.mixes else "as the graph itself refuses others"
        said.append(f"it takes batches of {batch} only, {why}")
    if nature.alike:
        said.append("it answers everything alike that it was tried on: its weights may be empty")
    if nature.kind != "logits":
        kinds = {
            "probabilities": "probabilities",
            "shares": "shares between 0 and 1, each of its own",
            "log-probabilities": "logarithms of probabilities",
        }
        said.append(f"its scores are {kinds[nature.kind]} already")
    return said


def _refuse_open_extents(path: Path, model: Any, taken: TensorSpec) -> None:
    """Raise CnnkitError where more than the batch is open: an export is proven and built at one size."""
    if taken.shape and None not in taken.shape[1:]:
        return
    dims = next(value for value in model.graph.input if value.name == taken.name).type.tensor_type.shape.dim
    names = [dim.dim_param or (str(dim.dim_value) if dim.HasField("dim_value") else "?") for dim in dims]
    asked = (
        f"{path} takes {taken.name!r} as {'×'.join(names) or 'a tensor of any shape'}, and only the batch "
    )
    why = "may be open: an export is proven and built at one size"
    channels = [index for index, dim in enumerate(dims) if index and dim.dim_value]
    if len(dims) == 4 and channels in ([1], [3], [1, 2], [1, 3]):
        raise CnnkitError(f"{asked}{why}; `--size HxW` closes height and width, as in --size 224x224")
    raise CnnkitError(
        f"{asked}{why}. `python -m onnxruntime.tools.make_dynamic_shape_fixed --input_name {taken.name} "
        f"--input_shape N,C,H,W {path.name} fixed.onnx` fixes all"
    )


def remove_leftovers(source: Artifact, options: ExportOptions, tell: Tell) -> None:
    """Remove what was made of the file whose place was taken: it would pass for this network's.

    Checkpoints stay, as they cannot be made again.
    """
    for path, placed in others_of(source, options):
        if both_elsewhere(placed, source.passport) and placed.source_sha256 is not None:
            remove_artifact(path)
            tell(f"removed {path}: it was made of the file that was replaced")
