"""The commands that make an artifact again, worked out from what its passport says of its making."""

from __future__ import annotations

import shlex
from typing import Any

from toolkit import zoo
from toolkit.artifacts import CHECKPOINT, Artifact
from toolkit.passports import Passport


def commands(artifact: Artifact) -> str | None:
    """Return one line for a shell; None where the passport does not say enough, as for foreign files."""
    passport = artifact.passport
    name = artifact.name
    trained = _training(passport, name)
    if passport.trained is None or (passport.trained and trained is None):
        return None
    words = ["cnnkit", "export", name.removesuffix("-untrained")]
    if passport.trained is False:
        words.append("--untrained")
    if passport.precision != "fp32":
        words += ["--precision", passport.precision]
    export = None if passport.format == CHECKPOINT else shlex.join(words)
    return " && ".join(line for line in (trained, export) if line) or None


def _training(passport: Passport, name: str) -> str | None:
    recipe = passport.recipe
    if not passport.trained or recipe is None:
        return None
    words = ["cnnkit", "train", passport.model]
    if name != passport.model:
        words += ["--name", name]
    if recipe.name != "default":
        words += ["--recipe", recipe.name]
    for field in recipe.changed:
        words += _option(field, getattr(recipe, field, None))
    spec = zoo.models().get(passport.model)
    if passport.dataset and (spec is None or passport.dataset.name != spec.dataset):
        words += ["--dataset", passport.dataset.name]
    if passport.pretrained:
        words += ["--pretrained", passport.pretrained]
    if passport.seed:
        words += ["--seed", str(passport.seed)]
    return shlex.join(words)


def _option(field: str, value: Any) -> list[str]:
    word = field.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{word}" if value else f"--no-{word}"]
    return [f"--{word}", "none" if value is None else str(value)]
