"""One option for each setting that a backend declares; a setting of several backends is one option."""

from __future__ import annotations

from collections.abc import Callable

import click

from toolkit.backends import BACKENDS, BackendSetting
from toolkit.cli.parameters import Function


def backend_settings(function: Function) -> Function:
    """Add an option for every backend's own settings; what was typed arrives through `chosen_settings`."""
    settings = {name: one for backend in BACKENDS.all() for name, one in backend.settings.items()}
    for name, setting in settings.items():
        function = _option(name, setting)(function)
    return function


def _option(name: str, setting: BackendSetting) -> Callable[[Function], Function]:
    def remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            chosen_settings(context)[name] = value

    return click.option(
        f"--{name.replace('_', '-')}",
        name,
        expose_value=False,
        callback=remember,
        metavar="|".join(setting.choices),
        help=f"{setting.help} [default: {setting.default}]",
    )


def chosen_settings(context: click.Context) -> dict[str, str]:
    """Return the settings of backends that were typed, by name."""
    found: dict[str, str] = context.meta.setdefault("cnnkit.backend_settings", {})
    return found
