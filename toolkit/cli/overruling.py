"""What was typed, and whether it overrules a confirmed choice."""

from __future__ import annotations

import click
from click.core import ParameterSource

from toolkit.cli.options import SHORT
from toolkit.errors import CnnkitError


def typed(*names: str) -> bool:
    """Tell whether any of these parameters of the command that runs was typed."""
    source = click.get_current_context().get_parameter_source
    return any(source(name) is ParameterSource.COMMANDLINE for name in names)


def takes_choice(*, backend: str | None, device: str | None) -> bool:
    """Tell whether nothing was typed that overrules a choice: no backend, precision or device."""
    meta = click.get_current_context().meta
    short = any(meta.get(f"cnnkit.{word}") for word in SHORT)
    return backend is None and device is None and not short and not typed("precision", "precisions")


def no_choice(name: str) -> CnnkitError:
    """Return the error for a name of which nothing that was chosen holds here."""
    return CnnkitError(f"no choice of {name} holds here: `cnnkit choose {name}` makes one")
