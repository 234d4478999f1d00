"""The script `release`: children learn that a parent ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from balancer.core.lanes import Lane, lane_definition
from balancer.ledger import Pool
from balancer.ledger import release as releases
from balancer.ledger.cancel import cancel
from balancer.ledger.release import release
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


def finish(pool: Pool, task: str, status: str = "completed") -> None:
    assign(pool, task)
    assert complete(pool, task, status) in {"ok", "dead"}


@pytest.fixture
def family(virtual_pool: Pool, clock: Clock) -> Pool:
    """A parent, one of two; `both` waits for the two, `one` for the first only."""
    submit(virtual_pool, make_task("p1", max_failures=1), make_task("p2", max_failures=1))
    submit(
        virtual_pool,
        make_task("both", depends_on=("p1", "p2")),
        make_task("one", depends_on=("p1",)),
    )
    beat(virtual_pool)
    clock.advance(1)
    return virtual_pool


def test_child_is_ready_when_its_last_parent_completed(family: Pool) -> None:
    finish(family, "p1")
    family.client.delete(family.keys.wake)

    with changes(family) as seen:
        assert release(family) == (1, 0, 0, False)

    ready = NOW_US + 1_000_000
    order = ready - 60_000_000
    assert seen.state == {
        **fields("task:one", state="pending", ready_us=str(ready), order_us=str(order)),
        "task:one p": "a1|600000",
        "blocked one": GONE,
        "parents:one p1": GONE,
        "parents:both p1": GONE,
        "children:p1 both": GONE,
        "children:p1 one": GONE,
        "release p1": GONE,
        "pending:dev one": ready,
        f"lane:{LANE} one": order,
        "meta clock_us": str(ready),
        "wake": ["1"],
    }
    assert seen.events == [("ready", "one", "", "p1")]
    with changes(family) as again:
        assert release(family) == (0, 0, 0, False)
    assert again.nothing

    finish(family, "p2")
    assert release(family) == (1, 0, 0, False)
    assert family.client.hget(family.keys.task("both"), "state") == "pending"


def test_child_dies_with_the_first_parent_that_failed_for_good(family: Pool) -> None:
    finish(family, "p1", "failed")

    with changes(family) as seen:
        assert release(family) == (0, 2, 0, False)

    at = NOW_US + 1_000_000
    assert seen.state == {
        **fields("task:one", state="dead", reason="parent_failed", ended_us=str(at), took_ms="0"),
        **fields("task:both", state="dead", reason="parent_failed", ended_us=str(at), took_ms="0"),
        "dead one": at,
        "dead both": at,
        "blocked one": GONE,
        "blocked both": GONE,
        "children:p1 both": GONE,
        "children:p1 one": GONE,
        "release p1": GONE,
        f"laneref {LANE}": "1",
        **fields("role:dev", dead="3", dropped="2"),
        **fields("pool", dead="3", dropped="2"),
    }
    assert seen.events == [
        ("dead", "both", "", "parent_failed p1"),
        ("dead", "one", "", "parent_failed p1"),
    ]

    finish(family, "p2")
    with changes(family) as later:
        assert release(family) == (0, 0, 0, False)
    assert later.state == {"children:p2 both": GONE, "release p2": GONE}


def test_cancelled_parent_kills_its_children(family: Pool) -> None:
    cancel(family, ["p1"])

    assert release(family) == (0, 2, 0, False)


def test_cancelled_child_is_passed_over(family: Pool) -> None:
    cancel(family, ["one"])
    finish(family, "p1")

    assert release(family) == (0, 0, 0, False)
    assert family.client.hget(family.keys.task("one"), "state") == "cancelled"


def test_failure_goes_down_a_chain_level_by_level(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task("g0", max_failures=1))
    submit(virtual_pool, *(make_task(f"g{n}", depends_on=(f"g{n - 1}",)) for n in range(1, 150)))
    beat(virtual_pool)
    finish(virtual_pool, "g0", "failed")

    passes: list[releases.Released] = []
    while not passes or passes[-1].more:
        passes.append(release(virtual_pool))

    assert sum(answer.dead for answer in passes) == 149
    assert len(passes) <= 2
    assert virtual_pool.client.zcard(virtual_pool.keys.dead) == 150


def test_thousand_children_go_page_by_page(virtual_pool: Pool) -> None:
    """No call is longer than 200 children, so none stops Redis for long."""
    submit(virtual_pool, "p1", *(make_task(f"c{n}", depends_on=("p1",)) for n in range(1_000)))
    beat(virtual_pool)
    finish(virtual_pool, "p1")

    answers = [release(virtual_pool) for _ in range(6)]

    assert [answer.ready for answer in answers] == [200] * 5 + [0]
    assert [answer.more for answer in answers] == [True] * 5 + [False]
    order = virtual_pool.client.zrange(virtual_pool.keys.lane(LANE), 0, -1)
    assert order == [f"c{n}" for n in range(1_000)], "ready in the order of their submission"


def test_parents_without_children_left_count_as_work(virtual_pool: Pool) -> None:
    virtual_pool.client.zadd(virtual_pool.keys.release, {f"gone{n}": n for n in range(250)})

    assert release(virtual_pool) == (0, 0, 0, True)
    assert virtual_pool.client.zcard(virtual_pool.keys.release) == 50
    assert release(virtual_pool) == (0, 0, 0, False)


def test_release_runs_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    submit(pool, "p1", make_task("c1", depends_on=("p1",)))
    beat(pool)
    finish(pool, "p1")

    with out_of_memory():
        assert release(pool) == (1, 0, 0, False)
        assert release(pool) == (0, 0, 0, False)


def test_release_on_a_pool_that_is_not_ours_writes_nothing(family: Pool) -> None:
    finish(family, "p1")
    assert_guarded(family, releases.SCRIPT, [])


def test_release_on_a_real_pool_with_a_time_of_the_callers_writes_nothing(pool: Pool) -> None:
    populate(pool)
    assert_guarded(pool, releases.SCRIPT, [])


# --- children that have a time of their own


@pytest.mark.parametrize(("after_s", "state"), [(4, "scheduled"), (5, "pending")])
def test_child_of_the_future_waits_for_its_time_when_its_parents_are_done(
    virtual_pool: Pool, clock: Clock, after_s: float, state: str
) -> None:
    submit(virtual_pool, "p1", make_task("t1", depends_on=("p1",), not_before=later(5)))
    beat(virtual_pool)
    finish(virtual_pool, "p1")
    clock.advance(after_s)

    with changes(virtual_pool) as seen:
        assert release(virtual_pool) == (1, 0, 0, False)

    assert seen.state["task:t1 state"] == state
    if state == "scheduled":
        assert seen.state == {
            "task:t1 state": "scheduled",
            "task:t1 p": "a1|600000",
            "scheduled t1": NOW_US + 5_000_000,
            "blocked t1": GONE,
            "parents:t1 p1": GONE,
            "children:p1 t1": GONE,
            "release p1": GONE,
            "role:dev scheduled": "1",
            "pool scheduled": "1",
        }
        assert seen.events == [("scheduled", "t1", "", "p1")]
    with changes(virtual_pool) as again:
        assert release(virtual_pool) == (0, 0, 0, False)
    assert again.nothing


def test_a_child_would_rather_have_the_agent_that_did_its_parent_unless_it_says_so_itself(
    virtual_pool: Pool,
) -> None:
    beat(virtual_pool)
    submit(
        virtual_pool,
        make_task("p1", max_failures=1),
        make_task("silent", depends_on=("p1",), on_parent_failure="run"),
        make_task("own", depends_on=("p1",), prefer_agent="a9", on_parent_failure="run"),
    )
    wishes = [virtual_pool.keys.task("silent"), virtual_pool.keys.task("own")]

    finish(virtual_pool, "p1")
    assert release(virtual_pool) == (2, 0, 0, False)

    assert [virtual_pool.client.hget(key, "p") for key in wishes] == ["a1|600000", "a9|600000"]


def test_a_child_has_no_wish_for_the_agent_on_which_its_parent_failed(virtual_pool: Pool) -> None:
    beat(virtual_pool)
    submit(
        virtual_pool,
        make_task("p1", max_failures=1),
        make_task("child", depends_on=("p1",), on_parent_failure="run"),
    )

    finish(virtual_pool, "p1", "failed")
    assert release(virtual_pool) == (1, 0, 0, False)

    assert virtual_pool.client.hget(virtual_pool.keys.task("child"), "p") is None
