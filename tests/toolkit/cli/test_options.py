"""Options that every command shares."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from toolkit.cli.options import precision_option, root_option
from toolkit.cli.printing import emit


@click.command()
@precision_option
@root_option
def probe(*, precision: str | None, root: Path) -> None:
    emit({"precision": precision, "root": str(root)})


@pytest.mark.parametrize(
    ("args", "precision"),
    [([], None), (["--fp16"], "fp16"), (["--int8"], "int8"), (["--precision", "bf16"], "bf16")],
)
def test_precision_has_short_forms(args: list[str], precision: str | None) -> None:
    result = CliRunner().invoke(probe, args)
    assert json.loads(result.stdout)["precision"] == precision


def test_short_form_wins_wherever_it_stands() -> None:
    for args in (["--fp16", "--precision", "fp16"], ["--precision", "fp16", "--fp16"]):
        assert json.loads(CliRunner().invoke(probe, args).stdout)["precision"] == "fp16"


def test_contradicting_precisions_are_wrong_usage() -> None:
    for args in (["--fp16", "--int8"], ["--precision", "int8", "--fp16"], ["--fp16", "--precision", "int8"]):
        result = CliRunner().invoke(probe, args)
        assert result.exit_code == 2
        assert "contradict" in result.output


def test_artifacts_folder_is_the_option_then_the_variable_then_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(CliRunner().invoke(probe, []).stdout)["root"] == "artifacts"
    monkeypatch.setenv("CNNKIT_ARTIFACTS", "/somewhere")
    assert json.loads(CliRunner().invoke(probe, []).stdout)["root"] == "/somewhere"
    assert json.loads(CliRunner().invoke(probe, ["--artifacts", "/else"]).stdout)["root"] == "/else"
