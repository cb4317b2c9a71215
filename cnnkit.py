"""The front door: the `cnnkit` command and `python -m cnnkit`. Finds commands lazily, holds no logic."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from typing import Any

import click

from toolkit.cli import leave, report_error
from toolkit.errors import CnnkitError

_FOLDERS = ("toolkit.commands", "exporters.commands", "serve.commands")
_ORDER = ("train", "eval", "predict", "export", "verify", "profile", "compare", "sweep", "show", "serve")


def _commands() -> dict[str, str]:
    """Return the module of each command by its word: the file's stem (`import_` is `import`)."""
    found: dict[str, str] = {}
    for folder in _FOLDERS:
        package = importlib.import_module(folder)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                found[module.name.rstrip("_").replace("_", "-")] = f"{folder}.{module.name}"
    return found


class FrontDoor(click.Group):
    """Lists the command files and imports one only when its word is typed."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        if args is not None:  # called from Python, whose process goes on
            return super().main(args, *rest, **settings)
        try:
            return super().main(args, *rest, **settings)
        except SystemExit as end:
            leave(end.code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        words = _commands()
        return [w for w in _ORDER if w in words] + sorted(w for w in words if w not in _ORDER)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _commands().get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module).COMMAND
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from toolkit.errors import unknown_name

        if args and args[0] not in _commands() and not args[0].startswith("-"):
            raise click.UsageError(str(unknown_name("command", args[0], _commands())), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CnnkitError as error:
            ctx.exit(report_error(error))


@click.group(cls=FrontDoor, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cnnkit", prog_name="cnnkit")
def main() -> None:
    """Train small CNNs, export them to ONNX and TensorRT, prove, profile and serve the result."""


if __name__ == "__main__":
    sys.exit(main())
