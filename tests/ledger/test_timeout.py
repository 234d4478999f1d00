"""The script `timeout`: tries that run too long have failed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from balancer.core.lanes import AgentClass, Lane, class_definition, lane_definition
from balancer.ledger import Pool
from balancer.ledger import timeout as timeouts
from balancer.ledger.backoff import WHOLE
from balancer.ledger.timeout import timeout
from tests.support.factories import (
    GONE,
    NOW_MS,
    NOW_US,
    Clock,
    assert_bad_argument,
    assert_guarded,
    assign,
    beat,
    changes,
    commit,
    complete,
    entries,
    fields,
    make_task,
    populate,
    proposal,
    submit,
    tried,
)

LANE, _ = lane_definition(Lane("dev", "general", 1))
CLASS, _ = class_definition(AgentClass("dev", (), 1))


@pytest.fixture
def overdue(virtual_pool: Pool, clock: Clock) -> Pool:
    """a1 works on t1, which may run for ten seconds; its grace has just passed."""
    submit(virtual_pool, make_task(max_failures=2, run_timeout_s=10))
    beat(virtual_pool)
    assign(virtual_pool)
    virtual_pool.client.delete(virtual_pool.keys.wake)
    clock.advance(15)
    return virtual_pool


def freed(pool: Pool) -> dict[str, object]:
    ((inbox, _),) = entries(pool, pool.keys.inbox("a1"))
    nonce = pool.client.hget(pool.keys.task("t1"), "nonce")
    return {
        **fields("agent:a1", used="0", n="0", freed_us=str(NOW_US + 15_000_000)),
        f"held:a1 {nonce}": GONE,
        f"inbox:a1 {inbox}": GONE,
        "leases t1": GONE,
        f"free:{CLASS} a1": NOW_MS + 15_000,
        f"fc:dev {CLASS}": 1,
        "wake": ["1"],
    }


def test_overdue_try_has_failed_and_will_be_tried_again(overdue: Pool) -> None:
    expected = freed(overdue)

    with changes(overdue) as seen:
        assert timeout(overdue, draw=WHOLE) == (1, 0, 0, False)

    assert seen.state == expected | {
        **fields("task:t1", state="failed", close="revoked", failures="1", reason="timeout"),
        "failed t1": NOW_US + 20_000_000,
        "hist:t1": [f"a1 {NOW_US} {NOW_US + 15_000_000} timeout"],
        **fields("role:dev", used="0", running="0", failed_attempts="1", returned="1"),
        **fields("pool", used="0", running="0", failed_attempts="1", returned="1"),
        **tried("a1"),
    }
    assert seen.events == [("failed", "t1", "a1", "timeout")]
    with changes(overdue) as again:
        assert timeout(overdue, draw=WHOLE) == (0, 0, 0, False)
    assert again.nothing


def test_overdue_last_try_is_the_end(overdue: Pool) -> None:
    overdue.client.hset(overdue.keys.task("t1"), "failures", 1)
    expected = freed(overdue)

    with changes(overdue) as seen:
        assert timeout(overdue, draw=WHOLE) == (0, 1, 0, False)

    assert seen.state == expected | {
        **fields(
            "task:t1",
            state="dead",
            close="revoked",
            failures="2",
            reason="timeout",
            took_ms="15000",
        ),
        "task:t1 ended_us": str(NOW_US + 15_000_000),
        "dead t1": NOW_US + 15_000_000,
        "hist:t1": [f"a1 {NOW_US} {NOW_US + 15_000_000} timeout"],
        f"lanedef {LANE}": GONE,
        f"laneref {LANE}": GONE,
        **fields("role:dev", used="0", running="0", failed_attempts="1", dead="1"),
        **fields("pool", used="0", running="0", failed_attempts="1", dead="1"),
    }


def test_try_within_its_grace_is_left_to_its_agent(overdue: Pool, clock: Clock) -> None:
    clock.advance(-0.000001)

    with changes(overdue) as seen:
        assert timeout(overdue, draw=WHOLE) == (0, 0, 0, False)

    assert seen.nothing
    assert complete(overdue, status="failed") == "retry"


def test_longest_timeout_late_in_the_centuries_keeps_every_digit(
    virtual_pool: Pool, clock: Clock
) -> None:
    clock.now_us = 8_000_000_000_000_001
    submit(virtual_pool, make_task(run_timeout_s=30 * 86_400))
    beat(virtual_pool)
    assign(virtual_pool)

    due_us = 8_000_000_000_000_001 + 30 * 86_400 * 1_000_000
    assert virtual_pool.client.zscore(virtual_pool.keys.leases, "t1") == due_us
    clock.now_us = due_us + 5_000_000 - 1
    assert timeout(virtual_pool).retry == 0
    clock.advance(0.000001)
    assert timeout(virtual_pool).retry == 1


def test_timeouts_go_page_by_page(virtual_pool: Pool, clock: Clock) -> None:
    names = [f"t{n}" for n in range(250)]
    submit(
        virtual_pool,
        *(make_task(name, run_timeout_s=1, max_failures=1 + n % 2) for n, name in enumerate(names)),
    )
    beat(virtual_pool, max_concurrent=1_000)
    for at in (0, 128):
        commit(virtual_pool, *(proposal(name) for name in names[at : at + 128]))
    clock.advance(10)

    pages = [timeout(virtual_pool) for _ in range(6)]
    assert [page.retry + page.dead for page in pages] == [50] * 5 + [0]
    assert [page.more for page in pages] == [True] * 5 + [False]
    assert sum(page.retry for page in pages) == sum(page.dead for page in pages) == 125
    assert virtual_pool.client.hget(virtual_pool.keys.pool, "used") == "0"


def test_timeout_runs_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    submit(pool, "t1", make_task("t2", max_failures=1))
    beat(pool, max_concurrent=2)
    assign(pool, "t1")
    assign(pool, "t2")
    due = {
        id_: int(pool.client.hget(pool.keys.task(id_), "granted_us") or 0) for id_ in ("t1", "t2")
    }
    pool.client.zadd(pool.keys.leases, due)

    with out_of_memory():
        assert timeout(pool, grace_ms=0) == (1, 1, 0, False)
        assert timeout(pool, grace_ms=0) == (0, 0, 0, False)


def test_timeout_on_a_pool_that_is_not_ours_writes_nothing(overdue: Pool) -> None:
    assert_guarded(overdue, timeouts.SCRIPT, [1, 1, 1, 0])


def test_timeout_on_a_real_pool_with_a_time_of_the_callers_writes_nothing(pool: Pool) -> None:
    populate(pool)
    assert_guarded(pool, timeouts.SCRIPT, [1, 1, 1, 0])


@pytest.mark.parametrize(
    "args",
    [
        [],
        [1, 1, 1],
        ["nan", 1, 1, 0],
        [-1, 1, 1, 0],
        [86_400_000_001, 1, 1, 0],
        ["0x10", 1, 1, 0],
        [1, "nan", 1, 0],
        [1, -1, 1, 0],
        [1, 1, "nan", 0],
        [1, 1, 1_000_001, 0],
        [1, 1, 1, "x"],
        [1, 1, 1, "1.5"],
        [1, 1, 1, -1],
        [1, 1, 1, 86_400_001],
    ],
)
def test_timeout_with_a_bad_argument_writes_nothing(overdue: Pool, args: list[object]) -> None:
    assert_bad_argument(overdue, timeouts.SCRIPT, args)


def test_nobody_times_out_during_a_grace_period(virtual_pool: Pool, clock: Clock) -> None:
    """After an outage the completions that were sent in time may not have been read yet."""
    submit(virtual_pool, make_task(run_timeout_s=1))
    beat(virtual_pool)
    assign(virtual_pool)
    clock.advance(3_600)
    meta = virtual_pool.keys.meta
    grace_until_ms = clock.now_us // 1000 + 10_000
    virtual_pool.client.hset(meta, "grace_until_ms", grace_until_ms)

    with changes(virtual_pool) as seen:
        assert timeout(virtual_pool) == (0, 0, 0, False)

    assert seen.nothing
    clock.advance(10)
    assert timeout(virtual_pool) == (1, 0, 0, False)
