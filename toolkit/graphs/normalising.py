"""The one pass over a graph that is read, from wherever it came: what every step after it relies on.

Nodes are sorted and have names of their own, weights are no inputs and stand in no constant node, an open
batch is one in name, types and shapes are told, and the precision that it came in is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toolkit.graphs.completing import complete, skip_idle_casts
from toolkit.graphs.ends import (
    drop_idle_inputs,
    drop_sequences,
    forget_output_shapes,
    free_weights,
    open_batch,
    state_opset,
)
from toolkit.graphs.facts import modern, opset_of
from toolkit.graphs.folding import fold
from toolkit.graphs.ordering import name_missing, sort_nodes
from toolkit.graphs.recognising import Form, form_of, kept_codes, own_precision, refuse_other_codes
from toolkit.passports import Precision

# later steps need it, and converting to it adds nodes
OPSET = 13


@dataclass(frozen=True, kw_only=True)
class Normalised:
    """A graph put right in place, in words what was done that people may care about, and what it came as.

    `form` is how whoever wrote the file quantised it, None where it computes in floats. `decoded` tells that
    its weights were kept in few bits alone, and are floats now, `dropped` that ends of it were left out.
    """

    model: Any
    notes: tuple[str, ...]
    precision: Precision
    form: Form | None
    decoded: bool = False
    dropped: bool = False


def normalise(model: Any) -> Normalised:
    """Put an onnx.ModelProto right, in place as far as its opset and functions allow.

    Raises CnnkitError for one whose nodes read what nothing makes, and for one that was quantised to
    anything but 8-bit integers.
    """
    model = without_functions(model)
    dropped = drop_sequences(model)
    notes = [state_opset(model), dropped]
    free_weights(model)
    idle = drop_idle_inputs(model)
    notes.append(idle)
    open_batch(model)
    sort_nodes(model)
    name_missing(model)
    form = form_of(model)
    refuse_other_codes(model)
    codes = form is None and any(node.op_type == "DequantizeLinear" for node in model.graph.node)
    if codes:
        kept = " and ".join(kept_codes(model)) or "codes"
        notes.append(f"its weights were kept as {kept}; they are read as floats")
    fold(model, codes=codes)
    if opset_of(model) < OPSET:
        model = modern(model)
        fold(model, codes=codes)
    name_missing(model)  # nodes of branches that took the place of their If, and those of the converter
    forget_output_shapes(model)
    complete(model)
    skip_idle_casts(model)
    said = tuple(note for note in notes if note)
    return Normalised(
        model=model,
        notes=said,
        precision=own_precision(model),
        form=form,
        decoded=codes,
        dropped=bool(dropped or idle),
    )


def without_functions(model: Any) -> Any:
    """Return a graph with the nodes of its own functions in the place of their calls.

    A graph of which that cannot be done is left as it is: it still runs, and steps that look at nodes say
    what they lack.
    """
    if not model.functions:
        return model
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model, convert_version=True)
    except Exception:  # the inliner raises bare RuntimeErrors
        return model
