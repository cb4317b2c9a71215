"""Figures for people: known numbers in the words that tables and messages show."""

from __future__ import annotations

import pytest

from toolkit.figures import (
    age_text,
    bytes_text,
    change_text,
    count_text,
    duration_text,
    gibibytes_text,
    mebibytes_text,
    ms_text,
    percent_text,
    shape_text,
    when_text,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0, "0.0000"), (0.01234, "0.0123"), (1.5, "1.500"), (12.344, "12.34"),
        (123.44, "123.4"), (1234.5, "1,234.5"), (-0.5, "-0.5000"),
    ],
)  # fmt: skip
def test_milliseconds_have_four_digits_at_most_after_those_that_tell(value: float | None, text: str) -> None:
    assert ms_text(value) == text


def test_a_signed_time_shows_its_sign() -> None:
    assert ms_text(0.0279, signed=True) == "+0.0279"
    assert ms_text(-13.1, signed=True) == "-13.10"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0, "0 B"), (612, "612 B"), (1000, "1.0 kB"), (18_816, "18.8 kB"), (999_949, "999.9 kB"),
        (104_857_600, "104.9 MB"), (2_345_678_901, "2.35 GB"), (5_000_000_000_000, "5000.00 GB"),
    ],
)  # fmt: skip
def test_sizes_have_decimal_units(value: float | None, text: str) -> None:
    assert bytes_text(value) == text


def test_limits_and_a_process_memory_are_told_in_powers_of_two() -> None:
    assert mebibytes_text(20 * 2**20) == "20 MiB"
    assert mebibytes_text(2_000 * 2**20) == "2,000 MiB"
    assert mebibytes_text(None) == "–"
    assert gibibytes_text(15.62 * 2**30) == "15.6 GiB"


@pytest.mark.parametrize(
    ("seconds", "text", "rough"),
    [
        (None, "–", "–"),
        (0.01234, "12.34 ms", "0 s"),
        (7.25, "7.2 s", "7 s"),
        (119.97, "2 min 0 s", "2 min"),
        (252, "4 min 12 s", "4 min"),
        (7213.4, "2 h 0 min", "2 h 0 min"),
    ],
)
def test_durations_have_the_units_that_people_count_in(seconds: float | None, text: str, rough: str) -> None:
    assert (duration_text(seconds), duration_text(seconds, rough=True)) == (text, rough)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (999, "999"), (48_000, "48.0 k"), (938_100_000, "938.1 M"), (3.86e9, "3.9 G")],
)
def test_counts_are_scaled(value: float | None, text: str) -> None:
    assert count_text(value) == text


def test_counts_below_a_bound_show_every_digit() -> None:
    assert count_text(61_706, exact=1_000_000) == "61,706"
    assert count_text(11_173_962, exact=1_000_000) == "11.2 M"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0%"), (0.004, "0.4%"), (0.0949, "9.5%"), (0.1, "10%"), (1.0, "100%")],
)
def test_small_shares_have_a_decimal(value: float | None, text: str) -> None:
    assert percent_text(value) == text


def test_changes_carry_their_sign() -> None:
    assert [change_text(value) for value in (0.032, -0.5, None)] == ["+3.2%", "-50.0%", "–"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "made just now"), (59, "made just now"), (60, "1 minute old"), (7_300, "2 hours old"),
     (86_400 * 3 + 5, "3 days old")],
)  # fmt: skip
def test_ages_are_told_in_their_largest_unit(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("2026-03-01T09:30:05.123456+00:00", "2026-03-01 09:30:05 UTC"),
        ("2026-03-01T11:30:05+02:00", "2026-03-01 09:30:05 UTC"),
        ("last spring", "last spring"),
        (None, "not known"),
    ],
)
def test_times_are_told_to_the_second(written: str | None, text: str) -> None:
    assert when_text(written) == text


def test_shapes_are_products_with_the_open_batch_as_n() -> None:
    assert shape_text((1, 6, 28, 28)) == "1×6×28×28"
    assert shape_text((None, 3, 32, 32)) == "N×3×32×32"
    assert shape_text(None) == "–"
