"""The form of an exported file: floats or raw pixels go in, logits or probabilities come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.graphs.pixels import add_softmax, take_pixels
from toolkit.artifacts import Artifact
from toolkit.errors import CnnkitError
from toolkit.exporting import ExportOptions
from toolkit.exporting.evidence import Evidence, answers_of
from toolkit.images import softmax
from toolkit.passports import Passport

PROBABILITIES = "probabilities"


def unmet(known: Passport, options: ExportOptions) -> str:
    """Return the options that ask for another form than a file has, as typed; empty where it has it."""
    wanted = {
        "--input uint8": options.pixels and known.input.dtype != "uint8",
        "--softmax": options.softmax and not known.softmax,
    }
    return " ".join(typed for typed, lacks in wanted.items() if lacks)


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
        model = take_pixels(model, known.preprocessing, strict=strict)
    if "softmax" in asked:
        named = PROBABILITIES if model.graph.output[0].name == "logits" else None
        model = add_softmax(model, name=named, strict=strict)
    return model


def wanted_answers(
    reference: Artifact, evidence: Evidence, passport: Passport, *, model_file: Path | None
) -> NDArray[np.float32]:
    """Return the reference's (N, K) answers as a file of that passport gives them.

    They are probabilities where the file's answers are and the reference's are not.
    """
    found = answers_of(reference, evidence, model_file=model_file)
    if passport.softmax and not reference.passport.softmax:
        return softmax(found).astype(np.float32)
    return found
