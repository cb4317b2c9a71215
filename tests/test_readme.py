"""Every `cnnkit` command that README and docs print is one that the command line takes; README's are run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cnnkit import front_door

REPO = Path(__file__).parents[1]
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CELL = re.compile(r"\| `(cnnkit [^`]*)` \|")

# What makes a README command quick: the sample instead of the whole set, fewer epochs and images.
QUICK = {
    "train": ["--dataset", "fashion-mnist-sample", "--epochs", "1"],
    "export": ["--images", "100"],
    "profile": ["--duration", "0.2"],
    "choose": ["--time", "5", "--backend", "ort", "--allow-noise"],
}


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of each `cnnkit …` line in a page's shell blocks."""
    found = []
    text = page.read_text("utf-8")
    for block in [*FENCE.findall(text), *CELL.findall(text)]:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] == ["cnnkit"]:
                found.append(words[1:])
    return found


EVERY = [
    pytest.param(words, id=f"{page.stem}: {' '.join(words)}") for page in PAGES for words in commands(page)
]


@pytest.mark.parametrize("words", EVERY)
def test_printed_commands_are_understood(words: list[str]) -> None:
    with click.Context(front_door.main) as context:
        _, command, rest = front_door.main.resolve_command(context, list(words))
        assert command is not None
        # parses options and arguments without running anything; raises UsageError for what is unknown
        command.make_context(words[0], rest, parent=context)


def test_the_pages_print_commands() -> None:
    assert len(EVERY) >= 20


@pytest.mark.parametrize("small", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_readme_commands_run_in_the_order_printed(
    small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small: a smaller network in place of AlexNet, and no engines, which the exporters' own suite builds."""
    monkeypatch.chdir(tmp_path)
    ran = 0
    for printed in commands(REPO / "README.md"):
        words = ["lenet-relu" if small and word == "alexnet" else word for word in printed]
        if small and words[0] == "export":
            words += ["--format", "onnx"]
        if words[0] == "serve":  # runs until stopped; tests/serve drives it in a browser
            continue
        result = CliRunner().invoke(front_door.main, [*words, *QUICK.get(words[0], [])])
        assert result.exit_code == 0, f"cnnkit {' '.join(words)}: {result.output}"
        ran += 1
    assert ran >= 6
