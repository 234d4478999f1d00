"""The script `due`: tasks whose retry time has come go back into the queue."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from balancer.core.lanes import Lane, lane_definition
from balancer.core.model import Priority
from balancer.ledger import Pool
from balancer.ledger import due as dues
from balancer.ledger.due import due
from balancer.ledger.tick import tick
from tests.support.factories import (
    GONE,
    NOW_US,
    Clock,
    assert_guarded,
    assign,
    beat,
    changes,
    commit,
    complete,
    completion_entry,
    fields,
    later,
    make_task,
    populate,
    proposal,
    settle,
    submit,
)

LANE, _ = lane_definition(Lane("dev", "general", 1))
#: Where a task is that failed on agent a1.
TRIED, _ = lane_definition(Lane("dev", "general", 1, tried=("a1",)))


@pytest.fixture
def failed(virtual_pool: Pool) -> Pool:
    """t1 has failed once and is due in five seconds."""
    submit(virtual_pool, make_task(priority=Priority.HIGH))
    beat(virtual_pool)
    assign(virtual_pool)
    assert complete(virtual_pool, status="failed") == "retry"
    virtual_pool.client.delete(virtual_pool.keys.wake)
    return virtual_pool


def test_due_retry_is_pending_since_its_retry_time(failed: Pool, clock: Clock) -> None:
    """However late this runs: the place does not depend on it."""
    clock.advance(60)

    with changes(failed) as seen:
        assert due(failed) == (1, False)

    ready = NOW_US + 5_000_000
    order = ready - 600_000_000
    assert seen.state == {
        **fields("task:t1", state="pending", ready_us=str(ready), order_us=str(order)),
        "failed t1": GONE,
        "pending:dev t1": ready,
        f"lane:{TRIED} t1": order,
        f"lanes:dev {TRIED}": order,
        "wake": ["1"],
    }
    assert seen.events == [("ready", "t1", "", "retry")]
    with changes(failed) as again:
        assert due(failed) == (0, False)
    assert again.nothing


@pytest.mark.parametrize(("after_s", "moved"), [(4.999_999, 0), (5, 1)])
def test_retry_is_due_at_its_time(failed: Pool, clock: Clock, after_s: float, moved: int) -> None:
    clock.advance(after_s)

    assert due(failed).moved == moved


def test_retries_go_page_by_page(virtual_pool: Pool, clock: Clock) -> None:
    names = [f"t{n}" for n in range(250)]
    submit(virtual_pool, *names)
    beat(virtual_pool, max_concurrent=1_000)
    for at in range(0, 250, 50):
        page = names[at : at + 50]
        assert set(commit(virtual_pool, *(proposal(name) for name in page))) == {"assigned"}
        settle(virtual_pool, *(completion_entry(virtual_pool, name, "failed") for name in page))
    clock.advance(5)

    assert due(virtual_pool) == (100, True)
    assert due(virtual_pool) == (100, True)
    assert due(virtual_pool) == (50, False)
    assert virtual_pool.client.zcard(virtual_pool.keys.pending("dev")) == 250


def test_due_runs_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    submit(pool, "t1")
    beat(pool)
    assign(pool)
    complete(pool, status="failed")
    pool.client.zadd(pool.keys.failed, {"t1": NOW_US})

    with out_of_memory():
        assert due(pool) == (1, False)


def test_due_on_a_pool_that_is_not_ours_writes_nothing(failed: Pool, clock: Clock) -> None:
    clock.advance(60)
    assert_guarded(failed, dues.SCRIPT, [])


def test_due_on_a_real_pool_with_a_time_of_the_callers_writes_nothing(pool: Pool) -> None:
    populate(pool)
    assert_guarded(pool, dues.SCRIPT, [])


# --- tasks of the future


@pytest.mark.parametrize(("after_s", "moved"), [(4.999_999, 0), (5, 1)])
def test_scheduled_task_is_pending_since_its_time(
    virtual_pool: Pool, clock: Clock, after_s: float, moved: int
) -> None:
    submit(virtual_pool, make_task(not_before=later(5)))
    clock.advance(after_s)
    assert tick(virtual_pool).tries_due == bool(moved)

    assert due(virtual_pool) == (moved, False)


def test_scheduled_task_takes_its_place_however_late_this_runs(
    virtual_pool: Pool, clock: Clock
) -> None:
    submit(virtual_pool, make_task(not_before=later(5), priority=Priority.HIGH))
    clock.advance(60)

    with changes(virtual_pool) as seen:
        assert due(virtual_pool) == (1, False)

    ready = NOW_US + 5_000_000
    order = ready - 600_000_000
    assert seen.state == {
        **fields("task:t1", state="pending", ready_us=str(ready), order_us=str(order)),
        "scheduled t1": GONE,
        "pending:dev t1": ready,
        f"lane:{LANE} t1": order,
        f"lanes:dev {LANE}": order,
        "role:dev scheduled": "0",
        "pool scheduled": "0",
        "wake": ["1"],
    }
    assert seen.events == [("ready", "t1", "", "time")]
    with changes(virtual_pool) as again:
        assert due(virtual_pool) == (0, False)
    assert again.nothing


def test_retries_and_scheduled_tasks_share_a_page(failed: Pool, clock: Clock) -> None:
    submit(failed, *(make_task(f"s{n}", not_before=later(5)) for n in range(150)))
    clock.advance(5)

    assert due(failed) == (100, True)
    assert failed.client.zscore(failed.keys.pending("dev"), "t1")
    assert due(failed) == (51, False)
    assert failed.client.hget(failed.keys.role("dev"), "scheduled") == "0"


def test_scheduled_task_becomes_pending_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    submit(pool, make_task(not_before=later(3e8)))
    pool.client.zadd(pool.keys.scheduled, {"t1": NOW_US})

    with out_of_memory():
        assert due(pool) == (1, False)
