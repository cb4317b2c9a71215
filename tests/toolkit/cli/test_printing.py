"""How errors are told."""

from __future__ import annotations

import click
from click.testing import CliRunner

from cnnkit import front_door
from toolkit.errors import GateError


def test_an_expected_error_is_one_line_on_stderr_with_its_status() -> None:
    @click.command()
    def failing() -> None:
        raise GateError("accuracy fell\n  by 3 points")

    group = front_door.FrontDoor("cnnkit")
    group.get_command = lambda ctx, name: failing  # type: ignore[method-assign]
    result = CliRunner().invoke(group, ["models"])
    assert result.exit_code == 4
    assert result.stdout == ""
    assert result.stderr == "error: accuracy fell by 3 points\n"


def test_a_bug_keeps_its_traceback() -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError

    group = front_door.FrontDoor("cnnkit")
    group.get_command = lambda ctx, name: broken  # type: ignore[method-assign]
    assert isinstance(CliRunner().invoke(group, ["models"]).exception, ZeroDivisionError)
