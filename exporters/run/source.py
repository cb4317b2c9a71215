"""What is exported, and where it goes: `<name>.onnx`, `<name>.fp16.onnx`, `<name>.int8-trt.onnx` …"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from exporters.graphs.form import ends_in_softmax
from toolkit.artifacts import Artifact, artifact_path, find_artifacts, is_shipped, sidecar
from toolkit.errors import CnnkitError, NotFoundError
from toolkit.exporting import Exporter, ExportOptions
from toolkit.graphs import GRAPH
from toolkit.graphs.facts import input_spec, output_spec
from toolkit.graphs.reading import hash_graph, read_graph
from toolkit.opening import Selection, is_path, open_model
from toolkit.passports import Passport, TensorSpec


def open_source(model: str | None, selection: Selection) -> Artifact:
    """Open what MODEL names: its checkpoint, else (a network that came as ONNX) its fp32 graph.

    A path to an .onnx file without a passport is taken as a network from elsewhere.
    """
    if model is not None and is_path(model):
        path = Path(model)
        if path.suffix == f".{GRAPH}" and path.is_file() and not sidecar(path).exists():
            return adopt(path)
        source = open_model(model, selection)
        known = source.passport
        if known.format == GRAPH and known.precision != "fp32":
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


def adopt(path: Path) -> Artifact:
    """Return a plain ONNX file as an artifact; nothing is known of its training, data or classes."""
    model = read_graph(path)
    taken = input_spec(model)
    _refuse_open_extents(path, model, taken)
    output = output_spec(model)
    count = output.shape[-1] if output.shape and output.shape[-1] else 0
    passport = Passport(
        format=GRAPH,
        model=path.stem,
        precision="fp32",
        trained=None,
        input=taken,
        output=output,
        classes=tuple(str(index) for index in range(count)),
        preprocessing=None,
        sha256=hash_graph(path),
        softmax=ends_in_softmax(model),
    )
    return Artifact(path=path, passport=passport)


def _refuse_open_extents(path: Path, model: Any, taken: TensorSpec) -> None:
    """Raise CnnkitError where more than the batch is open: an export is proven and built at one size."""
    if taken.shape and None not in taken.shape[1:]:
        return
    dims = next(value for value in model.graph.input if value.name == taken.name).type.tensor_type.shape.dim
    names = [dim.dim_param or (str(dim.dim_value) if dim.HasField("dim_value") else "?") for dim in dims]
    named = next((dim.dim_param for dim in dims[1:] if dim.dim_param), None)
    fix = (
        f"--dim_param {named} --dim_value SIZE"
        if named
        else f"--input_name {taken.name} --input_shape N,C,H,W"
    )
    raise CnnkitError(
        f"{path} takes {taken.name!r} as {'×'.join(names) or 'a tensor of any shape'}, and only the batch "
        "may be open: an export is proven and built at one size. `python -m "
        f"onnxruntime.tools.make_dynamic_shape_fixed {fix} {path.name} fixed.onnx` fixes one"
    )


def export_name(source: Artifact, options: ExportOptions) -> str:
    """Return the artifact's name: the one typed, else the source's (`…-uint8` where it takes raw pixels).

    An artifact's name ends at its file's first dot. A file from elsewhere may have dots anywhere, and
    what tells `net1.0` from `net1.1` comes behind one, so its dots become dashes.
    """
    if options.name:
        return options.name
    # every graph that was exported here names its source
    known = source.passport
    elsewhere = known.format == GRAPH and known.source_sha256 is None
    name = source.path.stem.replace(".", "-") if elsewhere else source.name
    raw = options.pixels and not name.endswith("-uint8")
    return f"{name}-uint8" if raw else name


def export_path(source: Artifact, options: ExportOptions, exporter: Exporter) -> Path:
    """Return where an exporter's result goes: `options.path`, else under the name by its own ending."""
    return options.path or artifact_path(options.root, export_name(source, options), exporter.ending(options))


def refuse_another_network(source: Artifact, options: ExportOptions) -> None:
    """Raise CnnkitError where the artifacts of that name are another network's; a typed name is meant."""
    if options.name:
        return
    name = export_name(source, options)
    for path, placed in find_artifacts(options.root, name):
        if not is_shipped(path) and _origin(placed) != _origin(source.passport):
            raise CnnkitError(
                f"{source.path} would be exported as {name}, and {path} is another network "
                f"({placed.model}, {'from elsewhere' if placed.trained is None else 'of a checkpoint'}): "
                "`--name OTHER` keeps both, `--fresh` replaces what is there"
            )


def _origin(passport: Passport) -> tuple[str, bool]:
    """Return what tells networks of one name apart: the model, and whether its weights came as ONNX."""
    return passport.model, passport.trained is None
