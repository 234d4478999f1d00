"""The script `settle`: tries that end otherwise than well or badly; how long a failure waits; what is remembered."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from balancer.core.lanes import AgentClass, Lane, class_definition, lane_definition
from balancer.ledger import Pool, read_tasks
from balancer.ledger import settle as settles
from balancer.ledger.backoff import WHOLE
from balancer.ledger.cancel import cancel
from balancer.protocol import Status
from tests.support.factories import (
    GONE,
    NOW_MS,
    NOW_US,
    Clock,
    assign,
    beat,
    changes,
    complete,
    completion_entry,
    drain,
    entries,
    fields,
    make_task,
    settle,
    submit,
)

LANE, _ = lane_definition(Lane("dev", "general", 1))
CLASS, _ = class_definition(AgentClass("dev", (), 1))


@pytest.fixture
def working(virtual_pool: Pool, clock: Clock) -> Pool:
    """a1 of one unit has worked on t1 for two seconds."""
    submit(virtual_pool, make_task(max_failures=3))
    beat(virtual_pool)
    assign(virtual_pool)
    virtual_pool.client.delete(virtual_pool.keys.wake)
    clock.advance(2)
    return virtual_pool


def task(pool: Pool, id_: str = "t1") -> dict[str, str]:
    return dict(pool.client.hgetall(pool.keys.task(id_)))


def freed(pool: Pool) -> dict[str, Any]:
    """What changes when a1's only unit comes free."""
    at_ms = NOW_MS + 2_000
    inbox = [entry for entry, _ in entries(pool, pool.keys.inbox("a1"))]
    return {
        **fields("agent:a1", used="0", n="0", freed_us=f"{at_ms}000"),
        f"held:a1 {task(pool)['nonce']}": GONE,
        **{f"inbox:a1 {entry}": GONE for entry in inbox},
        "leases t1": GONE,
        f"free:{CLASS} a1": at_ms,
        f"fc:dev {CLASS}": 1,
        **fields("role:dev", used="0", running="0"),
        **fields("pool", used="0", running="0"),
        "wake": ["1"],
    }


