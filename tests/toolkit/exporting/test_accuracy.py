"""The paired drop: known numbers, and what any pictures must satisfy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from toolkit.exporting.accuracy import Drop, error_of_look, paired_drop


def answers(lost: int, won: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    before, after = np.ones(count, bool), np.ones(count, bool)
    after[:lost] = False
    before[lost : lost + won] = False
    return before, after


def test_ten_lost_and_four_won_of_a_thousand_are_a_drop_of_0_6_points() -> None:
    drop = paired_drop(*answers(10, 4, 1000))
    assert drop.points == pytest.approx(0.6)
    # by hand: 6/1002 ± 1.96 × sqrt((15/1002 − (6/1002)²) / 1002), in points
    assert (drop.low, drop.high) == pytest.approx((-0.1576, 1.3551), abs=2e-3)


@given(st.integers(min_value=1, max_value=20))
def test_all_looks_together_miss_no_more_often_than_one(looks: int) -> None:
    before = sum(error_of_look(number, last=False) for number in range(1, looks))
    assert before + error_of_look(looks, last=True) <= 0.05
    assert error_of_look(looks, last=True) == (0.05 if looks == 1 else 0.025)


def test_no_discordant_picture_is_no_certainty() -> None:
    drop = paired_drop(*answers(0, 0, 1000))
    assert drop.points == 0
    assert 0.1 < drop.high < 0.3
    assert paired_drop(*answers(0, 0, 100)).judge(0.5) == "undecided"


@pytest.mark.parametrize(
    ("low", "high", "answer"), [(-0.1, 0.5, "pass"), (0.6, 2.0, "fail"), (0.4, 0.6, "undecided")]
)
def test_the_interval_decides(low: float, high: float, answer: str) -> None:
    assert Drop(points=0.5, low=low, high=high, images=1).judge(0.5) == answer


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(arrays(bool, n), arrays(bool, n))))
def test_the_interval_is_mirrored_when_the_networks_change_places(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    there, back = paired_drop(*pair), paired_drop(pair[1], pair[0])
    assert there.points == pytest.approx(-back.points)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.low <= there.high


def test_more_pictures_narrow_the_interval() -> None:
    widths = [d.high - d.low for d in (paired_drop(*answers(n // 100, n // 100, n)) for n in (500, 5000))]
    assert widths[1] < widths[0] / 2
