"""A training on a machine that has torch and not what draws its pictures."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from toolkit.training.record import left_out
from toolkit.training.run import train


def test_a_training_does_without_pictures_and_tensorboard_and_says_so(
    make_job: Any, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("tensorboard", "matplotlib"):
        monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]
    outcome = train(make_job(changes={"epochs": 1}), listener)
    files = {path.name for path in outcome.folder.iterdir()}
    assert "epochs.csv" in files
    assert not files & {"tensorboard", "curves.png", "confusion.png"}
    assert (
        "note: no TensorBoard files, no pictures of curves and confusions, which need tensorboard, "
        "matplotlib: pip install 'cnnkit[train]'"
    ) in listener.said


def test_nothing_is_left_out_where_both_are_here() -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("matplotlib")
    assert left_out() is None
