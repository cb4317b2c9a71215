"""The form of an exported graph: floats or raw pixels go in, logits or probabilities come out.

Scaling and normalisation become its first nodes, softmax its last.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.graphs.capture import finish
from toolkit.artifacts import Artifact
from toolkit.errors import CnnkitError
from toolkit.exporting import ExportOptions
from toolkit.exporting.evidence import Evidence, answers_of
from toolkit.graphs.asking import Nature
from toolkit.graphs.naming import note_modules, rename
from toolkit.graphs.scores import kind_of
from toolkit.passports import Layout, Passport
from toolkit.preprocessing import Preprocessing
from toolkit.probabilities import softmax
from toolkit.telling import Tell, silent

MODULE = "/preprocess"
SOFTMAX = "/softmax"
PROBABILITIES = "probabilities"


def unmet(known: Passport, options: ExportOptions) -> str:
    """Return the options that ask for another form than a file has, as typed; empty where it has it."""
    wanted = {
        "--input uint8": options.pixels and known.input.dtype != "uint8",
        "--softmax": options.softmax and not known.softmax,
    }
    return " ".join(typed for typed, lacks in wanted.items() if lacks)


def refuse_softmax(nature: Nature, what: str, options: ExportOptions) -> None:
    """Raise CnnkitError where softmax is asked of scores that it would spoil."""
    if not options.softmax:
        return
    if nature.columns == 1:
        raise CnnkitError(
            f"--softmax of {what} would be 1 for every input, as it has one score; leave the option away"
        )
    if nature.kind != "logits":
        raise CnnkitError(
            f"--softmax needs logits, and the scores of {what} are {nature.kind} already; leave the option "
            "away"
        )


def in_form(model: Any, known: Passport, options: ExportOptions, *, strict: bool = True) -> Any:
    """Return an fp32 onnx.ModelProto of that passport in the form that the options ask for.

    What it fulfils already is not done twice. Raises CnnkitError for raw pixels without preprocessing.
    """
    asked = unmet(known, options)
    if "uint8" in asked:
        if known.preprocessing is None:
            raise CnnkitError(
                f"--input uint8 needs a network whose preprocessing is known, and that of {known.model} is "
                "not; leave the option away"
            )
        model = take_pixels(model, known.preprocessing, layout=known.input.layout, strict=strict)
    if "softmax" in asked:
        named = PROBABILITIES if model.graph.output[0].name == "logits" else None
        model = add_softmax(model, name=named, strict=strict)
    return model


def wanted_answers(
    reference: Artifact,
    evidence: Evidence,
    passport: Passport,
    *,
    model_file: Path | None,
    tell: Tell = silent,
) -> NDArray[np.float32]:
    """Return the reference's (N, K) answers as a file of that passport gives them.

    They are probabilities where the file's answers are and the reference's are not.
    """
    found = answers_of(reference, evidence, model_file=model_file, tell=tell)
    # those of a checkpoint whose network ends in softmax sum to 1 as they are
    if passport.softmax and not reference.passport.softmax and kind_of(found) == "logits":
        return softmax(found).astype(np.float32)
    return found


def take_pixels(
    model: Any, preprocessing: Preprocessing, *, layout: Layout | None = "NCHW", strict: bool = True
) -> Any:
    """Return a copy of an fp32 graph whose input is uint8; x = (pixel × scale − mean) / std.

    Its layout stays, (N, C, H, W) or (N, H, W, C). Raises CnnkitError where channels have no axis.
    """
    from onnx import TensorProto, helper, numpy_helper

    if len(model.graph.input[0].type.tensor_type.shape.dim) != 4:
        raise CnnkitError(
            f"--input uint8 needs a network of pictures with channels; {model.graph.input[0].name!r} of this "
            "one has none: leave the option away"
        )
    axis = 3 if layout == "NHWC" else 1
    extents = [-1 if place == axis else 1 for place in range(4)]

    made = copy.deepcopy(model)
    value = made.graph.input[0]
    name = value.name
    std = np.resize(np.array(preprocessing.std, np.float32), preprocessing.channels)
    mean = np.resize(np.array(preprocessing.mean, np.float32), preprocessing.channels)
    factor, shift = np.float32(preprocessing.scale) / std, mean / std
    if preprocessing.invert:  # 255 − p, then scaled, is an affine function of p, too
        factor, shift = -factor, shift - factor * np.float32(255)
    made.graph.initializer.extend(
        numpy_helper.from_array(figures.reshape(extents), f"{MODULE}/{key}")
        for key, figures in (("Mul.B", factor), ("Sub.B", shift))
    )
    for node in made.graph.node:
        node.input[:] = [f"{MODULE}/Sub" if given == name else given for given in node.input]
    pixels, turned = name, []
    if preprocessing.order == "bgr":  # pictures come in as RGB, to this graph as to any other
        order = np.array([2, 1, 0], np.int64)
        made.graph.initializer.append(numpy_helper.from_array(order, f"{MODULE}/Gather.indices"))
        pixels = f"{MODULE}/Gather"
        turned = [helper.make_node("Gather", [name, f"{MODULE}/Gather.indices"], [pixels], axis=axis)]
    nodes = [
        *turned,
        helper.make_node("Cast", [pixels], [f"{MODULE}/Cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{MODULE}/Cast", f"{MODULE}/Mul.B"], [f"{MODULE}/Mul"]),
        helper.make_node("Sub", [f"{MODULE}/Mul", f"{MODULE}/Sub.B"], [f"{MODULE}/Sub"]),
    ]
    for node in reversed(nodes):
        node.name = node.output[0]
        note_modules(node, [MODULE], "preprocess")
        made.graph.node.insert(0, node)
    value.type.tensor_type.elem_type = TensorProto.UINT8
    return finish(made, strict=strict)


def add_softmax(model: Any, *, name: str | None = None, strict: bool = True) -> Any:
    """Return a copy of a graph whose first output, (N, K), is probabilities instead of logits.

    The output keeps its name, or is called `name`. Raises CnnkitError where it is no (N, K), but for
    further extents of 1, as (N, K, 1, 1) of older classifiers.
    """
    from onnx import helper

    made = copy.deepcopy(model)
    old = made.graph.output[0].name
    inner, outer = (f"{old}/raw", old) if name is None else (old, name)
    rename(made, lambda value: inner if value == old else value)
    made.graph.output[0].name = outer
    node = helper.make_node("Softmax", [inner], [outer], name=f"{SOFTMAX}/Softmax", axis=1)
    note_modules(node, [SOFTMAX], "softmax")
    made.graph.node.append(node)
    return finish(made, strict=strict)
