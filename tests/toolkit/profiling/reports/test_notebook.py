"""What a notebook shows of a profile and of a comparison: small tables in which nothing is markup."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from html.parser import HTMLParser

from tests.toolkit.profiling.test_result import FULL
from toolkit.profiling.comparing.differences import compare
from toolkit.profiling.result import Profile


class Read(HTMLParser):
    """The tags and the texts of a piece of HTML; every tag that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.opened: list[str] = []
        self.feed(text)
        self.close()
        assert not self.opened

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag != "img":  # which nothing closes
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def named(name: str) -> Profile:
    (run,) = FULL.runs
    row = dataclasses.replace(run.rows[0], modules=(name,))
    return dataclasses.replace(FULL, model=name, runs=(dataclasses.replace(run, rows=(row, *run.rows[1:])),))


def test_a_profile_shows_its_rows_and_sums() -> None:
    read = Read(FULL._repr_html_())
    assert read.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    assert "net, batch 1, cpu, threads: 2; costliest first by their mean share" in read.texts
    assert {"conv1 + act1", "0.5000", "12 B", "= layers", "0.8000", "ort:int8 (fp32)"} <= set(read.texts)


def test_a_comparison_shows_its_rows_and_what_changed() -> None:
    found = compare(FULL, dataclasses.replace(FULL, partial=True))
    read = Read(found._repr_html_())
    assert "net → net: no change in 0 rows, 4 with too few windows to judge" in read.texts
    assert {"conv1 + act1", "too few windows", "end to end"} <= set(read.texts)
    assert "partial, as the run was interrupted: after" in read.texts


def test_names_are_no_markup() -> None:
    name = "<script>'&\""
    for text in (named(name)._repr_html_(), compare(named(name), named(name))._repr_html_()):
        assert "<script" not in text
        assert name in Read(text).texts or any(name in part for part in Read(text).texts)


def test_the_whole_page_is_one_call_away() -> None:
    assert FULL.html().startswith("<!doctype html>")
    assert "conv1 + act1" in FULL.html()


def test_data_is_read_without_what_draws_it() -> None:
    code = (
        "import sys, toolkit.profiling.comparing.differences\n"
        "print([name for name in sys.modules if 'reports' in name or name == 'rich'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