@pytest.mark.parametrize(
    ("status", "count", "until_ms"),
    [
        ("rejected", "rejected", NOW_MS // 5_000 * 5_000 + 10_000),
        ("released", "released", NOW_MS + 4_000),
        ("cancelled", "released", NOW_MS + 4_000),
    ],
)
def test_a_task_given_back_keeps_its_place_and_nothing_is_counted(
    working: Pool, status: str, count: str, until_ms: int
) -> None:
    """One that says `cancelled` of a task that nobody cancelled has given it back."""
    done = completion_entry(working, "t1", status, error="not me")
    expected = freed(working)
    avoiding, definition = lane_definition(Lane("dev", "general", 1, False, ("a1",), until_ms))

    with changes(working) as seen:
        assert settle(working, done) == ["requeued"]

    assert seen.state == expected | {
        **fields("task:t1", state="pending", close=status, lane=avoiding),
        "result:t1": '{"error":"not me"}',
        "hist:t1": [f"a1 {NOW_US} {NOW_US + 2_000_000} {status}"],
        "pending:dev t1": NOW_US,
        f"lane:{avoiding} t1": NOW_US - 60_000_000,
        f"lanes:dev {avoiding}": NOW_US - 60_000_000,
        f"lanedef {LANE}": GONE,
        f"laneref {LANE}": GONE,
        f"lanedef {avoiding}": definition,
        f"laneref {avoiding}": "1",
        f"completions {done.entry}": GONE,
        **fields("role:dev", **{count: "1", "returned": "1"}),
        **fields("pool", **{count: "1", "returned": "1"}),
    }
    assert seen.events == [(count, "t1", "a1", "")]


@pytest.mark.parametrize("status", ["rejected", "released", "cancelled"])
def test_the_same_call_again_changes_only_the_count_of_duplicates(
    working: Pool, status: str
) -> None:
    done = completion_entry(working, "t1", status)
    settle(working, done)

    with changes(working) as seen:
        assert settle(working, done) == ["duplicate"]

    assert seen.state == {"pool completions_duplicate": "1"}


def test_a_rejected_task_goes_to_others_first(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, "t1")
    beat(virtual_pool, "a1")
    assert drain(virtual_pool) == {"t1": "a1"}
    complete(virtual_pool, status="rejected")

    assert drain(virtual_pool) == {}
    beat(virtual_pool, "a2")
    assert drain(virtual_pool) == {"t1": "a2"}
    complete(virtual_pool, status="rejected")
    assert drain(virtual_pool) == {}

    clock.advance(10)
    for agent in ("a1", "a2"):
        beat(virtual_pool, agent)
    assert list(drain(virtual_pool)) == ["t1"]
    stored = task(virtual_pool)
    assert "failures" not in stored
    assert "losses" not in stored


def test_other_work_goes_to_the_agent_that_rejected(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1", "t2")
    beat(virtual_pool, "a1")
    assign(virtual_pool, "t1")
    complete(virtual_pool, "t1", "rejected")

    assert drain(virtual_pool) == {"t2": "a1"}


def test_the_last_three_who_gave_it_back_are_remembered(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")
    for agent in ("a1", "a2", "a3", "a2", "a4"):
        beat(virtual_pool, agent)
        assign(virtual_pool, "t1", agent)
        complete(virtual_pool, "t1", "rejected")

    definition = virtual_pool.client.hget(virtual_pool.keys.lanedef, task(virtual_pool)["lane"])
    assert '"avoid":["a4","a2","a3"]' in definition


def test_tasks_given_back_at_about_one_time_share_a_lane(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, "t1", "t2")
    beat(virtual_pool, "a1", max_concurrent=2)
    assign(virtual_pool, "t1")
    assign(virtual_pool, "t2")
    complete(virtual_pool, "t1", "rejected")
    clock.advance(0.5)
    complete(virtual_pool, "t2", "rejected")

    assert task(virtual_pool, "t1")["lane"] == task(virtual_pool, "t2")["lane"]
    assert len(virtual_pool.client.hgetall(virtual_pool.keys.lanedef)) == 1


@pytest.mark.damaged
def test_with_too_many_lanes_nobody_is_avoided(working: Pool) -> None:
    rest = {f"v1{n:014x}": "{}" for n in range(9_999)}
    working.client.hset(working.keys.lanedef, mapping=rest)

    assert complete(working, status="rejected") == "requeued"

    assert task(working)["lane"] == LANE


@pytest.mark.parametrize("status", [*Status])
def test_whatever_ends_the_try_of_a_task_being_cancelled_ends_it(
    working: Pool, status: Status
) -> None:
    cancel(working, ["t1"], "not needed")
    done = completion_entry(working, "t1", status.value)
    expected = freed(working)
    tried = {} if status is Status.COMPLETED else {
        "hist:t1": [f"a1 {NOW_US} {NOW_US + 2_000_000} {status.value}"]
    }  # fmt: skip

    with changes(working) as seen:
        assert settle(working, done) == ["cancelled"]
    with changes(working) as again:
        assert settle(working, done) == ["duplicate"]

    assert seen.state == expected | tried | {
        **fields("task:t1", state="cancelled", close=status.value, reason="not needed", cancel=GONE),
        **fields("task:t1", ended_us=str(NOW_US + 2_000_000), took_ms="1500"),
        "cancelled t1": NOW_US + 2_000_000,
        f"lanedef {LANE}": GONE,
        f"laneref {LANE}": GONE,
        f"completions {done.entry}": GONE,
        "role:dev cancelled": "1",
        "pool cancelled": "1",
    }  # fmt: skip
    assert seen.events == [("cancelled", "t1", "a1", "not needed")]
    assert again.state == {"pool completions_duplicate": "1"}


# --- back-off ---


def wait_of(pool: Pool, draw: int, failures: int = 0) -> float:
    """How long t1 waits after one more failure, in microseconds."""
    pool.client.hset(pool.keys.task("t1"), "failures", failures)
    done = completion_entry(pool, "t1", "failed")
    settled = settles.settle(pool, [done], draw=draw)
    assert [outcome.value for outcome in settled.outcomes] == ["retry"]
    due: float = pool.client.zscore(pool.keys.failed, "t1") - (NOW_US + 2_000_000)
    assert settled.retry_in_s == due / 1e6
    return due


@pytest.mark.parametrize(
    ("draw", "failures", "wait_us"),
    [
        (WHOLE, 0, 5_000_000),
        (WHOLE, 1, 10_000_000),
        (WHOLE, 9, 2_560_000_000),
        (WHOLE, 10, 3_600_000_000),
        (WHOLE, 98, 3_600_000_000),
        (WHOLE // 2, 1, 5_000_000),
        (1, 0, 1_000),
        (0, 0, 1_000),
        (0, 50, 1_000),
        (333_333, 2, 6_666_660),
    ],
)
def test_the_wait_doubles_up_to_its_bound_and_a_share_of_it_is_drawn(
    virtual_pool: Pool, clock: Clock, draw: int, failures: int, wait_us: int
) -> None:
    submit(virtual_pool, make_task(max_failures=100))
    beat(virtual_pool)
    assign(virtual_pool)
    clock.advance(2)

    assert wait_of(virtual_pool, draw, failures) == wait_us


def test_each_failure_of_a_call_waits_another_share(virtual_pool: Pool) -> None:
    submit(virtual_pool, *(f"t{n}" for n in range(100)))
    beat(virtual_pool, max_concurrent=100)
    for n in range(100):
        assign(virtual_pool, f"t{n}")
    done = [completion_entry(virtual_pool, f"t{n}", "failed") for n in range(100)]

    settled = settles.settle(virtual_pool, done, draw=0)

    waits = sorted(due - NOW_US for _, due in virtual_pool.client.zrange(
        virtual_pool.keys.failed, 0, -1, withscores=True))  # fmt: skip
    assert settled.retry_in_s == 0.001
    assert len(set(waits)) == 100
    gaps = [later - sooner for sooner, later in pairwise(waits)]
    assert max(gaps) < 150_000  # spread over five seconds, a hundred of them


def test_a_call_without_failures_tells_of_no_retry(working: Pool) -> None:
    assert settles.settle(working, [completion_entry(working)]).retry_in_s is None


# --- what is remembered ---


def test_the_last_ten_tries_that_did_not_complete_are_remembered(
    virtual_pool: Pool, clock: Clock
) -> None:
    submit(virtual_pool, "t1")
    for n in range(12):
        beat(virtual_pool, f"a{n}")
        assign(virtual_pool, "t1", f"a{n}")
        clock.advance(1)
        complete(virtual_pool, status="released")

    tries = read_tasks.history(virtual_pool, "t1")

    assert [one.agent for one in tries] == [f"a{n}" for n in range(2, 12)]
    assert {one.how for one in tries} == {"released"}
    assert [one.ended_at - one.granted_at for one in tries] == [1.0] * 10
    assert tries[0].granted_at == NOW_US / 1e6 + 2


def test_a_try_that_completed_leaves_no_history(working: Pool) -> None:
    complete(working)

    assert not working.client.exists(working.keys.hist("t1"))
    assert read_tasks.history(working, "t1") == []
