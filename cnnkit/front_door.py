"""The `cnnkit` command: finds the command files by listing their folders, imports the one that is typed."""

from __future__ import annotations

import ast
import atexit
import math
import os
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from toolkit.catalog import Shelf
from toolkit.errors import CnnkitError, unknown_name

SHELVES = tuple(
    Shelf(f"{package}.commands", "COMMAND", click.Command, "command")
    for package in ("toolkit", "exporters", "serve")
)
# what a command's file may say of its place in `--help`; those that say nothing follow by their words
ORDER = re.compile(r"^ORDER = (\d+)", re.M)
# turns that a thread of GNU's OpenMP, which torch computes with on Linux, waits awake for its next work: a
# millisecond or so. With its own 300,000 a LeNet's two threads hold cores while they wait for one that
# another program has: 240 images/s beside it, 1,470 so; on free cores as fast as ever (0.99 times)
SPIN_TURNS = "20000"


def commands() -> dict[str, Shelf[click.Command]]:
    """Return the shelf of each command by its word; imports no command."""
    return {word: shelf for shelf in SHELVES for word in shelf.names()}


def in_order() -> dict[str, Shelf[click.Command]]:
    """Return the shelf of each command by its word, in the order of `--help`; imports no command."""

    def place(entry: tuple[str, Shelf[click.Command]]) -> tuple[float, str]:
        word, shelf = entry
        said = ORDER.search(shelf.origin(word).read_text("utf-8"))
        return (int(said[1]) if said else math.inf, word)

    return dict(sorted(commands().items(), key=place))


class FrontDoor(click.Group):
    """Lists the command files and imports one only when its word is typed."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        if args is not None:  # called from Python, whose process goes on
            return super().main(args, *rest, **settings)
        share_cores()
        try:
            return super().main(args, *rest, **settings)
        except SystemExit as end:
            leave(end.code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(in_order())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        shelf = commands().get(cmd_name)
        return shelf.load(cmd_name) if shelf else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List every command with the one line that click makes of its help, and import none of them."""
        found = in_order().items()
        listed = {word: _described(word, shelf.origin(word)) or shelf.load(word) for word, shelf in found}
        room = formatter.width - 6 - max(map(len, listed))
        rows = [(word, one.get_short_help_str(room)) for word, one in listed.items() if not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in commands() and not args[0].startswith("-"):
            raise click.UsageError(str(unknown_name("command", args[0], commands())), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CnnkitError as error:
            from toolkit.cli.printing import report_error

            ctx.exit(report_error(error))


def share_cores() -> None:
    """Have threads that wait for others sleep soon, in this process and its children, unless it was set how.

    It is heeded where torch is not loaded yet.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPIN_TURNS


def _described(word: str, file: Path) -> click.Command | None:
    """Return a command with nothing but its word and its help, read from its file, which is not run.

    None for a file that says its help in another way than the docstring of the function that becomes
    `COMMAND` by a plain `@click.command("word")`.
    """
    tree = ast.parse(file.read_bytes())
    lines = [node for node in tree.body if isinstance(node, ast.Assign)]
    named = [ast.unparse(node.value) for node in lines if ast.unparse(node.targets[0]) == "COMMAND"]
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in named]
    return next((click.Command(word, help=ast.get_docstring(f)) for f in functions if _is_plain(f)), None)


def _is_plain(function: ast.FunctionDef) -> bool:
    """Tell whether a function is made a command by `@click.command`, with its word at most."""
    first = function.decorator_list[0] if function.decorator_list else None
    return isinstance(first, ast.Call) and ast.unparse(first.func) == "click.command" and not first.keywords


def leave(status: str | int | None) -> NoReturn:
    """End this process with a status as `sys.exit` does, but without taking torch's objects apart first.

    That alone takes Python 1.3 s after an export. What must happen does: threads are joined, exit
    handlers run and streams are flushed, as at the end of multiprocessing's own children.
    """
    if "torch" not in sys.modules or isinstance(status, str):
        sys.exit(status)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or 120  # Python's own status for output that could not be written
    os._exit(status or 0)


@click.group(cls=FrontDoor, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cnnkit", prog_name="cnnkit")
def main() -> None:
    """Train small CNNs, export them to ONNX and TensorRT, prove, profile and serve the result."""
