"""Letters are drawn in a font that has them, where one is installed."""

from __future__ import annotations

import pytest

from toolkit.lettering import complaint, font_file, font_for


def test_plain_words_need_no_font_of_the_machine() -> None:
    assert font_file("sneaker") == (None, "")
    assert complaint(["ankle boot", "t-shirt/top"]) is None


@pytest.mark.parametrize("word", ["кот", "γάτα", "แมว"])
def test_other_scripts_are_drawn_with_an_installed_font(word: str) -> None:
    path, lacking = font_file(word)
    if lacking:
        pytest.skip(f"no font on this machine has {lacking}")
    letters = {bytes(font_for(word, 20).getmask(letter)) for letter in set(word)}
    assert path is not None
    assert len(letters) == len(set(word))  # boxes would all be alike


def test_letters_that_no_font_has_are_named_once() -> None:
    said = complaint(["cat \u0378", "dog \u0378"])
    assert said is not None
    assert said.count("\u0378") == 1
