"""One option for each field of each exporter's own options; exporters that share a field share the option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from toolkit.cli.parameters import Function, options, words
from toolkit.exporting import EXPORTERS, OwnField, own_fields


def exporter_options(function: Function) -> Function:
    """Add an option for every field; what was typed arrives through `typed`."""
    fields = {field.name: field for exporter in EXPORTERS.all() for field in own_fields(exporter)}
    return options(*map(_option, fields.values()))(function)


def _option(field: OwnField) -> Callable[[Function], Function]:
    about = field.option
    bounds = click.IntRange(about.low, about.high) if (about.low, about.high) != (None, None) else None
    return click.option(
        f"--{field.name.replace('_', '-')}",
        field.name,
        is_flag=field.default is False,
        default=None,
        expose_value=False,
        type=click.Choice(about.choices) if about.choices else bounds,
        metavar=about.metavar,
        callback=_remember(field),
        help=about.help,
    )


def _remember(field: OwnField) -> Callable[[click.Context, click.Parameter, Any], None]:
    def remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value not in (None, field.default):
            typed(context)[field.name] = words(value) if isinstance(field.default, tuple) else value

    return remember


def typed(context: click.Context) -> dict[str, Any]:
    """Return what was typed of all exporters' own options, by field name."""
    found: dict[str, Any] = context.meta.setdefault("cnnkit.own", {})
    return found
