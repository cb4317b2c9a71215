"""How errors are told, and that stdout is left to the object of --json."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cnnkit import front_door
from toolkit.cli import printing
from toolkit.cli.options import json_option
from toolkit.errors import GateError

LOUD = """
import os
import click
from toolkit.cli import options, printing

@click.command()
@click.option("--model-file", callback=lambda *_: print("imported"))
@options.json_option
def command(model_file, as_json):
    os.write(1, b"natively\\n")
    os.system("echo by a child")
    printing.emit({"done": True}) if as_json else print("done")

command()
"""


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


def test_what_others_print_is_no_part_of_the_json() -> None:
    buffered = os.environ | {
        "PYTHONUNBUFFERED": ""
    }  # what a file printed lies in Python's buffer till the end
    for words in (["--json"], ["--json", "--model-file", "x"], ["--model-file", "x", "--json"], []):
        ran = subprocess.run(
            [sys.executable, "-c", LOUD, *words], capture_output=True, text=True, check=True, env=buffered
        )
        aside, object_ = (ran.stderr, ran.stdout) if words else (ran.stdout, '{"done": true}\n')
        assert object_ == '{"done": true}\n'
        said = {"imported", "natively", "by a child"} | (set() if words else {"done"})
        assert set(aside.splitlines()) == said


def test_where_stdout_is_no_descriptor_it_is_left_to_the_json_too() -> None:
    @click.command()
    @json_option
    def command(as_json: bool) -> None:
        print("aside")
        printing.emit({"json": as_json})

    before = sys.stdout
    result = CliRunner().invoke(command, ["--json"])
    assert (result.stdout, result.stderr) == ('{"json": true}\n', "aside\n")
    assert sys.stdout is before


def test_stdout_is_given_back_where_an_option_after_json_is_refused() -> None:
    before = sys.stdout
    with pytest.raises(click.UsageError):
        front_door.main.main(["import", "x.pth", "--json", "--size", "96x"], standalone_mode=False)
    assert sys.stdout is before


def test_a_reader_that_is_gone_ends_a_command_as_before() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOUD, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 1
