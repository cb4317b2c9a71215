"""`cnnkit` starts fast and light: no command's help imports a heavy package, and typos are answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cnnkit import front_door
from toolkit.catalog import Shelf

HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "gradio", "matplotlib")
SPINNING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
WORDS = sorted(front_door.commands())

# Prints which heavy packages are in sys.modules after `cnnkit ARGS` ended.
PROBE = f"""
import json, sys
from cnnkit import front_door
try:
    front_door.main(sys.argv[1:])
except SystemExit as end:
    status = end.code
print("\\n" + json.dumps([status, [name for name in {HEAVY!r} if name in sys.modules]]))
"""


def heavy_after(*args: str) -> tuple[int, list[str]]:
    command = [sys.executable, "-c", PROBE, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    status, heavy = json.loads(done.stdout.splitlines()[-1])
    return status, heavy


def imported(*args: str) -> set[str]:
    """Return the top-level packages that Python imports for these arguments."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *args], capture_output=True, text=True, check=True
    )
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}


def test_help_imports_no_package_but_click() -> None:
    heavy = {*HEAVY, "numpy", "msgspec", "rich", "PIL", "safetensors"}
    assert not heavy & imported("-m", "cnnkit", "--help")
    assert "click" in imported("-m", "cnnkit", "--help")


def test_the_python_package_imports_nothing_before_it_is_asked() -> None:
    assert not {*HEAVY, "numpy", "msgspec", "rich", "PIL", "click", "toolkit"} & imported(
        "-c", "import cnnkit"
    )


def test_help_lists_what_each_command_says_of_itself() -> None:
    listed = CliRunner().invoke(front_door.main, ["--help"], terminal_width=100).output
    for word, shelf in front_door.commands().items():
        assert f"  {word:8}  {shelf.load(word).get_short_help_str(100 - 6 - 8)}\n" in listed
    # in the order that their files say, then by their words
    order = [line.split()[0] for line in listed.partition("Commands:\n")[2].splitlines()]
    assert order[:7] == ["check", "train", "eval", "predict", "show", "import", "export"]
    assert order[-4:] == sorted(order[-4:])
    assert set(order) == set(WORDS)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('import click\nCOMMAND = click.Command("own", short_help="From its object.")', "From its object."),
        (
            'import click\n@click.command("own", help="From an option.")\ndef f(): "Not this."\nCOMMAND = f',
            "From an option.",
        ),
        (
            'import click\n@click.command()\ndef f(): "From its docstring."\nCOMMAND = f',
            "From its docstring.",
        ),
    ],
)
def test_a_command_may_say_its_help_in_any_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: str
) -> None:
    folder = f"commands_{line.rsplit(maxsplit=1)[-1].rstrip('.')}"  # Python imports a folder of a name once
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "own.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    shelf = Shelf(folder, "COMMAND", click.Command, "command")
    monkeypatch.setattr(front_door, "SHELVES", (*front_door.SHELVES, shelf))
    assert f"  own       {line}\n" in CliRunner().invoke(front_door.main, ["--help"]).output


def test_the_probe_sees_a_heavy_package_when_there_is_one() -> None:
    probe = PROBE.replace("import json, sys", "import json, sys, onnxruntime")
    done = subprocess.run([sys.executable, "-c", probe, "--help"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])[1] == ["onnxruntime"]


def test_every_command_of_the_design_is_there() -> None:
    wanted = "train eval predict export verify profile compare sweep show serve import models datasets doctor"
    assert set(wanted.split()) <= set(WORDS)


@pytest.mark.parametrize("word", WORDS)
def test_every_command_says_what_it_does(word: str) -> None:
    result = CliRunner().invoke(front_door.main, [word, "--help"])
    assert result.exit_code == 0
    assert "--json" in result.output or word == "serve"


def test_an_unknown_command_names_the_nearest_match() -> None:
    result = CliRunner().invoke(front_door.main, ["tarin", "lenet"])
    assert result.exit_code == 2
    assert "Did you mean 'train'?" in result.output


@pytest.mark.parametrize(
    ("given", "turns"),
    [({}, front_door.SPIN_TURNS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_waiting_threads_leave_the_cores_to_others_unless_told(
    given: dict[str, str], turns: str | None
) -> None:
    said = "import os; from cnnkit import front_door; front_door.leave = lambda status: None; "
    said += "front_door.main(); print(os.environ.get('GOMP_SPINCOUNT'))"
    kept = {name: value for name, value in os.environ.items() if name not in SPINNING}
    done = subprocess.run(
        [sys.executable, "-c", said, "--version"],
        env={**kept, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == str(turns)
    assert "GOMP_SPINCOUNT" not in os.environ  # a command called from Python leaves its process as it is


def test_the_module_form_works_from_an_empty_directory(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cnnkit", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith("cnnkit, version ")
