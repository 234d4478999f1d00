"""The script `retire`: an agent whose deadline has come gives back what it holds, and is gone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from balancer.core.lanes import AgentClass, Lane, class_definition, lane_definition
from balancer.ledger import Pool
from balancer.ledger import reclaim as reclaims
from balancer.ledger.agent_set import Verb, agent_set
from balancer.ledger.retire import SCRIPT, retire
from balancer.ledger.tick import tick
from balancer.loops.sweeper import Sweeper
from tests.support.factories import (
    GONE,
    NOW_MS,
    NOW_US,
    Clock,
    assert_guarded,
    assign,
    beat,
    changes,
    commit,
    complete,
    drain,
    entries,
    fields,
    populate,
    proposal,
    submit,
)

LANE, _ = lane_definition(Lane("dev", "general", 1))
CLASS, _ = class_definition(AgentClass("dev", (), 2))


@pytest.fixture
def due(virtual_pool: Pool, clock: Clock) -> Pool:
    """a1 of two units holds t1; it was to be gone after ten seconds, which have passed."""
    beat(virtual_pool, max_concurrent=2)
    submit(virtual_pool, "t1")
    assign(virtual_pool)
    agent_set(virtual_pool, "a1", Verb.RETIRE, 10)
    clock.advance(10)
    beat(virtual_pool, max_concurrent=2)
    virtual_pool.client.delete(virtual_pool.keys.wake)
    return virtual_pool


def test_at_the_deadline_all_goes_back_uncounted(due: Pool) -> None:
    (inbox, _), (told, _) = entries(due, due.keys.inbox("a1"))
    task = due.client.hgetall(due.keys.task("t1"))
    at_ms = NOW_MS + 10_000

    with changes(due) as seen:
        assert retire(due, "a1") == ("retired", 1, False)

    order = NOW_US - 60_000_000
    returned = {"returned": "1"} if "role:dev returned" in seen.state else {}
    assert seen.state == {
        **fields("agent:a1", state="stopped", used="0", n="0", freed_us=f"{at_ms}000"),
        "agent:a1 admin": f"retired|{at_ms}|{told}",
        **fields("task:t1", state="pending", close="revoked"),
        f"held:a1 {task['nonce']}": GONE,
        f"inbox:a1 {inbox}": GONE,
        "leases t1": GONE,
        "hist:t1": [f"a1 {NOW_US} {at_ms}000 released"],
        "pending:dev t1": NOW_US,
        f"lane:{LANE} t1": order,
        f"lanes:dev {LANE}": order,
        f"classdef {CLASS}": GONE,
        f"classn {CLASS}": GONE,
        "alive a1": GONE,
        "gone a1": at_ms,
        "agent_timers a1": GONE,
        **fields("role:dev", used="0", running="0", reclaimed="1", capacity="0", agents="0", **returned),
        **fields("pool", used="0", running="0", reclaimed="1", capacity="0", agents="0", **returned),
        "wake": ["1"],
    }  # fmt: skip
    assert sorted(seen.events) == [
        ("agent_retired", "", "a1", ""),
        ("reclaimed", "t1", "a1", task["nonce"]),
    ]
    assert complete(due, "t1") == "stale"


def test_retire_again_changes_nothing(due: Pool) -> None:
    retire(due, "a1")

    with changes(due) as seen:
        assert retire(due, "a1") == ("not_due", 0, False)

    assert seen.nothing


def test_reclaim_leaves_it_to_retire(due: Pool) -> None:
    """Or the tasks would count a loss each."""
    with changes(due) as seen:
        assert reclaims.reclaim(due, "a1") == ("must_retire", 0, 0, False)

    assert seen.nothing


def test_the_sweeper_retires_at_the_deadline(due: Pool) -> None:
    assert tick(due).agents == ["a1"]

    assert Sweeper(due).step().reclaimed == 1

    assert due.client.hget(due.keys.agent("a1"), "state") == "stopped"
    assert due.client.hget(due.keys.task("t1"), "losses") is None
    assert tick(due).agents == []


def test_before_the_deadline_nothing_happens(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool, max_concurrent=2)
    submit(virtual_pool, "t1")
    assign(virtual_pool)
    agent_set(virtual_pool, "a1", Verb.RETIRE, 10)
    clock.advance(9.999)

    with changes(virtual_pool) as seen:
        assert retire(virtual_pool, "a1") == ("not_due", 0, False)

    assert seen.nothing


@pytest.mark.parametrize("agent", ["a1", "ghost"])
def test_retire_of_an_agent_that_stays_changes_nothing(virtual_pool: Pool, agent: str) -> None:
    beat(virtual_pool)

    with changes(virtual_pool) as seen:
        assert retire(virtual_pool, agent).outcome == ("unknown" if agent == "ghost" else "not_due")

    assert seen.nothing


def test_an_agent_that_stops_before_its_deadline_is_gone_at_once(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool, max_concurrent=2)
    submit(virtual_pool, "t1")
    assign(virtual_pool)
    agent_set(virtual_pool, "a1", Verb.RETIRE, 60)
    clock.advance(1)
    beat(virtual_pool, max_concurrent=2, mode="stopped")

    assert reclaims.reclaim(virtual_pool, "a1").outcome == "must_retire"
    assert retire(virtual_pool, "a1") == ("retired", 1, False)
    assert virtual_pool.client.hget(virtual_pool.keys.task("t1"), "losses") is None


def test_the_same_boot_is_not_heard_any_more_and_a_new_one_is_a_new_agent(due: Pool) -> None:
    retire(due, "a1")

    with changes(due) as seen:
        assert beat(due, max_concurrent=2, mode="running") == "retired"
    assert {key for key in seen.state if not key.startswith("heartbeats ")} == {
        "pool heartbeats_retired"
    }
    assert commit(due, proposal()) == ["not_accepting"]

    assert beat(due, boot=2, max_concurrent=2, start=True) == "new_boot"
    assert entries(due, due.keys.inbox("a1")) == []
    assert due.client.hget(due.keys.agent("a1"), "admin") == ""
    assert drain(due) == {"t1": "a1"}


def test_who_was_lost_on_its_way_out_comes_back_as_a_new_agent(
    virtual_pool: Pool, clock: Clock
) -> None:
    """Nobody looks at the deadline of an agent that is gone and holds nothing."""
    beat(virtual_pool, max_concurrent=2)
    agent_set(virtual_pool, "a1", Verb.RETIRE, 30)
    clock.advance(16)
    beat(virtual_pool, "other", role="test")
    assert reclaims.reclaim(virtual_pool, "a1").outcome == "lost"
    clock.advance(20)

    assert beat(virtual_pool, boot=2, max_concurrent=2, start=True) == "new_boot"
    Sweeper(virtual_pool).step()

    assert virtual_pool.client.hget(virtual_pool.keys.agent("a1"), "admin") == ""
    assert entries(virtual_pool, virtual_pool.keys.inbox("a1")) == []
    assert beat(virtual_pool, boot=2, max_concurrent=2) == "ok"
    submit(virtual_pool, "t1")
    assert drain(virtual_pool) == {"t1": "a1"}


def test_who_was_lost_before_its_deadline_is_still_told_to_go(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool, max_concurrent=2)
    agent_set(virtual_pool, "a1", Verb.RETIRE, 30)
    admin = virtual_pool.client.hget(virtual_pool.keys.agent("a1"), "admin")
    clock.advance(16)
    beat(virtual_pool, "other", role="test")
    assert reclaims.reclaim(virtual_pool, "a1").outcome == "lost"

    assert beat(virtual_pool, boot=2, max_concurrent=2, start=True) == "new_boot"

    assert virtual_pool.client.hget(virtual_pool.keys.agent("a1"), "admin") == admin
    assert len(entries(virtual_pool, virtual_pool.keys.inbox("a1"))) == 1


def test_a_new_boot_waits_until_what_was_held_at_the_deadline_is_back(due: Pool) -> None:
    with changes(due) as seen:
        assert beat(due, boot=2, max_concurrent=2, start=True) == "retired"
    assert {key for key in seen.state if not key.startswith("heartbeats ")} == {
        "pool heartbeats_retired"
    }

    assert retire(due, "a1") == ("retired", 1, False)
    assert beat(due, boot=2, max_concurrent=2, start=True) == "new_boot"

    assert due.client.hget(due.keys.task("t1"), "losses") is None
    assert drain(due) == {"t1": "a1"}


def test_more_than_a_page_goes_back_in_pages(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool, max_concurrent=200)
    submit(virtual_pool, *(f"t{n}" for n in range(170)))
    while drain(virtual_pool):
        pass
    agent_set(virtual_pool, "a1", Verb.RETIRE, 0)

    assert retire(virtual_pool, "a1") == ("retired", 150, True)
    assert tick(virtual_pool).agents == ["a1"]
    assert reclaims.reclaim(virtual_pool, "a1").outcome == "must_retire"
    assert retire(virtual_pool, "a1") == ("retired", 20, False)

    assert virtual_pool.client.zcard(virtual_pool.keys.pending("dev")) == 170
    assert not virtual_pool.client.exists(virtual_pool.keys.held("a1"))


def test_retire_runs_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    beat(pool)
    submit(pool, "t1")
    assign(pool)
    agent_set(pool, "a1", Verb.RETIRE, 0)

    with out_of_memory():
        assert retire(pool, "a1") == ("retired", 1, False)


def test_retire_on_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    agent_set(virtual_pool, "a2", Verb.RETIRE, 0)
    assert_guarded(virtual_pool, SCRIPT, ["a2"])
