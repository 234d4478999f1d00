"""The script `reclaim`: silence is judged, and work taken back. Clocks are in test_tick.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from balancer.core.health import health
from balancer.core.lanes import AgentClass, Lane, class_definition, lane_definition
from balancer.ledger import Pool
from balancer.ledger import beat as beats
from balancer.ledger import reclaim as reclaims
from balancer.ledger.configure import configure
from balancer.ledger.reclaim import reclaim
from balancer.ledger.tick import tick
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
    drain,
    dump,
    entries,
    fields,
    make_task,
    populate,
    proposal,
    submit,
)

LANE, DEFINITION = lane_definition(Lane("dev", "general", 1))
CLASS, _ = class_definition(AgentClass("dev", (), 2))


def task(pool: Pool, id_: str = "t1") -> dict[str, str]:
    return dict(pool.client.hgetall(pool.keys.task(id_)))


@pytest.fixture
def silent(virtual_pool: Pool, clock: Clock) -> Pool:
    """a1 of two units holds t1 and has been silent for twenty seconds, longer than its TTL; others were heard."""
    submit(virtual_pool, "t1", "t2")
    beat(virtual_pool, max_concurrent=2)
    assign(virtual_pool)
    virtual_pool.client.delete(virtual_pool.keys.wake)
    clock.advance(20)
    beats.beat(virtual_pool, [], caught_up=True)
    return virtual_pool


def freed(pool: Pool) -> dict[str, object]:
    """What changes when the one lease of a1 is taken back."""
    ((inbox, _),) = entries(pool, pool.keys.inbox("a1"))
    nonce = task(pool)["nonce"]
    return {
        **fields("agent:a1", used="0", n="0", freed_us=str(NOW_US + 20_000_000)),
        f"held:a1 {nonce}": GONE,
        f"inbox:a1 {inbox}": GONE,
        "leases t1": GONE,
        "hist:t1": [f"a1 {NOW_US} {NOW_US + 20_000_000} lost"],
        **fields("role:dev", used="0", running="0", reclaimed="1"),
        **fields("pool", used="0", running="0", reclaimed="1"),
    }


LOST = {
    "agent:a1 state": "lost",
    f"classdef {CLASS}": GONE,
    f"classn {CLASS}": GONE,
    f"free:{CLASS} a1": GONE,
    f"fc:dev {CLASS}": GONE,
    f"capacity:dev {CLASS}": GONE,
    "alive a1": GONE,
    "gone a1": NOW_MS + 20_000,
    "agent_timers a1": GONE,
    **fields("role:dev", capacity="0", agents="0", fleet_ver="2"),
    **fields("pool", capacity="0", agents="0"),
}


def test_reclaim_of_a_lost_agent_requeues_its_work_at_its_old_place(silent: Pool) -> None:
    nonce, expected = task(silent)["nonce"], freed(silent)

    with changes(silent) as seen:
        assert reclaim(silent, "a1") == ("lost", 1, 0, False)

    order = NOW_US - 60_000_000
    assert seen.state == LOST | expected | {
        **fields("task:t1", state="pending", close="revoked", losses="1"),
        "pending:dev t1": NOW_US,
        f"lane:{LANE} t1": order,
        f"lanes:dev {LANE}": order,
        "wake": ["1"],
        **fields("role:dev", returned="1"),
        **fields("pool", returned="1"),
    }
    assert sorted(seen.events) == [
        ("agent_lost", "", "a1", "20000"),
        ("reclaimed", "t1", "a1", nonce),
    ]


def test_reclaim_again_changes_nothing(silent: Pool) -> None:
    reclaim(silent, "a1")

    with changes(silent) as seen:
        assert reclaim(silent, "a1") == ("gone", 0, 0, False)

    assert seen.nothing


def test_reclaim_of_a_task_lost_too_often_ends_it(silent: Pool) -> None:
    silent.client.hset(silent.keys.task("t1"), "losses", 2)
    expected = freed(silent)

    with changes(silent) as seen:
        assert reclaim(silent, "a1") == ("lost", 0, 1, False)

    assert seen.state == LOST | expected | {
        **fields("task:t1", state="dead", close="revoked", losses="3", reason="lost", took_ms="0"),
        "task:t1 ended_us": str(NOW_US + 20_000_000),
        "dead t1": NOW_US + 20_000_000,
        f"laneref {LANE}": "1",
        **fields("role:dev", dead="1"),
        **fields("pool", dead="1"),
    }


def test_losses_and_failures_are_counted_apart(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, make_task(max_failures=1))
    for number in (1, 2):
        beat(virtual_pool)
        assign(virtual_pool)
        beat(virtual_pool, mode="stopped")
        assert reclaim(virtual_pool, "a1").requeued == 1
        assert task(virtual_pool)["losses"] == str(number)
    assert "failures" not in task(virtual_pool)

    beat(virtual_pool)
    assign(virtual_pool)
    assert complete(virtual_pool, status="failed") == "dead"
    assert task(virtual_pool)["losses"] == "2"


def test_reclaim_of_a_stopped_agent_takes_its_work(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")
    beat(virtual_pool)
    assign(virtual_pool)
    beat(virtual_pool, mode="stopped")

    with changes(virtual_pool) as seen:
        assert reclaim(virtual_pool, "a1") == ("gone", 1, 0, False)

    assert seen.state["agent_timers a1"] == GONE
    assert "agent:a1 state" not in seen.state
    assert not virtual_pool.client.exists(virtual_pool.keys.inbox("a1")) or not entries(
        virtual_pool, virtual_pool.keys.inbox("a1")
    )


def test_reclaim_of_a_live_agent_only_sets_the_next_look(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, "t1")
    beat(virtual_pool)
    assign(virtual_pool)
    clock.advance(5)

    with changes(virtual_pool) as seen:
        assert reclaim(virtual_pool, "a1") == ("alive", 0, 0, False)

    assert seen.state == {"agent_timers a1": NOW_MS + 15_001}
    with changes(virtual_pool) as again:
        assert reclaim(virtual_pool, "a1") == ("alive", 0, 0, False)
    assert again.nothing


@pytest.mark.parametrize(("silence_ms", "verdict"), [(15_000, "alive"), (15_001, "lost")])
def test_agent_is_lost_once_its_ttl_has_passed(
    virtual_pool: Pool, clock: Clock, silence_ms: int, verdict: str
) -> None:
    beat(virtual_pool)
    clock.advance(silence_ms / 1000)
    beats.beat(virtual_pool, [], caught_up=True)

    assert reclaim(virtual_pool, "a1").outcome == verdict


def test_reclaim_in_grace_takes_nothing_and_looks_again_at_its_end(silent: Pool) -> None:
    silent.client.hset(silent.keys.meta, "grace_until_ms", NOW_MS + 30_000)

    with changes(silent) as seen:
        assert reclaim(silent, "a1") == ("in_grace", 0, 0, False)

    class_id = silent.client.hget(silent.keys.agent("a1"), "class")
    assert seen.state == {
        "agent_timers a1": NOW_MS + 30_000,
        "agent:a1 mode": "silent",
        f"free:{class_id} a1": GONE,
        f"fc:dev {class_id}": GONE,
        f"capacity:dev {class_id}": GONE,
        "role:dev fleet_ver": "2",
    }
    assert not seen.events
    with changes(silent) as again:
        assert reclaim(silent, "a1") == ("in_grace", 0, 0, False)
    assert again.nothing


def test_an_agent_that_is_heard_again_in_grace_is_free_again(silent: Pool) -> None:
    silent.client.hset(silent.keys.meta, "grace_until_ms", NOW_MS + 30_000)
    reclaim(silent, "a1")

    assert beat(silent, "a1", max_concurrent=2) == "changed"

    class_id = silent.client.hget(silent.keys.agent("a1"), "class")
    assert silent.client.zscore(silent.keys.free(class_id), "a1") is not None


def test_grace_does_not_hold_what_a_restart_gave_up(virtual_pool: Pool, clock: Clock) -> None:
    """The agent itself said that it does not go on with it: that is no verdict about silence."""
    submit(virtual_pool, "t1", "t2")
    beat(virtual_pool, max_concurrent=2)
    kept = assign(virtual_pool, "t1")
    assign(virtual_pool, "t2")
    beat(virtual_pool, boot=2, max_concurrent=2, start=True, held=(kept,))
    clock.advance(60)
    beats.beat(virtual_pool, [], caught_up=True)
    virtual_pool.client.hset(virtual_pool.keys.meta, "grace_until_ms", NOW_MS + 90_000)

    assert reclaim(virtual_pool, "a1") == ("rebooted", 1, 0, False)
    assert reclaim(virtual_pool, "a1") == ("in_grace", 0, 0, False)
    assert virtual_pool.client.hkeys(virtual_pool.keys.held("a1")) == [kept]


def test_reclaim_of_an_unknown_agent_forgets_its_timer(virtual_pool: Pool) -> None:
    virtual_pool.client.zadd(virtual_pool.keys.agent_timers, {"nobody": 1})

    with changes(virtual_pool) as seen:
        assert reclaim(virtual_pool, "nobody") == ("unknown", 0, 0, False)

    assert seen.state == {"agent_timers nobody": GONE}
    with changes(virtual_pool) as again:
        assert reclaim(virtual_pool, "nobody") == ("unknown", 0, 0, False)
    assert again.nothing


def hold(pool: Pool, count: int) -> None:
    beat(pool, max_concurrent=1_000)
    names = [f"t{n}" for n in range(count)]
    submit(pool, *names)
    for at in range(0, count, 128):
        page = [proposal(name) for name in names[at : at + 128]]
        assert commit(pool, *page) == ["assigned"] * len(page)


def test_reclaim_of_many_leases_goes_page_by_page(virtual_pool: Pool, clock: Clock) -> None:
    hold(virtual_pool, 350)
    clock.advance(20)
    beats.beat(virtual_pool, [], caught_up=True)

    assert reclaim(virtual_pool, "a1") == ("lost", 150, 0, True)
    assert virtual_pool.client.zscore(virtual_pool.keys.agent_timers, "a1") == NOW_MS + 20_000, (
        "to be looked at again"
    )
    assert drain(virtual_pool) == {}, "nothing is granted in between"
    assert reclaim(virtual_pool, "a1") == ("gone", 150, 0, True)
    assert reclaim(virtual_pool, "a1") == ("gone", 50, 0, False)
    assert virtual_pool.client.hmget(virtual_pool.keys.pool, ["used", "reclaimed"]) == ["0", "350"]


def test_reclaim_after_a_restart_goes_page_by_page_too(virtual_pool: Pool) -> None:
    hold(virtual_pool, 200)
    beat(virtual_pool, boot=2, max_concurrent=1_000, start=True)

    assert reclaim(virtual_pool, "a1") == ("rebooted", 150, 0, True)
    beat(virtual_pool, boot=2, max_concurrent=1_000)
    assert virtual_pool.client.zscore(virtual_pool.keys.agent_timers, "a1") == NOW_MS, "still due"
    assert reclaim(virtual_pool, "a1") == ("rebooted", 50, 0, False)
    assert reclaim(virtual_pool, "a1") == ("alive", 0, 0, False)


def test_reclaimed_work_goes_before_what_came_later(virtual_pool: Pool) -> None:
    submit(virtual_pool, "first")
    beat(virtual_pool, "a1")
    assign(virtual_pool, "first", "a1")
    submit(virtual_pool, *(f"later{n}" for n in range(5)))
    beat(virtual_pool, "a1", mode="stopped")
    reclaim(virtual_pool, "a1")
    beat(virtual_pool, "a2")

    assert drain(virtual_pool) == {"first": "a2"}


def test_parent_lost_for_good_is_told_to_its_children(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1", make_task("child", depends_on=("t1",)))
    virtual_pool.client.hset(virtual_pool.keys.task("t1"), "losses", 2)
    beat(virtual_pool)
    assign(virtual_pool)
    beat(virtual_pool, mode="stopped")

    assert reclaim(virtual_pool, "a1").ended == 1
    assert virtual_pool.client.zrange(virtual_pool.keys.release, 0, -1) == ["t1"]


def test_reclaim_runs_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    submit(pool, "t1", "t2")
    beat(pool, "a1", mode="running")
    beat(pool, "a2")
    beat(pool, "a3")
    assign(pool, "t1", "a1")
    assign(pool, "t2", "a3")
    beat(pool, "a1", mode="stopped")
    pool.client.hset(pool.keys.agent("a3"), "beat_ms", NOW_MS)
    pool.client.zadd(pool.keys.alive, {"a3": NOW_MS})
    beats.beat(pool, [], caught_up=True)

    with out_of_memory():
        assert reclaim(pool, "a1") == ("gone", 1, 0, False)
        assert reclaim(pool, "a2") == ("alive", 0, 0, False)
        assert reclaim(pool, "a3") == ("lost", 1, 0, False)
        assert reclaim(pool, "nobody").outcome == "unknown"

    assert drain(pool).keys() == {"t1"}


def test_reclaim_on_a_pool_that_is_not_ours_writes_nothing(silent: Pool) -> None:
    assert_guarded(silent, reclaims.SCRIPT, ["a1", 3])


def test_reclaim_on_a_real_pool_with_a_time_of_the_callers_writes_nothing(pool: Pool) -> None:
    populate(pool)
    assert_guarded(pool, reclaims.SCRIPT, ["a1", 3])


@pytest.mark.parametrize(
    "args",
    [["a1"], ["a1", "nan"], ["a1", 0], ["a1", 101], ["a1", "0x3"], ["a1", "-1"], ["a1", "1e1"], []],
)
def test_reclaim_with_a_bad_argument_writes_nothing(silent: Pool, args: list[object]) -> None:
    assert_bad_argument(silent, reclaims.SCRIPT, args)


def test_silence_while_nobody_was_heard_is_no_silence(virtual_pool: Pool, clock: Clock) -> None:
    """A stalled consumer: what the agent sent lies in the stream."""
    beat(virtual_pool)
    clock.advance(20)

    assert reclaim(virtual_pool, "a1").outcome == "alive"


# --- late agents ---

DAY_MS = 86_400_000


def sweep(pool: Pool) -> None:
    """What is due about agents."""
    for agent in tick(pool).agents:
        reclaim(pool, agent)


def asks_for(pool: Pool, least: float) -> None:
    configure(pool, pool.settings.model_copy(update={"min_health": least}))


def test_who_is_late_hides_nobody(virtual_pool: Pool, clock: Clock) -> None:
    """Those who get nothing hold least, so they stand first in the index that a bounded view reads."""
    asks_for(virtual_pool, 0.8)
    facts: dict[str, Any] = {"ttl_ms": 900_000, "interval_ms": 60_000}
    for n in range(4):
        beat(virtual_pool, f"late{n}", **facts)
    clock.advance(300)
    for n in range(20):
        beat(virtual_pool, f"fine{n}", **facts)
    submit(virtual_pool, "t1")
    assert drain(virtual_pool) == {}

    sweep(virtual_pool)

    assert drain(virtual_pool) == {"t1": "fine0"}


def test_who_is_late_keeps_what_it_has_and_is_free_again_when_it_is_heard(
    virtual_pool: Pool, clock: Clock
) -> None:
    asks_for(virtual_pool, 0.8)
    beat(virtual_pool, max_concurrent=2)
    submit(virtual_pool, "t1")
    assign(virtual_pool)
    clock.advance(10)
    beats.beat(virtual_pool, [], caught_up=True)
    assert tick(virtual_pool).agents == ["a1"]
    due = dump(virtual_pool.client)

    with changes(virtual_pool) as seen:
        assert reclaim(virtual_pool, "a1") == ("alive", 0, 0, False)

    assert seen.state == {
        "agent_timers a1": NOW_MS + 15_001,
        "agent:a1 mode": "late",
        f"free:{CLASS} a1": GONE,
        f"fc:dev {CLASS}": GONE,
        f"capacity:dev {CLASS}": GONE,
        "role:dev fleet_ver": "2",
    }
    assert not seen.events
    with changes(virtual_pool) as again:
        assert reclaim(virtual_pool, "a1") == ("alive", 0, 0, False)
    assert again.nothing

    assert beat(virtual_pool, max_concurrent=2) == "changed"

    # It has been idle all the time: its place is the old one.
    for key in (virtual_pool.keys.free(CLASS), virtual_pool.keys.capacity("dev")):
        assert dump(virtual_pool.client)[key] == due[key]
    assert virtual_pool.client.zscore(virtual_pool.keys.agent_timers, "a1") == NOW_MS + 20_000


@pytest.mark.parametrize("least", [0.0, 0.2, 0.3, 0.5, 0.51, 0.8, 0.800_01, 1.0])
@pytest.mark.parametrize(
    ("ttl_ms", "interval_ms"),
    [(15_000, 5_000), (16_001, 8_000), (900_000, 60_000), (DAY_MS, 9_000)],
)
def test_late_is_who_is_not_healthy_enough_for_a_plan(
    virtual_pool: Pool, clock: Clock, least: float, ttl_ms: int, interval_ms: int
) -> None:
    asks_for(virtual_pool, least)
    beat(virtual_pool, ttl_ms=ttl_ms, interval_ms=interval_ms)
    steps_ms = (1.5 * interval_ms, ttl_ms * 2 / 3, 60_000, 300_000, 900_000)
    ages = [math.ceil(at) for at in steps_ms if at < ttl_ms]
    ages = [at for at in ages if health(at, interval_ms, ttl_ms) < least]
    first_ms = min(ages, default=ttl_ms)
    assert health(first_ms - 1, interval_ms, ttl_ms) >= least
    at_ms = virtual_pool.client.zscore(virtual_pool.keys.agent_timers, "a1")
    assert at_ms == NOW_MS + first_ms

    clock.advance((first_ms - 1) / 1000)
    beats.beat(virtual_pool, [], caught_up=True)
    reclaim(virtual_pool, "a1")
    assert virtual_pool.client.hget(virtual_pool.keys.agent("a1"), "mode") == "running"

    clock.advance(0.001)
    beats.beat(virtual_pool, [], caught_up=True)
    assert reclaim(virtual_pool, "a1").outcome == "alive"
    mode = virtual_pool.client.hget(virtual_pool.keys.agent("a1"), "mode")
    assert mode == ("late" if ages else "running")


def test_who_is_late_is_lost_at_the_end_of_its_ttl(virtual_pool: Pool, clock: Clock) -> None:
    asks_for(virtual_pool, 0.8)
    beat(virtual_pool)
    clock.advance(10)
    beats.beat(virtual_pool, [], caught_up=True)
    sweep(virtual_pool)
    clock.advance(5.001)
    beats.beat(virtual_pool, [], caught_up=True)

    assert reclaim(virtual_pool, "a1") == ("lost", 0, 0, False)


def test_who_is_stopping_and_late_is_looked_at_no_more_than_once(
    virtual_pool: Pool, clock: Clock
) -> None:
    asks_for(virtual_pool, 0.8)
    beat(virtual_pool)
    beat(virtual_pool, mode="stopping")
    clock.advance(10)
    beats.beat(virtual_pool, [], caught_up=True)

    assert reclaim(virtual_pool, "a1") == ("alive", 0, 0, False)

    assert virtual_pool.client.hget(virtual_pool.keys.agent("a1"), "mode") == "stopping"
    assert virtual_pool.client.zscore(virtual_pool.keys.agent_timers, "a1") == NOW_MS + 15_001


def test_settings_of_a_pool_made_before_agents_could_be_late(
    virtual_pool: Pool, clock: Clock
) -> None:
    """Those asked for nothing; they are taken for what the default is."""
    virtual_pool.client.hdel(virtual_pool.keys.settings, "min_health")
    beat(virtual_pool, ttl_ms=DAY_MS, interval_ms=60_000)

    assert virtual_pool.client.zscore(virtual_pool.keys.agent_timers, "a1") == NOW_MS + 900_000
