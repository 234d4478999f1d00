"""Durations, ranges and factors in words."""

from __future__ import annotations

import pytest

from balancer.core.wording import factor, span


@pytest.mark.parametrize(
    ("low_s", "high_s", "text"),
    [
        (0, 0, "in 0 ms"),
        (0, 30, "in 0 ms to 30 s"),
        (0, 1_200, "in 0 ms to 20 min"),
        (0, 1_201, "in 0 ms or much later"),
        (3_600, 72_000, "in 60 min to 20 h"),
        (6_660, 365 * 86_400, "in 111 min or much later"),
        (1_000, 1_001, "in 17 min"),
    ],
)
def test_an_upper_end_that_says_nothing_is_left_out(low_s: float, high_s: float, text: str) -> None:
    assert span(low_s, high_s) == text


def test_factors_beyond_a_thousand_are_not_told_apart() -> None:
    assert [factor(off) for off in (1.04, 12.34, 1_000, 1_001, 1_800_005)] == [
        *("x1.0", "x12.3", "x1000.0", ">x1000", ">x1000"),
    ]
