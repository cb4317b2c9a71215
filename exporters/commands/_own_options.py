"""One option for each field of each exporter's own options; exporters that share a field share the option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from toolkit.cli import Function
from toolkit.exporting import EXPORTERS, OwnField, own_fields


def exporter_options(function: Function) -> Function:
    """Add an option for every field; what was typed arrives through `typed`."""
    fields = {field.name: field for exporter in EXPORTERS.all() for field in own_fields(exporter)}
    for field in reversed(list(fields.values())):
        function = _option(field)(function)
    return function


def _option(field: OwnField) -> Callable[[Function], Function]:
    about = field.option
    kind: click.ParamType[Any] | None = None
    if about.choices:
        kind = click.Choice(about.choices)
    elif about.low is not None or about.high is not None:
        kind = click.IntRange(about.low, about.high)
    return click.option(
        f"--{field.name.replace('_', '-')}",
        field.name,
        is_flag=field.default is False,
        default=None,
        expose_value=False,
        type=kind,
        metavar=about.metavar,
        callback=_remember(field),
        help=about.help,
    )


def _remember(field: OwnField) -> Callable[[click.Context, click.Parameter, Any], None]:
    def remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value in (None, field.default):
            return
        if isinstance(field.default, tuple):
            value = tuple(dict.fromkeys(word.strip() for word in value.split(",") if word.strip()))
        typed(context)[field.name] = value

    return remember


def typed(context: click.Context) -> dict[str, Any]:
    """Return what was typed of all exporters' own options, by field name."""
    found: dict[str, Any] = context.meta.setdefault("cnnkit.own", {})
    return found
