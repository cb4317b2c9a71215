"""A model's card, from its passport: nothing that was not written down when it was made.

The commands that make it again are worked out from what the passport says of its making.
"""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from toolkit import zoo
from toolkit.artifacts import CHECKPOINT, Artifact, size_bytes
from toolkit.exporting import ExportOptions
from toolkit.figures import shape_text, when_text
from toolkit.graphs import GRAPH
from toolkit.listings import MOST_PIXELS
from toolkit.passports import Passport, Target, TrainingOptions

# what a checkpoint is captured in where nobody asks otherwise
OPSET = 20


def card_rows(artifact: Artifact) -> list[tuple[str, str]]:
    """Return what an artifact's passport says, as names and values; what it does not say is left out."""
    passport = artifact.passport
    rows = {
        "model": passport.model,
        "file": f"{artifact.path.name}, {size_bytes(artifact.path):,} bytes",
        "format and precision": f"{passport.format}, {passport.precision}",
        "input": shape_text(passport.input.shape),
        "classes": ", ".join(passport.classes),
        "test accuracy": _accuracy(passport),
        "data set": passport.dataset.name if passport.dataset else None,
        "parity": _parity(passport),
        "to make it again": commands(artifact),
        "made": when_text(passport.created),
        "SHA-256": passport.sha256,
    }
    return [(name, value) for name, value in rows.items() if value is not None]


def _accuracy(passport: Passport) -> str:
    metrics = passport.metrics
    if metrics.test_accuracy is None:
        return "untrained" if passport.trained is False else "not known"
    interval = metrics.test_accuracy_ci95
    between = f", 95 % interval {interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
    images = f" on {metrics.test_images:,} images" if metrics.test_images else ""
    return f"{metrics.test_accuracy:.4f}{images}{between}"


def _parity(passport: Passport) -> str | None:
    parity = passport.parity
    if parity is None:
        return f"not measured: {passport.parity_why}" if passport.parity_why else None
    return (
        f"{parity.top1_agreement:.2%} same first answer as {parity.source}, "
        f"largest difference {parity.max_abs_diff:.1e}"
    )


def commands(artifact: Artifact) -> str | None:
    """Return what makes an artifact again, in one line for a shell.

    None where the passport does not say enough, as for foreign files.
    """
    passport = artifact.passport
    name = artifact.name
    trained = _training(passport, name)
    if passport.trained is None or (passport.trained and trained is None):
        return None
    words = ["cnnkit", "export", name.removesuffix("-untrained"), *_export_options(passport)]
    export = None if passport.format == CHECKPOINT else shlex.join(words)
    return " && ".join(line for line in (trained, export) if line) or None


def _export_options(passport: Passport) -> list[str]:
    """Return what an export was asked that changes its file."""
    usual, made = ExportOptions(root=Path()), passport.calibration
    words = ["--untrained", *_unusual("seed", passport.seed, usual.seed)] if passport.trained is False else []
    words += _unusual("format", passport.format, GRAPH)
    words += _unusual("precision", passport.precision, usual.precision)
    words += _unusual("batch", _batches(passport), ",".join(map(str, usual.batches)))
    words += _unusual("input", passport.input.dtype if passport.input.dtype == "uint8" else None, None)
    words += ["--softmax"] if passport.softmax else []
    if (passport.format, passport.precision) == (GRAPH, usual.precision):
        words += _unusual("opset", passport.opset, OPSET)
    if made is not None:
        words += _unusual("calibration", made.method, usual.calibration)
        words += _unusual("calibration-images", made.images, usual.calibration_images)
    drop = passport.engine_accuracy_drop or passport.accuracy_drop
    words += _unusual("max-accuracy-drop", f"{drop.allowed:g}" if drop else None, f"{usual.allowed_points:g}")
    return words + _of_engine(passport.target) + _model_file(passport)


def _batches(passport: Passport) -> str | None:
    """Return the batch sizes that were asked for, None where any may come."""
    profile = (passport.target.shape_profile if passport.target else None) or {}
    if profile:
        return ",".join(str(profile[name][0]) for name in ("min", "opt", "max") if name in profile)
    fixed = passport.input.shape[0] if passport.input.shape else None
    return None if fixed is None else str(fixed)


def _of_engine(target: Target | None) -> list[str]:
    """Return with which TensorRT an engine was built, and for which GPUs and releases."""
    if target is None or target.flavour is None:
        return []
    words = ["--flavour", target.flavour, *_unusual("compatible", target.hardware_compatibility, "NONE")]
    words += _unusual("target", ",".join(target.compute_capabilities).lower() or None, None)
    return [*words, "--version-compatible"] if target.version_compatible else words


def _model_file(passport: Passport) -> list[str]:
    # where the file lay is not written down
    return ["--model-file", "MODEL.py"] if passport.model_file_sha256 else []


def _training(passport: Passport, name: str) -> str | None:
    recipe = passport.recipe
    if not passport.trained or recipe is None:
        return None
    spec = zoo.known(passport.model)
    words = ["cnnkit", "train", passport.model]
    words += _unusual("name", name, passport.model)
    # one of a file is found by the file's name, in the folder that it lies in
    words += _unusual("recipe", recipe.source if recipe.source.endswith(".toml") else recipe.name, "default")
    for field in recipe.changed:
        words += _option(field, getattr(recipe, field, None))
    words += _data_options(passport, spec.dataset if spec else None)
    words += _unusual("seed", passport.seed, 0)
    words += _asked(passport.options, passport.pretrained)
    words += _model_file(passport)
    return shlex.join(words)


def _data_options(passport: Passport, usual: str | None) -> list[str]:
    """Return which data a training had, and how they were read."""
    data = passport.dataset
    if data is None:
        return []
    words = _unusual("dataset", data.name, usual)
    words += _unusual("group", data.group, None) + _unusual("columns", data.columns, None)
    words += _unusual("exclude", data.exclude, None)
    words += ["--skip-damaged"] if data.skip_damaged else []
    return words + _unusual("max-pixels", data.max_pixels, MOST_PIXELS)


# of a training's options: told elsewhere, and what was computed of the others
_NOT_TYPED = ("dataset", "pretrained_sha256", "teacher_sha256", "loss_weights")


def _asked(options: TrainingOptions | None, pretrained: str | None) -> list[str]:
    """Return what a training was asked beside recipe, data and seed, where it differs from the usual."""
    if options is None:
        return _unusual("pretrained", pretrained, None)
    usual = TrainingOptions(dataset="")
    words = []
    for field in dataclasses.fields(TrainingOptions):
        value, known = getattr(options, field.name), getattr(usual, field.name)
        if field.name in _NOT_TYPED or value in (None, known):
            continue
        # a square is named by its side
        value = max(value) if isinstance(value, tuple) else value
        words += _option(field.name, value)
    return words


def _unusual(option: str, value: Any, usual: Any) -> list[str]:
    """Return an option whose value is known and is not the one that it has when nobody types it."""
    return [] if value in (None, usual) else [f"--{option}", str(value)]


def _option(field: str, value: Any) -> list[str]:
    word = field.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{word}" if value else f"--no-{word}"]
    return [f"--{word}", "none" if value is None else str(value)]
