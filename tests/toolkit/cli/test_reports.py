"""Files that a command is asked to write."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cnnkit import front_door

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
