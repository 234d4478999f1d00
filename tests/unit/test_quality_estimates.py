from __future__ import annotations

import random
from dataclasses import replace

import pytest

from balancer.core.settings import PoolSettings
from balancer.simulate.cast import task_of
from balancer.simulate.trace import Trace, load_trace
from balancer.trace import SHIPPED
from benchmarks.quality_estimates import Ladder, online_correlation
from tests.support.simulated import task, trace


def _told_by(**known: list[str]) -> Trace:
    """Tasks whose duration follows from one field alone, up to a tenth."""
    rng = random.Random(3)
    ((field, values),) = known.items()
    rows = []
    for i in range(400):
        place = rng.randrange(len(values))
        row = task(i, 10 * 3**place * rng.uniform(0.9, 1.1))
        rows.append(replace(row, **{field: values[place]}))  # type: ignore[arg-type]
    return trace(*rows)


@pytest.mark.parametrize(
    "known",
    [
        {"category": ["fix", "feat", "docs", "test"]},
        {"group": ["repo1", "repo2", "repo 3", "größer"]},
        {"features": ["sp=1", "sp=2", "sp=5", "sp=40"]},
        {"role": ["a", "b", "c", "d"]},
    ],
    ids=lambda known: next(iter(known)),
)
def test_what_tells_durations_is_found(known: dict[str, list[str]]) -> None:
    assert online_correlation(_told_by(**known)) > 0.9


def test_what_tells_nothing_foretells_nothing() -> None:
    rng = random.Random(4)
    made = trace(*(task(i, rng.uniform(1, 100)) for i in range(2_000)))

    assert abs(online_correlation(made)) < 0.1


def test_duration_of_a_task_is_no_part_of_its_own_estimate() -> None:
    ladder = Ladder(PoolSettings())
    first = task_of(trace(task(0, 5)).rows[0])
    prior = ladder.estimate(first)

    ladder.learn(first, 5_000)
    after = ladder.estimate(first)

    assert prior.n == 0
    assert prior.mean_ms == prior.prior_ms
    assert after.n == 1
    assert 5_000 < after.mean_ms < prior.mean_ms


def test_shipped_trace_is_foretold_well_enough() -> None:
    assert online_correlation(load_trace(SHIPPED)) >= 0.4
