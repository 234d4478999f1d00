"""What bounds the work that may come in: a role's queue, Redis' memory. Work that is in is never refused."""

from __future__ import annotations

import pytest
import redis

from balancer.core.settings import PoolSettings, RoleSettings
from balancer.ledger import Pool
from balancer.ledger import submit as submits
from balancer.ledger.cancel import cancel
from balancer.ledger.due import due
from balancer.ledger.reclaim import reclaim
from balancer.ledger.submit import QueueState
from balancer.ledger.tick import Memory, tick
from tests.support.factories import (
    NOW_MS,
    Clock,
    assign,
    beat,
    changes,
    complete,
    later,
    make_task,
    submit,
)

FULL = Memory(900, 1_000)


@pytest.fixture
def small(redis_client: redis.Redis, clock: Clock) -> Pool:
    """A virtual pool whose role dev takes 3 waiting tasks, every other one 2."""
    settings = PoolSettings(max_pending=2, roles={"dev": RoleSettings(max_pending=3)})
    return Pool.create(redis_client, "p", settings, clock=clock)


def test_queue_takes_its_bound_and_no_more(small: Pool, clock: Clock) -> None:
    assert submit(small, *(f"t{n}" for n in range(5))) == ["accepted"] * 3 + ["queue_full"] * 2
    clock.advance(6)

    for _ in range(2):
        with changes(small) as seen:
            (answer,) = submits.submit(small, [make_task("t4")])
        assert answer == ("t4", "queue_full", "3 3 6000 2000")
        assert seen.nothing
    assert QueueState.read(answer.detail) == (3, 3, 6.0, 2.0)


def test_each_role_has_its_own_bound(small: Pool) -> None:
    submit(small, "t0", "t1", "t2")

    ops = [make_task(f"o{n}", role="ops") for n in range(3)]
    assert submit(small, *ops, "t3") == ["accepted", "accepted", "queue_full", "queue_full"]


def test_bound_counts_all_that_waits_and_nothing_else(small: Pool) -> None:
    """Scheduled, blocked, pending and failed count; assigned and ended do not."""
    submit(small, "p", make_task("once", max_failures=1), "again")
    beat(small, max_concurrent=9)
    for task in ("p", "once", "again"):
        assign(small, task)
    complete(small, "once", "failed")
    complete(small, "again", "failed")

    submit(small, make_task("s", not_before=later(9)), make_task("b", depends_on=("p",)))

    (answer,) = submits.submit(small, [make_task("t1")])
    assert answer.detail.startswith("3 3 ")
    complete(small, "p")
    assert submit(small, "t1") == ["queue_full"]
    cancel(small, ["s"])
    assert submit(small, "t1", "t2") == ["accepted", "queue_full"]


def test_duplicates_are_answered_before_the_bound_is_looked_at(small: Pool) -> None:
    first = make_task("t1", dedup_key="k")
    submit(small, first, "t2", "t3")

    with changes(small) as seen:
        answers = submits.submit(
            small, [first, make_task("t2", cost=2), make_task("t9", dedup_key="k")]
        )

    assert [(a.task_id, a.outcome) for a in answers] == [
        ("t1", "duplicate"),
        ("t2", "conflict"),
        ("t1", "duplicate"),
    ]
    assert seen.nothing


def test_work_that_comes_back_is_never_refused(small: Pool, clock: Clock) -> None:
    submit(small, "t1", "t2", "t3")
    beat(small, max_concurrent=9)
    for task in ("t1", "t2", "t3"):
        assign(small, task)
    assert submit(small, "u1", "u2", "u3", "u4") == ["accepted"] * 3 + ["queue_full"]

    complete(small, "t1", "failed")
    clock.advance(5)
    assert due(small).moved == 1
    beat(small, "a2")
    clock.advance(20)
    beat(small, "a2")
    assert reclaim(small, "a1").requeued == 2

    assert small.client.zcard(small.keys.pending("dev")) == 6
    (answer,) = submits.submit(small, [make_task("u4")])
    assert answer.detail.startswith("6 3 ")


