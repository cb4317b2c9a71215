"""A model's card, from its passport: nothing that was not written down when it was made.

The commands that make it again are worked out from what the passport says of its making.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from serve.served import ServedModel
from toolkit import zoo
from toolkit.artifacts import CHECKPOINT, Artifact
from toolkit.figures import shape_text
from toolkit.passports import Passport


def headline(usable: Sequence[ServedModel]) -> str:
    """Return the page's title and one line about what is served."""
    parts = []
    for artifact in {e.name: e.artifact for e in reversed(usable) if e.artifact}.values():
        accuracy = artifact.passport.metrics.test_accuracy
        if artifact.passport.trained is False:
            quality = "untrained: its answers mean nothing"
        else:
            quality = "accuracy unknown" if accuracy is None else f"test accuracy {accuracy:.2%}"
        parts.append(f"**{artifact.name}** ({artifact.passport.precision}, {quality})")
    return "# cnnkit\n" + " · ".join(reversed(parts))


def cards(usable: Sequence[ServedModel]) -> str:
    """Return the cards of everything that is served, one below the other."""
    return "\n\n".join(card(entry.artifact, entry.label) for entry in usable if entry.artifact)


def card(artifact: Artifact, title: str | None = None) -> str:
    """Return a table of what an artifact's passport says; its title is the artifact's name by default."""
    passport = artifact.passport
    metrics, parity = passport.metrics, passport.parity
    rows: list[tuple[str, str]] = [
        ("model", passport.model),
        ("file", f"`{artifact.path.name}`, {artifact.path.stat().st_size:,} bytes"),
        ("format and precision", f"{passport.format}, {passport.precision}"),
        ("input", shape_text(passport.input.shape)),
        ("classes", ", ".join(passport.classes)),
    ]
    if metrics.test_accuracy is not None:
        interval = metrics.test_accuracy_ci95
        between = f", 95 % interval {interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
        images = f" on {metrics.test_images:,} images" if metrics.test_images else ""
        rows.append(("test accuracy", f"{metrics.test_accuracy:.4f}{images}{between}"))
    else:
        rows.append(("test accuracy", "untrained" if passport.trained is False else "not known"))
    if passport.dataset:
        rows.append(("data set", passport.dataset.name))
    if parity:
        rows.append(
            (
                "parity",
                f"{parity.top1_agreement:.2%} same first answer as {parity.source}, "
                f"largest difference {parity.max_abs_diff:.1e}",
            )
        )
    elif passport.parity_why:
        rows.append(("parity", f"not measured: {passport.parity_why}"))
    again = commands(artifact)
    if again:
        rows.append(("to make it again", f"`{again}`"))
    rows += [("made", passport.created or "not known"), ("SHA-256", f"`{passport.sha256}`")]
    lines = [f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows]
    return "\n".join([f"| {title or artifact.name} | |", "|:--|:--|", *lines])


def commands(artifact: Artifact) -> str | None:
    """Return what makes an artifact again, in one line for a shell.

    None where the passport does not say enough, as for foreign files.
    """
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
