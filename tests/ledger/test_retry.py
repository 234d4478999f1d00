"""The script `retry`: dead tasks get a new life."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.core.lanes import Lane, lane_definition
from balancer.ledger import Pool
from balancer.ledger import retry as retries
from balancer.ledger.cancel import cancel
from balancer.ledger.expire import expire
from balancer.ledger.reclaim import reclaim
from balancer.ledger.release import release
from balancer.ledger.retry import retry
from tests.support.factories import (
    GONE,
    NOW_US,
    Clock,
    assert_bad_argument,
    assert_guarded,
    assign,
    beat,
    changes,
    complete,
    drain,
    later,
    make_task,
    populate,
    submit,
)

LANE, DEFINITION = lane_definition(Lane("dev", "general", 1))


def task(pool: Pool, id_: str = "t1") -> dict[str, str]:
    return dict(pool.client.hgetall(pool.keys.task(id_)))


def die(pool: Pool, id_: str = "t1") -> None:
    """a1 fails the task for good."""
    beat(pool, max_concurrent=9)
    assign(pool, id_)
    assert complete(pool, id_, "failed", error="no luck") == "dead"


def test_a_dead_task_gets_a_new_life(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, make_task(max_failures=1))
    die(virtual_pool)
    virtual_pool.client.hset(virtual_pool.keys.task("t1"), "losses", 2)
    virtual_pool.client.delete(virtual_pool.keys.wake)
    clock.advance(10)
    ready = NOW_US + 10_000_000

    with changes(virtual_pool) as seen:
        assert retry(virtual_pool, ["t1"]) == [("retried", "dead")]

    assert seen.state == {
        "task:t1 state": "pending",
        "task:t1 ready_us": str(ready),
        "task:t1 order_us": str(ready - 60_000_000),
        **{f"task:t1 {field}": GONE for field in ("failures", "losses", "ended_us", "reason", "took_ms")},
        "dead t1": GONE,
        "pending:dev t1": ready,
        f"lane:{LANE} t1": ready - 60_000_000,
        f"lanes:dev {LANE}": ready - 60_000_000,
        f"lanedef {LANE}": DEFINITION,
        f"laneref {LANE}": "1",
        "role:dev retried": "1",
        "role:dev returned": "1",
        "pool retried": "1",
        "pool returned": "1",
        "meta clock_us": str(ready),
        "wake": ["1"],
    }  # fmt: skip
    assert seen.events == [("retried", "t1", "", "")]
    assert virtual_pool.client.llen(virtual_pool.keys.hist("t1")) == 1


def test_retry_again_changes_nothing(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task(max_failures=1))
    die(virtual_pool)
    retry(virtual_pool, ["t1"])

    with changes(virtual_pool) as seen:
        assert retry(virtual_pool, ["t1", "t1"]) == [("already", "pending")] * 2

    assert seen.nothing


def test_a_retried_task_may_fail_as_often_as_before_and_be_retried_again(
    virtual_pool: Pool,
) -> None:
    submit(virtual_pool, make_task(max_failures=1))
    for _ in range(3):
        die(virtual_pool)
        assert retry(virtual_pool, ["t1"])[0].outcome == "retried"

    assert virtual_pool.client.hmget(virtual_pool.keys.pool, ["dead", "retried"]) == ["3", "3"]
    assert drain(virtual_pool) == {"t1": "a1"}
    assert complete(virtual_pool) == "ok"


def test_what_is_not_dead_is_left_alone(virtual_pool: Pool) -> None:
    populate(virtual_pool)

    with changes(virtual_pool) as seen:
        answers = retry(
            virtual_pool,
            ["pending", "assigned", "failed", "blocked", "completed", "cancelled", "nobody"],
        )

    assert answers == [
        ("already", "pending"),
        ("already", "assigned"),
        ("already", "failed"),
        ("already", "blocked"),
        ("finished", "completed"),
        ("finished", "cancelled"),
        ("unknown", ""),
    ]
    assert seen.nothing


def test_a_task_lost_for_good_is_not_alone_any_more(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")
    for _ in range(3):
        beat(virtual_pool, max_concurrent=4)
        assign(virtual_pool)
        beat(virtual_pool, max_concurrent=4, mode="stopped")
        reclaim(virtual_pool, "a1")
    assert (task(virtual_pool)["reason"], task(virtual_pool)["losses"]) == ("lost", "3")
    assert task(virtual_pool)["lane"] == f"{LANE}+alone"

    retry(virtual_pool, ["t1"])

    assert task(virtual_pool)["lane"] == LANE


def test_children_of_a_retried_parent_that_were_not_told_wait_on(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task(max_failures=1), make_task("child", depends_on=("t1",)))
    die(virtual_pool)
    retry(virtual_pool, ["t1"])
    assert not virtual_pool.client.exists(virtual_pool.keys.release)

    with changes(virtual_pool) as seen:
        assert release(virtual_pool) == (0, 0, 0, False)
    assert seen.nothing
    assign(virtual_pool)
    complete(virtual_pool)

    assert release(virtual_pool) == (1, 0, 0, False)
    assert task(virtual_pool, "child")["state"] == "pending"


def family(pool: Pool, policy: str = "fail") -> None:
    """t1 has died and its child with it; the child waits for `other`, too, which is still there."""
    child = make_task("child", depends_on=("t1", "other"), on_parent_failure=policy)
    submit(pool, make_task(max_failures=1), make_task("other"), child)
    die(pool)
    release(pool)


def test_a_child_of_a_dead_parent_is_not_retried_before_that(virtual_pool: Pool) -> None:
    family(virtual_pool)
    assert task(virtual_pool, "child")["reason"] == "parent_failed"

    with changes(virtual_pool) as seen:
        assert retry(virtual_pool, ["child"]) == [("dead_parent", "dead")]

    assert seen.nothing


def test_a_retried_child_waits_for_those_of_its_parents_that_have_not_completed(
    virtual_pool: Pool,
) -> None:
    family(virtual_pool)
    parents = virtual_pool.keys.parents("child")
    assert virtual_pool.client.smembers(parents) == {"t1", "other"}

    assert retry(virtual_pool, ["t1", "child"]) == [("retried", "dead")] * 2

    assert task(virtual_pool, "child")["state"] == "blocked"
    for parent in ("other", "t1"):
        assert release(virtual_pool).ready == 0
        assert assign(virtual_pool, parent)
        assert complete(virtual_pool, parent) == "ok"
    assert release(virtual_pool) == (1, 0, 0, False)
    assert task(virtual_pool, "child")["state"] == "pending"
    assert not virtual_pool.client.exists(parents, virtual_pool.keys.children("t1"))


def test_a_retried_child_does_not_wait_for_parents_that_completed_after_its_death(
    virtual_pool: Pool,
) -> None:
    family(virtual_pool)
    assign(virtual_pool, "other")
    complete(virtual_pool, "other")
    assert release(virtual_pool) == (0, 0, 0, False)
    retry(virtual_pool, ["t1"])
    assign(virtual_pool)
    complete(virtual_pool)
    assert release(virtual_pool) == (0, 0, 0, False)
    assert task(virtual_pool, "child")["state"] == "dead"

    assert retry(virtual_pool, ["child"]) == [("retried", "dead")]

    assert task(virtual_pool, "child")["state"] == "pending"
    assert not virtual_pool.client.exists(virtual_pool.keys.parents("child"))


def test_a_retried_child_dies_again_with_its_other_parent(virtual_pool: Pool) -> None:
    family(virtual_pool)
    retry(virtual_pool, ["t1", "child"])
    cancel(virtual_pool, ["other"])

    assert release(virtual_pool) == (0, 1, 0, False)
    assert retry(virtual_pool, ["child"]) == [("dead_parent", "dead")]


def test_an_expired_child_waits_for_its_parents_again(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, "t1", make_task("child", depends_on=("t1",), expires_at=later(3)))
    clock.advance(3)
    assert expire(virtual_pool).expired == 1

    assert retry(virtual_pool, ["child"]) == [("retried", "dead")]

    assert task(virtual_pool, "child")["state"] == "blocked"
    cancel(virtual_pool, ["t1"])
    assert release(virtual_pool) == (0, 1, 0, False)


def test_a_child_that_runs_whatever_becomes_of_its_parents_does_not_wait_for_dead_ones(
    virtual_pool: Pool, clock: Clock
) -> None:
    asks: Any = {"depends_on": ("t1",), "on_parent_failure": "run", "expires_at": later(3)}
    submit(virtual_pool, make_task(max_failures=1), make_task("child", **asks))
    clock.advance(3)
    expire(virtual_pool)
    die(virtual_pool)
    release(virtual_pool)

    assert retry(virtual_pool, ["child"]) == [("retried", "dead")]

    assert task(virtual_pool, "child")["state"] == "pending"
    assert not virtual_pool.client.exists(virtual_pool.keys.parents("child"))


def test_a_task_that_was_dead_when_it_came_waits_for_its_parents(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task(max_failures=1))
    die(virtual_pool)
    submit(virtual_pool, make_task("child", depends_on=("t1",)))
    assert task(virtual_pool, "child")["reason"] == "parent_failed"
    assert retry(virtual_pool, ["child"])[0].outcome == "dead_parent"

    assert retry(virtual_pool, ["t1", "child"]) == [("retried", "dead")] * 2

    assert task(virtual_pool, "child")["state"] == "blocked"


def test_an_expired_task_that_is_retried_does_not_expire_again(
    virtual_pool: Pool, clock: Clock
) -> None:
    submit(virtual_pool, make_task(expires_at=later(3), dedup_key="once"))
    clock.advance(3)
    expire(virtual_pool)
    options = task(virtual_pool)["o"].split("|")

    retry(virtual_pool, ["t1"])
    clock.advance(100)

    assert expire(virtual_pool).expired == 0
    assert task(virtual_pool)["state"] == "pending"
    assert task(virtual_pool)["o"].split("|") == [options[0], "0", *options[2:]]


def test_a_maximum_wait_begins_anew(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, make_task(max_wait_s=3))
    clock.advance(3)
    assert expire(virtual_pool).expired == 1
    retry(virtual_pool, ["t1"])
    clock.advance(2)
    assert expire(virtual_pool).expired == 0
    clock.advance(1)

    assert expire(virtual_pool).expired == 1


def test_two_hundred_in_one_call(virtual_pool: Pool) -> None:
    names = [f"t{n}" for n in range(200)]
    submit(virtual_pool, *(make_task(name, max_failures=1) for name in names))
    beat(virtual_pool, max_concurrent=200)
    for name in names:
        assign(virtual_pool, name)
        complete(virtual_pool, name, "failed")

    assert {answer.outcome for answer in retry(virtual_pool, names)} == {"retried"}
    assert virtual_pool.client.zcard(virtual_pool.keys.pending("dev")) == 200


def test_retry_of_nothing_calls_nothing(virtual_pool: Pool) -> None:
    assert retry(virtual_pool, []) == []


def test_retry_on_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    assert_guarded(virtual_pool, retries.SCRIPT, ["dead"])


@pytest.mark.parametrize("args", [[], [f"t{n}" for n in range(201)]], ids=["none", "201"])
def test_retry_with_a_bad_argument_writes_nothing(virtual_pool: Pool, args: list[str]) -> None:
    populate(virtual_pool)
    assert_bad_argument(virtual_pool, retries.SCRIPT, args)
