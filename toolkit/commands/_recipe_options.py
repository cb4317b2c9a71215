"""One option for each field of a recipe, made from its declaration; `sweep` takes their names from here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from toolkit.cli import parameters
from toolkit.errors import CnnkitError
from toolkit.training.fields import FieldSpec
from toolkit.training.recipes import settings

# spellings that people know from elsewhere
_ALIASES = {"batch": ("--batch-size",), "lr": ("--learning-rate",)}


def option_names(setting: FieldSpec) -> list[str]:
    """Return the spellings of a field's option, its own first."""
    return [f"--{setting.word}", *_ALIASES.get(setting.name, ())]


def _option(setting: FieldSpec) -> Callable[[parameters.Function], parameters.Function]:
    switch = [f"--{setting.word}/--no-{setting.word}"] if setting.kind is bool else None
    return click.option(
        *(switch or option_names(setting)),
        setting.name,
        default=None,
        metavar=None if switch else _metavar(setting),
        callback=_checked(setting),
        help=setting.help,
    )


def _metavar(setting: FieldSpec) -> str:
    if setting.choices:
        return f"[{'|'.join(setting.choices)}]"
    return {int: "N", float: "X"}.get(setting.kind, "TEXT")


def _checked(setting: FieldSpec) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a callback that refuses what the field cannot be, and hands on what was typed."""

    def check(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            if value is not None:
                setting.parse(value)
        except CnnkitError as error:
            raise click.BadParameter(str(error), ctx=context, param=parameter) from None
        return value

    return check


# those that were not typed arrive as None
recipe_options = parameters.options(*(_option(setting) for setting in settings().values()))
