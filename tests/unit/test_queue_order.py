"""The delay that a task can afford: by head start, by effort, with strict priority."""

from __future__ import annotations

from itertools import pairwise

import pytest

from balancer.core.model import Priority
from balancer.core.queue_order import MOST_DELAY_US, Queue, QueueOrder
from balancer.core.settings import HeadStart, PoolSettings, PriorityWeight

HOUR_MS, HOUR_US = 3_600_000, 3_600_000_000


@pytest.mark.parametrize(
    ("priority", "delay_us"),
    [("critical", -3_600_000_000), ("high", -600_000_000), ("medium", -60_000_000), ("low", 0)],
)
def test_by_head_start_the_estimate_does_not_count(priority: str, delay_us: int) -> None:
    order = QueueOrder.of(PoolSettings(), Queue.HEAD_START)

    assert order.delay_us(Priority(priority), 1) == delay_us
    assert order.delay_us(Priority(priority), HOUR_MS) == delay_us


@pytest.mark.parametrize(("priority", "weight"), [("critical", 8), ("high", 4), ("low", 1)])
def test_by_effort_it_is_the_effort_for_its_weight(priority: str, weight: int) -> None:
    order = QueueOrder.of(PoolSettings(ageing=0.5), Queue.EFFORT)

    assert order.delay_us(Priority(priority), HOUR_MS) == HOUR_US / (weight * 0.5)


def test_no_delay_is_longer_than_ten_years() -> None:
    settings = PoolSettings(ageing=0.001, priority_weight=PriorityWeight(low=0.001))
    order = QueueOrder.of(settings, Queue.EFFORT)

    assert order.delay_us(Priority.LOW, 10**12) == MOST_DELAY_US


@pytest.mark.parametrize("queue", list(Queue))
def test_strict_priority_beats_whatever_the_delays_are(queue: Queue) -> None:
    """A least urgent task that could not wait less, against a more urgent one that came 60 years later."""
    settings = PoolSettings(
        strict_priority=True,
        ageing=0.001,
        head_start_s=HeadStart(critical=0, high=0, medium=0, low=86_400),
        priority_weight=PriorityWeight(critical=0.001, high=0.001, medium=0.001, low=1_000),
    )
    order = QueueOrder.of(settings, queue)
    years_us = 60 * 365 * 86_400_000_000
    ranked = list(Priority)

    for urgent, less in pairwise(ranked):
        assert years_us + order.delay_us(urgent, 10**12) < order.delay_us(less, 1)


def test_a_score_stays_within_what_is_exact() -> None:
    for queue in Queue:
        order = QueueOrder.of(PoolSettings(strict_priority=True), queue)
        for priority in Priority:
            for now_us in (0, 2**53 - 1 - MOST_DELAY_US):
                assert abs(now_us + order.delay_us(priority, 10**12)) < 2**53


def test_packed_keeps_every_digit() -> None:
    settings = PoolSettings(ageing=0.1, priority_weight=PriorityWeight(high=0.3))

    assert QueueOrder.of(settings, Queue.EFFORT).packed() == "effort|0|0.8|0.03|0.2|0.1"
    assert (
        QueueOrder.of(PoolSettings(strict_priority=True), Queue.HEAD_START).packed()
        == "head_start|1|3600000000|600000000|60000000|0"
    )
