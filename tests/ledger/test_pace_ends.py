"""What must not spoil, freeze or make up an agent's pace."""

from __future__ import annotations

import pytest

from balancer.core.pace import Pace
from balancer.ledger import Pool
from tests.ledger.test_effort import class_of, run, stored
from tests.ledger.test_pace import sound
from tests.support.factories import (
    Clock,
    assign,
    beat,
    changes,
    complete,
    completion_entry,
    make_task,
    settle,
    submit,
)


def pace_of(pool: Pool, agent: str) -> Pace:
    return Pace.read(pool.client.hget(pool.keys.agent(agent), "pace"))


def fail(pool: Pool, agent: str, name: str, times: int) -> None:
    for i in range(times):
        submit(pool, make_task(f"{name}{i}", max_failures=1))
        assign(pool, f"{name}{i}", agent)
        complete(pool, f"{name}{i}", "failed")


@pytest.mark.parametrize("first", ["rejected", "released", "cancelled"])
def test_what_teaches_nothing_leaves_the_pace_for_what_comes_after_it(
    virtual_pool: Pool, clock: Clock, first: str
) -> None:
    beat(virtual_pool, "a1", max_concurrent=2)
    for i in range(24):
        run(virtual_pool, clock, f"t{i}", 60_000)
    before = pace_of(virtual_pool, "a1")
    own = virtual_pool.client.hget(virtual_pool.keys.agent("a1"), "pace:general") or ""
    submit(virtual_pool, "x", "y")
    assign(virtual_pool, "x")
    assign(virtual_pool, "y")
    clock.advance(60)
    entries = completion_entry(virtual_pool, "x", first), completion_entry(virtual_pool, "y")

    settle(virtual_pool, *entries)

    after = pace_of(virtual_pool, "a1")
    assert (after.n, after.tries, after.categories) == (before.n + 1, before.tries + 1, 1)
    known = virtual_pool.client.hget(virtual_pool.keys.agent("a1"), "pace:general") or ""
    assert int(known.split()[0]) == int(own.split()[0]) + 1
    sound(virtual_pool)


def test_who_stopped_as_the_last_of_its_class_teaches_nothing(
    virtual_pool: Pool, clock: Clock
) -> None:
    """Its class has no definition any more, so nobody knows how fast it said it was."""
    beat(virtual_pool, "plain")
    beat(virtual_pool, "fast", speed=8.0, max_concurrent=2)
    for i in range(24):
        run(virtual_pool, clock, f"p{i}", 800_000, "plain")
        run(virtual_pool, clock, f"f{i}", 100_000, "fast")
    submit(virtual_pool, "x", "y", "z")
    assign(virtual_pool, "x", "fast")
    assign(virtual_pool, "y", "fast")
    assign(virtual_pool, "z", "plain")
    clock.advance(100)
    late = [completion_entry(virtual_pool, name, duration_ms=100_000) for name in ("x", "y")]
    other = completion_entry(virtual_pool, "z", "failed")
    beat(virtual_pool, "fast", speed=8.0, max_concurrent=2, mode="stopped")

    with changes(virtual_pool) as seen:
        assert settle(virtual_pool, *late) == ["ok", "ok"]
    assert seen.learned == {}
    with changes(virtual_pool) as seen:
        assert settle(virtual_pool, other) == ["retry"]
    assert set(seen.learned) == {"agent:plain pace"}
    submit(virtual_pool, "new")
    assert stored(virtual_pool, "new").mean_ms == pytest.approx(800_000, rel=0.02)
    assert class_of(virtual_pool, "plain").learned == ()
    sound(virtual_pool)


def test_the_last_of_a_class_may_leave_it_however_many_classes_there_are(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool, "alone", skills={"go": 1})
    for i in range(20):
        run(virtual_pool, clock, f"t{i}", 60_000, "alone")
    others = {f"v1{n:014x}": "1" for n in range(200)}
    virtual_pool.client.hset(virtual_pool.keys.classn, mapping=others)

    fail(virtual_pool, "alone", "bad", 40)
    assert dict(class_of(virtual_pool, "alone").learned)[""] <= -3
    assert virtual_pool.client.hlen(virtual_pool.keys.classn) == 201
    virtual_pool.client.hdel(virtual_pool.keys.classn, *others)
    sound(virtual_pool)


def test_the_class_that_was_declared_is_open_however_many_classes_there_are(
    virtual_pool: Pool, clock: Clock
) -> None:
    for agent in ("one", "two"):
        beat(virtual_pool, agent)
        run(virtual_pool, clock, agent, 60_000, agent)
        fail(virtual_pool, agent, f"bad-{agent}", 9)
    learned = virtual_pool.client.hget(virtual_pool.keys.agent("one"), "class") or ""
    assert class_of(virtual_pool, "one") == class_of(virtual_pool, "two")
    assert class_of(virtual_pool, "one").learned == (("", -3),)
    others = {f"v1{n:014x}": "1" for n in range(200)}
    virtual_pool.client.hset(virtual_pool.keys.classn, mapping=others)
    # So well that it counts as fast as it says at once: a step between has no room.
    virtual_pool.client.hset(virtual_pool.keys.agent("one"), "pace", "8 0 200 10000 1")

    run(virtual_pool, clock, "last", 60_000, "one")

    assert class_of(virtual_pool, "one").learned == ()
    assert virtual_pool.client.hget(virtual_pool.keys.classn, learned) == "1"
    virtual_pool.client.hdel(virtual_pool.keys.classn, *others)
    sound(virtual_pool)
