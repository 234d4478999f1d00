from __future__ import annotations

import json

import pytest

from benchmarks.aims import Aim
from benchmarks.report import (
    RAW_LPUSH,
    RAW_SCRIPT,
    Figure,
    document,
    median,
    number,
    percentile,
    table,
)

MORE, LESS = Aim(good=10, goal=20), Aim(good=5, goal=3, higher_is_better=False)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.95, 95), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile(range(100, 0, -1), share) == expected


def test_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(("values", "expected"), [([3, 1, 2], 2), ([4, 1, 3, 2], 2.5), ([5], 5)])
def test_median_is_the_middle(values: list[float], expected: float) -> None:
    assert median(values) == expected


def test_nothing_has_no_middle_and_no_percentile() -> None:
    with pytest.raises(ValueError, match="values"):
        median([])
    with pytest.raises(ValueError, match="values"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("aim", "value", "expected"),
    [
        (MORE, 9.9, "short"), (MORE, 10, "good"), (MORE, 20, "goal"),
        (LESS, 5.1, "short"), (LESS, 5, "good"), (LESS, 3, "goal"),
    ],
)  # fmt: skip
def test_a_mark_that_is_just_reached_is_met(aim: Aim, value: float, expected: str) -> None:
    assert aim.verdict(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (12.34, "12.3"), (123456.7, "123,457")],
)
def test_numbers_show_three_digits_that_matter(value: float, expected: str) -> None:
    assert number(value) == expected


def test_figures_are_held_against_the_raw_rates_of_their_own_run() -> None:
    assert Figure("g", "a rate", "/s", [500.0]).in_raw(1_000) == 0.5
    assert Figure("g", "a time", "us", [100.0]).in_raw(1_000_000) == pytest.approx(100)
    assert Figure("g", "a time", "ms", [1.0]).in_raw(1_000) == pytest.approx(1)
    assert Figure("g", "bytes", "B", [1.0]).in_raw(1_000) is None


def test_table_and_json_say_the_same() -> None:
    figures = [
        Figure("raw", RAW_LPUSH, "/s", [1_000.0]),
        Figure("raw", RAW_SCRIPT, "/s", [100.0]),
        Figure("submit", "one by one", "/s", [40.0, 50.0, 90.0], Aim(60, 70), {"redis us": 7.0}),
    ]
    lines = table(figures).splitlines()
    assert [line for line in lines if line.isupper()] == ["RAW", "SUBMIT"]
    assert lines[-2].split() == [
        *("one", "by", "one", "50.0", "/s", "40.0", "-", "90.0"),
        *("0.0500", "0.500", "60.0", "/", "70.0", "SHORT"),
    ]
    assert lines[-1].strip() == "redis us 7.00"
    saved = json.loads(json.dumps(document(figures, {"cpus": 2})))
    assert saved["machine"] == {"cpus": 2}
    one = saved["figures"][-1]
    assert (one["median"], one["min"], one["max"], one["verdict"]) == (50, 40, 90, "short")
    assert one["in_raw"] == {RAW_LPUSH: 0.05, RAW_SCRIPT: 0.5}
