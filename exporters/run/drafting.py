"""A source as an fp32 graph in the form that is asked for, or as it came where it was quantised already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exporters.graphs.capture import capture, finish
from exporters.graphs.ends import require_provable
from exporters.graphs.form import PROBABILITIES, in_form, refuse_softmax
from exporters.run.context import RunContext
from toolkit.artifacts import Artifact
from toolkit.checkpoints import load_module
from toolkit.errors import UnavailableError
from toolkit.exporting import ExportOptions
from toolkit.graphs import GRAPH
from toolkit.graphs.asking import ask
from toolkit.graphs.completing import complete
from toolkit.graphs.ends import close_extents
from toolkit.graphs.reading import read_graph
from toolkit.graphs.recognising import form_of
from toolkit.graphs.shaping import shape_ends, squeeze_scores


@dataclass(frozen=True, kw_only=True)
class Fp32Graph:
    """An onnx.ModelProto, and whether its scores are probabilities."""

    model: Any
    probable: bool


def fp32_graph(source: Artifact, options: ExportOptions, run: RunContext, *, opset: int) -> Fp32Graph:
    """Return a source as an fp32 graph in the form that is asked for, after it was asked about itself."""
    known = source.passport
    if known.format == GRAPH:
        model = read_graph(source.path)
        # what was captured here is checked strictly, what came from elsewhere as far as it goes
        captured = known.source_sha256 is not None and known.imported_sha256 is None
        strict, outputs = captured, known.outputs
        if options.size is not None and not strict:
            close_extents(model, options.size)
    else:
        strict, outputs, model = True, (), _captured(source, options, opset)
    batch, probable = known.input.shape[0], known.softmax or options.softmax
    if source.passport.sha256 == run.reference.passport.sha256:
        nature = ask(model, output=(outputs or _names(model))[0])
        refuse_softmax(nature, source.path.name, options)
        probable = probable or nature.probabilities
        batch = require_provable(nature, source.path.name, options.batches, form_of(model))
    shape_ends(model, outputs=outputs, batch=batch)
    if not strict:
        squeeze_scores(complete(model))
    made = in_form(finish(model, strict=strict), known, options, strict=strict)
    return Fp32Graph(model=made, probable=probable)


def _names(model: Any) -> list[str]:
    return [value.name for value in model.graph.output]


def _captured(source: Artifact, options: ExportOptions, opset: int) -> Any:
    known = source.passport
    module = load_module(source, model_file=options.model_file, lean=True)
    model = capture(
        module,
        tuple(extent or 1 for extent in known.input.shape[1:]),
        opset=opset,
        input_name=known.input.name,
        output_name=PROBABILITIES if options.softmax else known.output.name,
    )
    for weights in (*module.parameters(), *module.buffers()):
        weights.data = weights.data.new_empty(0)  # torch's exporter keeps the module in cycles
    return model


def refuse_other_dialect(source: Artifact, options: ExportOptions) -> None:
    """Raise UnavailableError where an int8 graph from elsewhere is not in the dialect that is needed."""
    known = source.passport
    if options.dialect not in (None, known.int8_dialect):
        raise UnavailableError(
            f"{source.path.name} was quantised by its {known.quantised_by} in another form than TensorRT "
            "takes, which is symmetric Q/DQ in 8 signed bits without quantised biases; export the file "
            "that it was made of with --int8"
        )
