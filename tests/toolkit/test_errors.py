"""Errors name the nearest match and carry the exit status of the command line's contract."""

from __future__ import annotations

import pytest

from toolkit.errors import (
    CnnkitError,
    GateError,
    MissingExtraError,
    UnavailableError,
    unknown_name,
)


@pytest.mark.parametrize(
    ("typed", "meant"), [("tr", "trt"), ("pytroch", "pytorch"), ("ORT", "ort"), ("onnxruntime", None)]
)
def test_unknown_name_lists_what_is_known_and_guesses(typed: str, meant: str | None) -> None:
    text = str(unknown_name("backend", typed, ["pytorch", "ort", "trt"]))
    assert text.startswith(f"no backend {typed!r}; known: ort, pytorch, trt")
    assert text.endswith(f"Did you mean {meant!r}?") if meant else "mean" not in text


def test_unknown_name_says_when_nothing_is_known() -> None:
    assert str(unknown_name("model", "x", [])) == "no model 'x'; known: none"


def test_exit_statuses_follow_the_contract() -> None:
    assert [kind.exit_status for kind in (CnnkitError, UnavailableError, GateError)] == [1, 3, 4]


def test_missing_extra_names_the_install_command() -> None:
    assert "pip install 'cnnkit[train]'" in str(MissingExtraError("torch", "train"))
