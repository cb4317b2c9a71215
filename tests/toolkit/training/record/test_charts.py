"""Pictures of confusions: a matrix of few classes, the commonest pairs of many, in bounded size."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from toolkit.training.record import charts
from toolkit.training.record.charts import draw_confusion, draw_rates


def confusion(classes: int) -> list[list[int]]:
    found = np.random.default_rng(0).integers(0, 3, (classes, classes))
    return (found + 50 * np.eye(classes, dtype=np.int64)).tolist()


@pytest.mark.parametrize("classes", [31, 300, 1000])
def test_the_picture_of_many_classes_is_no_larger_than_of_31(tmp_path: Path, classes: int) -> None:
    path = tmp_path / "confusion.png"
    draw_confusion(path, confusion(classes), [f"class {n}" for n in range(classes)], "many")
    with Image.open(path) as image:
        assert image.width * image.height < 2_000_000


def test_class_names_that_mean_something_to_matplotlib_or_are_no_text_are_drawn(tmp_path: Path) -> None:
    names = ["$5_$10", r"$\frac{1$", "caf\udce9", "_hidden", "x" * 300]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion(tmp_path / "few.png", confusion(5), names, "a title of $5_$10")
        draw_confusion(tmp_path / "many.png", confusion(40), names * 8, "a title of $5_$10")
    for name in ("few", "many"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.width < 2000


def test_a_curve_of_rates_is_drawn_under_any_name_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "there" / "rates.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve = ([1e-3, 1e-2, 1e-1], [2.0, 1.0, 3.0], 1e-2)
        draw_rates(path, *curve, r"own on $\frac{1$, recipe default", start=2.3)
    assert path.stat().st_size > 5000


def test_the_rates_of_a_curve_are_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(charts, "_save", lambda figure, path: drawn.append(figure))
    draw_rates(tmp_path / "rates.png", [1e-6, 1e-3, 10.0], [2.0, 1.0, 3.0], None, "own", start=2.0)
    drawn[0].draw_without_rendering()
    shown = {label.get_text() for label in drawn[0].axes[0].get_xticklabels(which="both")}
    assert {"1e-06", "0.001", "10"} <= shown
    assert not any("$" in text for text in shown)
