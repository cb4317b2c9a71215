"""What the text of an option may be."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cnnkit import front_door


@pytest.mark.parametrize("words", [("eval", "x", "--at-least", "nan"), ("profile", "--duration", "inf")])
def test_a_bound_that_is_no_finite_number_is_wrong_usage(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(front_door.main, words)
    assert result.exit_code == 2
    assert "is no finite number" in result.stderr or "is not in the range" in result.stderr
