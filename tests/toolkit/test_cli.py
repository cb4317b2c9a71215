"""Options and output that every command shares."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cnnkit import front_door
from toolkit import cli
from toolkit.errors import GateError


@click.command()
@cli.precision_option
@cli.root_option
def probe(*, precision: str, root: Path) -> None:
    cli.emit({"precision": precision, "root": str(root)})


@pytest.mark.parametrize(
    ("args", "precision"),
    [([], "fp32"), (["--fp16"], "fp16"), (["--int8"], "int8"), (["--precision", "bf16"], "bf16")],
)
def test_precision_has_short_forms(args: list[str], precision: str) -> None:
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


@pytest.mark.parametrize("words", [("eval", "x", "--at-least", "nan"), ("profile", "--duration", "inf")])
def test_a_bound_that_is_no_finite_number_is_wrong_usage(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(front_door.main, words)
    assert result.exit_code == 2
    assert "is no finite number" in result.stderr or "is not in the range" in result.stderr


REPORTS = (
    ("eval", "lenet-maxpool", "--html", "/dev/null/page.html"),
    ("check", "fashion-mnist-sample", "--html", "/dev/null/page.html"),
    ("check", "fashion-mnist-sample", "--write-list", "/dev/null/list.txt"),
    ("compare", "lenet", "lenet-relu", "--html", "/dev/null/page.html"),
    ("predict", "lenet-maxpool", "x.png", "--csv", "/dev/null/answers.csv"),
    ("show", "lenet", "--augmented", "--out", "/dev/null/sheet.png"),
    ("check", "csv:{read}", "--write-list", "{read}"),
    ("check", "folder:x", "--exclude", "{read}", "--html", "{read}"),
    ("eval", "lenet-maxpool", "--dataset", "csv:{read}", "--html", "{read}"),
    ("predict", "lenet-maxpool", "{read}", "--csv", "{read}"),
    ("compare", "{read}", "lenet", "--html", "{read}"),
    ("profile", "lenet", "--against", "{read}", "--html", "{read}"),
    ("profile", "lenet", "--html", "/tmp/one", "--csv", "/tmp/one"),
)


@pytest.mark.parametrize("words", REPORTS, ids=" ".join)
def test_a_report_that_has_no_place_is_refused_before_any_work(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    read = tmp_path / "a.csv"
    read.write_text("kept")
    result = CliRunner().invoke(front_door.main, [word.format(read=read) for word in words])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    told = {"{read}": "is read here", "/tmp/one": "for two reports"}
    assert told.get(words[-1], "cannot write") in result.stderr
    assert read.read_text() == "kept"


def test_a_choice_is_profiled_as_it_is_or_not_at_all() -> None:
    for more in (["--precision", "fp32"], ["--fp16"], ["--untrained"], ["--backend", "ort"]):
        result = CliRunner().invoke(front_door.main, ["profile", "lenet", "--choice", *more])
        assert result.exit_code == 2
        assert "--choice names file, weights, backend, precision and device" in result.stderr


def test_artifacts_folder_is_the_option_then_the_variable_then_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(CliRunner().invoke(probe, []).stdout)["root"] == "artifacts"
    monkeypatch.setenv("CNNKIT_ARTIFACTS", "/somewhere")
    assert json.loads(CliRunner().invoke(probe, []).stdout)["root"] == "/somewhere"
    assert json.loads(CliRunner().invoke(probe, ["--artifacts", "/else"]).stdout)["root"] == "/else"


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
