"""The commands that make an artifact again, worked out from what its passport says of its making."""

from __future__ import annotations

import shlex
from typing import Any

from toolkit import catalog
from toolkit.artifacts import Artifact, Passport


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
    export = None if passport.format == "safetensors" else shlex.join(words)
    return " && ".join(line for line in (trained, export) if line) or None


def _training(passport: Passport, name: str) -> str | None:
    recipe = passport.recipe
    if not passport.trained or not recipe or not recipe.get("name"):
        return None
    words = ["cnnkit", "train", passport.model]
    if name != passport.model:
        words += ["--name", name]
    if recipe["name"] != "default":
        words += ["--recipe", str(recipe["name"])]
    for field in recipe.get("changed", ()):
        words += _option(str(field), recipe.get(field))
    spec = catalog.models().get(passport.model)
    if passport.dataset and (spec is None or passport.dataset.name != spec.dataset):
        words += ["--dataset", passport.dataset.name]
    if passport.extra.get("pretrained"):
        words += ["--pretrained", str(passport.extra["pretrained"])]
    if passport.extra.get("seed"):
        words += ["--seed", str(passport.extra["seed"])]
    return shlex.join(words)


def _option(field: str, value: Any) -> list[str]:
    word = field.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{word}" if value else f"--no-{word}"]
    return [f"--{word}", "none" if value is None else str(value)]
