"""The script `expire`: tasks that have waited beyond their time are dead; what an agent holds goes on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from balancer.core.lanes import Lane, lane_definition
from balancer.ledger import Pool
from balancer.ledger import expire as expires
from balancer.ledger.audit import audit
from balancer.ledger.cancel import cancel
from balancer.ledger.due import due
from balancer.ledger.expire import expire
from balancer.ledger.reclaim import reclaim
from balancer.ledger.release import release
from balancer.ledger.tick import tick
from balancer.ledger.timeout import timeout
from tests.support.factories import (
    GONE,
    NOW_US,
    Clock,
    assert_guarded,
    assign,
    beat,
    changes,
    complete,
    fields,
    later,
    make_task,
    populate,
    submit,
)

LANE, _ = lane_definition(Lane("dev", "general", 1))
#: Where a task is that failed on agent a1.
TRIED, _ = lane_definition(Lane("dev", "general", 1, tried=("a1",)))
#: Where each waiting state keeps the task t1, and what it must hold no more.
WAITS: dict[str, dict[str, Any]] = {
    "pending": {"pending:dev t1": GONE, f"lane:{LANE} t1": GONE, f"lanes:dev {LANE}": GONE},
    "scheduled": {"scheduled t1": GONE},
    "blocked": {"blocked t1": GONE},
    "failed": {"failed t1": GONE},
}


def waiting(pool: Pool, state: str, **asks: Any) -> None:
    """Bring t1 into a waiting state, alone in its role but for a parent of another one."""
    submit(pool, make_task("p1", role="ops"))
    beat(pool)
    match state:
        case "scheduled":
            submit(pool, make_task(not_before=later(2), **asks))
        case "blocked":
            submit(pool, make_task(depends_on=("p1",), **asks))
        case _:
            submit(pool, make_task(**asks))
    if state == "failed":
        assign(pool)
        complete(pool, status="failed")


@pytest.mark.parametrize("state", WAITS)
def test_task_that_waits_beyond_its_time_is_dead(
    virtual_pool: Pool, clock: Clock, state: str
) -> None:
    waiting(virtual_pool, state, expires_at=later(3))
    clock.advance(3)

    with changes(virtual_pool) as seen:
        assert expire(virtual_pool) == (1, False)

    ended = NOW_US + 3_000_000
    lane = TRIED if state == "failed" else LANE
    counts = {"dead": "1", "dropped": "1"} | ({"scheduled": "0"} if state == "scheduled" else {})
    assert seen.state == WAITS[state] | {
        **fields("task:t1", state="dead", reason="expired", ended_us=str(ended), took_ms="0"),
        "expiry t1": GONE,
        "dead t1": ended,
        f"laneref {lane}": GONE,
        f"lanedef {lane}": GONE,
        **fields("role:dev", **counts),
        **fields("pool", **counts),
    }
    assert seen.events == [("dead", "t1", "", "expired")]
    with changes(virtual_pool) as again:
        assert expire(virtual_pool) == (0, False)
    assert again.nothing


@pytest.mark.parametrize(("after_s", "expired"), [(2.999_999, 0), (3, 1)])
@pytest.mark.parametrize("asks", [{"expires_at": later(3)}, {"max_wait_s": 3}])
def test_task_expires_at_its_moment(
    virtual_pool: Pool, clock: Clock, asks: dict[str, Any], after_s: float, expired: int
) -> None:
    submit(virtual_pool, make_task(**asks))
    clock.advance(after_s)

    assert tick(virtual_pool).expiry_due == bool(expired)
    assert expire(virtual_pool).expired == expired


def test_task_that_an_agent_holds_goes_on(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, make_task(expires_at=later(3), max_wait_s=2))
    beat(virtual_pool)
    assign(virtual_pool)
    clock.advance(60)

    with changes(virtual_pool) as seen:
        assert expire(virtual_pool) == (0, False)

    assert seen.nothing
    assert complete(virtual_pool) == "ok"


def _fail(pool: Pool, clock: Clock) -> None:
    clock.advance(4)
    assert complete(pool, status="failed") == "retry"


def _lose(pool: Pool, clock: Clock) -> None:
    clock.advance(20)
    beat(pool, "a2")
    assert reclaim(pool, "a1").requeued == 1


def _time_out(pool: Pool, clock: Clock) -> None:
    clock.advance(60)
    assert timeout(pool, 0).retry == 1


@pytest.mark.parametrize("comes_back", [_fail, _lose, _time_out])
def test_task_that_comes_back_after_its_moment_expires_then(
    virtual_pool: Pool, clock: Clock, comes_back: Callable[[Pool, Clock], None]
) -> None:
    submit(virtual_pool, make_task(expires_at=later(3), run_timeout_s=30))
    beat(virtual_pool)
    assign(virtual_pool)

    comes_back(virtual_pool, clock)

    assert virtual_pool.client.zscore(virtual_pool.keys.expiry, "t1") == NOW_US + 3_000_000
    assert expire(virtual_pool) == (1, False)
    task = virtual_pool.client.hgetall(virtual_pool.keys.task("t1"))
    assert (task["state"], task["reason"]) == ("dead", "expired")


@pytest.mark.parametrize("comes_back", [_fail, _lose, _time_out])
def test_longest_wait_is_over_with_the_first_grant(
    virtual_pool: Pool, clock: Clock, comes_back: Callable[[Pool, Clock], None]
) -> None:
    submit(virtual_pool, make_task(max_wait_s=3, run_timeout_s=30))
    beat(virtual_pool)
    assign(virtual_pool)
    comes_back(virtual_pool, clock)
    clock.advance(600)
    due(virtual_pool)

    assert expire(virtual_pool) == (0, False)
    assert virtual_pool.client.zscore(virtual_pool.keys.pending("dev"), "t1")


def test_longest_wait_begins_when_a_task_becomes_ready(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, "p1")
    submit(virtual_pool, make_task("child", depends_on=("p1",), max_wait_s=3))
    submit(virtual_pool, make_task("later", not_before=later(60), max_wait_s=3))
    beat(virtual_pool)
    assign(virtual_pool, "p1")
    clock.advance(60)
    complete(virtual_pool, "p1")
    assert expire(virtual_pool) == (0, False)

    release(virtual_pool)
    due(virtual_pool)

    keys, client = virtual_pool.keys, virtual_pool.client
    assert client.zscore(keys.expiry, "later") == NOW_US + 63_000_000
    assert client.zscore(keys.expiry, "child") == NOW_US + 63_000_000
    clock.advance(3)
    assert expire(virtual_pool) == (2, False)


def test_children_of_an_expired_task_learn_it(virtual_pool: Pool, clock: Clock) -> None:
    submit(
        virtual_pool,
        make_task("p1", expires_at=later(3)),
        make_task("child", depends_on=("p1",)),
    )
    clock.advance(3)

    assert expire(virtual_pool) == (1, False)

    assert tick(virtual_pool).release_due
    assert release(virtual_pool) == (0, 1, 0, False)


def test_cancelled_task_does_not_expire(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, make_task(expires_at=later(3)))

    with changes(virtual_pool) as seen:
        cancel(virtual_pool, ["t1"])

    assert seen.state["expiry t1"] == GONE
    clock.advance(9)
    assert expire(virtual_pool) == (0, False)


def test_tasks_expire_page_by_page(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, *(make_task(f"t{n}", max_wait_s=1) for n in range(250)))
    submit(virtual_pool, "stays")
    clock.advance(2)

    assert expire(virtual_pool) == (200, True)
    assert audit(virtual_pool).violations == []
    assert expire(virtual_pool) == (50, False)
    assert virtual_pool.client.zrange(virtual_pool.keys.pending("dev"), 0, -1) == ["stays"]


@pytest.mark.damaged
def test_entry_of_a_task_that_is_gone_is_dropped(virtual_pool: Pool) -> None:
    virtual_pool.client.zadd(virtual_pool.keys.expiry, {"nobody": NOW_US})

    with changes(virtual_pool) as seen:
        assert expire(virtual_pool) == (0, False)

    assert seen.state == {"expiry nobody": GONE}


def test_expire_runs_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    submit(pool, make_task(expires_at=later(3e8)))
    pool.client.zadd(pool.keys.expiry, {"t1": 1})

    with out_of_memory():
        assert expire(pool) == (1, False)


def test_expire_on_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, make_task(expires_at=later(3)))
    clock.advance(60)
    assert_guarded(virtual_pool, expires.SCRIPT, [])


def test_expire_on_a_real_pool_with_a_time_of_the_callers_writes_nothing(pool: Pool) -> None:
    populate(pool)
    assert_guarded(pool, expires.SCRIPT, [])
