"""How much an agent's silence says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.health import health


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [
        (-1, 1),
        (0, 1),
        (7.499, 1),
        (7.5, 0.8),
        (9.999, 0.8),
        (10, 0.5),
        (14.999, 0.5),
        (15, 0.2),
        (1e9, 0.2),
    ],
)
def test_health_falls_at_one_and_a_half_intervals_two_thirds_of_the_ttl_and_the_ttl(
    age_s: float, expected: float
) -> None:
    assert health(age_s * 1000, 5_000, 15_000) == expected


@pytest.mark.parametrize("ttl_min", [15, 60, 7 * 24 * 60])
@pytest.mark.parametrize(
    ("age_min", "expected"),
    [(0, 1), (0.999, 1), (1, 0.8), (4.999, 0.8), (5, 0.5), (14.999, 0.5), (15, 0.2)],
)
def test_long_ttl_is_judged_by_one_five_and_fifteen_minutes(
    ttl_min: int, age_min: float, expected: float
) -> None:
    assert health(age_min * 60_000, 300_000, ttl_min * 60_000) == expected


@given(
    st.floats(0, 1e9),
    st.floats(0, 1e9),
    st.integers(100, 86_400_000),
    st.integers(300, 604_800_000),
)
def test_longer_silence_is_never_healthier(
    one: float, other: float, interval_ms: int, ttl_ms: int
) -> None:
    younger, older = sorted((one, other))

    assert 1 >= health(younger, interval_ms, ttl_ms) >= health(older, interval_ms, ttl_ms) >= 0
