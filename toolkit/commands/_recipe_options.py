"""One option for each field of a recipe, made from its declaration; `sweep` takes their names from here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from toolkit.cli import Function
from toolkit.errors import CnnkitError
from toolkit.training.recipes import Setting, settings

# spellings that people know from elsewhere
_ALIASES = {"batch": ("--batch-size",), "lr": ("--learning-rate",)}


def option_names(setting: Setting) -> list[str]:
    """Return the spellings of a field's option, its own first."""
    return [f"--{setting.option}", *_ALIASES.get(setting.name, ())]


def recipe_options(function: Function) -> Function:
    """Add an option for every field; those that were given arrive as `changes`, by field name."""
    for setting in reversed(list(settings().values())):
        function = _option(setting)(function)
    return function


def _option(setting: Setting) -> Callable[[Function], Function]:
    names = option_names(setting)
    if setting.kind is bool:
        names = [f"--{setting.option}/--no-{setting.option}"]
    return click.option(
        *names,
        setting.name,
        default=None,
        expose_value=False,
        metavar=None if setting.kind is bool else _metavar(setting),
        callback=_remember(setting),
        help=setting.help,
    )


def _metavar(setting: Setting) -> str:
    if setting.choices:
        return f"[{'|'.join(setting.choices)}]"
    return {int: "N", float: "X"}.get(setting.kind, "TEXT")


def _remember(setting: Setting) -> Callable[[click.Context, click.Parameter, Any], None]:
    def remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is None:
            return
        try:
            setting.parse(value)
        except CnnkitError as error:
            raise click.BadParameter(str(error), ctx=context, param=parameter) from None
        changes(context)[setting.name] = value

    return remember


def changes(context: click.Context) -> dict[str, Any]:
    """Return the recipe fields that the command line set, by name."""
    found: dict[str, Any] = context.meta.setdefault("cnnkit.recipe", {})
    return found