@pytest.mark.parametrize(
    ("limit", "age_s", "retry_ms"),
    [(2, 0, 100), (2, 0.3, 150), (2, 60, 30_000), (2, 3_600, 60_000), (1_000, 100, 1_000)],
)
def test_time_to_wait_follows_the_pace_of_the_queue(
    redis_client: redis.Redis, clock: Clock, limit: int, age_s: float, retry_ms: int
) -> None:
    """A hundredth of the limit, at least one, at one task for each `age of the oldest / depth`."""
    pool = Pool.create(redis_client, "p", PoolSettings(max_pending=limit), clock=clock)
    submit(pool, *(f"t{n}" for n in range(limit)))
    clock.advance(age_s)

    (answer,) = submits.submit(pool, [make_task("more")])

    assert answer.detail == f"{limit} {limit} {round(age_s * 1000)} {retry_ms}"


def test_full_of_what_is_not_ready_says_a_second(small: Pool) -> None:
    submit(small, *(make_task(f"t{n}", not_before=later(9)) for n in range(3)))

    assert submits.submit(small, [make_task("t4")])[0].detail == "3 3 0 1000"


# --- memory


def test_memory_above_its_share_refuses_new_work(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task("t1", dedup_key="k"))
    assert tick(virtual_pool, memory=FULL).memory_full

    for _ in range(2):
        with changes(virtual_pool) as seen:
            answers = submits.submit(
                virtual_pool,
                [make_task("t2"), make_task("t1"), make_task("t3", dedup_key="k")],
            )
        assert answers == [
            ("t2", "redis_full", ""),
            ("t1", "duplicate", "pending"),
            ("t1", "duplicate", "pending"),
        ]
        assert seen.nothing
    assert not tick(virtual_pool, memory=Memory(500, 1_000)).memory_full
    assert submit(virtual_pool, "t2") == ["accepted"]


def test_work_goes_on_when_memory_is_full(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, "t1", "t2", make_task("child", depends_on=("t2",)))
    beat(virtual_pool, max_concurrent=2)
    tick(virtual_pool, memory=FULL)

    assign(virtual_pool, "t1")
    assign(virtual_pool, "t2")
    assert complete(virtual_pool, "t1", "failed") == "retry"
    assert complete(virtual_pool, "t2") == "ok"
    clock.advance(5)
    assert due(virtual_pool).moved == 1


def test_memory_is_judged_in_one_place_and_does_not_flap(virtual_pool: Pool) -> None:
    """From the mark on it is full, and until a twentieth of the whole below it, whoever looks."""
    seen = []
    for used in (0, 849, 850, 849, 801, 900, 801, 800, 801, 849, 850):
        with changes(virtual_pool) as changed:
            seen.append(tick(virtual_pool, memory=Memory(used, 1_000)).memory_full)
        kept = {key for key in changed.state if key != "meta last_tick_ms"}
        if len(seen) > 1 and seen[-1] == seen[-2]:
            assert (kept, changed.events) == (set(), [])
    assert seen == [False, False, True, True, True, True, True, False, False, False, True]


def test_change_of_the_verdict_is_written_once_and_told(virtual_pool: Pool) -> None:
    tick(virtual_pool)
    with changes(virtual_pool) as seen:
        tick(virtual_pool, memory=FULL)
        tick(virtual_pool, memory=FULL)
    assert seen.state == {"meta memory_full": str(NOW_MS)}
    assert seen.events == [("memory_full", "", "", "900 of 1000")]

    with changes(virtual_pool) as seen:
        tick(virtual_pool)
    assert seen.state == {"meta memory_full": "gone"}
    assert seen.events == [("memory_freed", "", "", "0 of 0")]


def test_share_is_a_setting(redis_client: redis.Redis, clock: Clock) -> None:
    pool = Pool.create(redis_client, "p", PoolSettings(memory_high_share=0.5), clock=clock)

    assert not tick(pool, memory=Memory(499, 1_000)).memory_full
    assert tick(pool, memory=Memory(500, 1_000)).memory_full
    assert not tick(pool, memory=Memory(450, 1_000)).memory_full
