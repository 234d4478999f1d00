"""What must not spoil, freeze or make up an agent's pace."""

from __future__ import annotations

import json

import pytest

from balancer.core.pace import CAP_TRIES, MIN_STEPS, Pace, ease
from balancer.ledger import Pool
from balancer.ledger import beat as beats
from balancer.ledger.configure import configure
from tests.ledger.test_effort import class_of, run, stored
from tests.ledger.test_pace import sound
from tests.support.factories import (
    Clock,
    assign,
    beat,
    beat_entry,
    changes,
    complete,
    completion_entry,
    heartbeat,
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


def test_an_agent_that_fails_everything_ends_at_the_slowest(
    virtual_pool: Pool, clock: Clock
) -> None:
    """Where nobody is shut out for it."""
    configure(virtual_pool, virtual_pool.settings.model_copy(update={"min_success": 0.0}))
    for agent in ("good", "bad"):
        beat(virtual_pool, agent)
    run(virtual_pool, clock, "t1", 60_000, "good")

    fail(virtual_pool, "bad", "b", 60)

    assert class_of(virtual_pool, "bad").learned == (("", MIN_STEPS),)
    assert pace_of(virtual_pool, "bad").tries == CAP_TRIES
    assert class_of(virtual_pool, "bad").speed_of("general") < 0.2


def test_a_call_eases_few_and_the_next_heartbeats_do_the_rest(
    virtual_pool: Pool, clock: Clock
) -> None:
    """A fleet that was idle for long comes back in several calls, or one of them would take too long."""
    keys, names = virtual_pool.keys, [f"a{n:02}" for n in range(45)]

    def all_beat() -> int:
        said = [beat_entry(virtual_pool, heartbeat(name)) for name in names]
        return sum(one == "changed" for one in beats.beat(virtual_pool, said, caught_up=True))

    all_beat()
    for name in names:
        pace = {"pace": "200 -9000 50 9000 1", "pace:general": "151 -9000", "learned": '"":-4'}
        virtual_pool.client.hset(keys.agent(name), mapping=pace)
    assert all_beat() == 45
    clock.advance(1_900)

    assert [all_beat() for _ in range(4)] == [20, 20, 5, 0]

    for name in names:
        stored = virtual_pool.client.hgetall(keys.agent(name))
        assert class_of(virtual_pool, name).learned == (("", -3),)
        assert (stored["pace"], stored["pace:general"]) == ("100 -9000 25 9000 1", "75 -9000")
    sound(virtual_pool)


def test_who_counts_as_slow_and_is_not_tried_for_long_comes_back_step_by_step(
    virtual_pool: Pool, clock: Clock
) -> None:
    agent = virtual_pool.keys.agent("bad")
    beat(virtual_pool, "bad")
    beat(virtual_pool, "good")
    for i in range(30):
        run(virtual_pool, clock, f"t{i}", 60_000, "bad")
    fail(virtual_pool, "bad", "b", 40)
    (learned,) = class_of(virtual_pool, "bad").learned
    assert learned[1] < -2
    before = pace_of(virtual_pool, "bad")
    own = virtual_pool.client.hget(agent, "pace:general") or ""

    clock.advance(1_799)
    assert beat(virtual_pool, "bad") == "ok"
    clock.advance(1)
    entry = beat_entry(virtual_pool, heartbeat("bad"))
    assert [one.value for one in beats.beat(virtual_pool, [entry], caught_up=True)] == ["changed"]
    assert class_of(virtual_pool, "bad").learned == (("", learned[1] + 1),)
    after = pace_of(virtual_pool, "bad")
    assert after == before._replace(n=before.n // 2, tries=before.tries // 2)
    n, mean = own.split(" ")
    assert virtual_pool.client.hget(agent, "pace:general") == f"{int(n) // 2} {mean}"
    assert class_of(virtual_pool, "good").learned == ()
    sound(virtual_pool)

    # Once in half an hour, and a heartbeat that comes twice is old.
    with changes(virtual_pool) as seen:
        assert [one.value for one in beats.beat(virtual_pool, [entry], caught_up=True)] == ["stale"]
    assert not [name for name in seen.state if "class" in name or "pace" in name]
    assert beat(virtual_pool, "bad") == "ok"
    steps = [learned[1] + 1]
    while steps[-1] < 0:
        clock.advance(1_800)
        assert beat(virtual_pool, "bad") == "changed"
        steps.append(dict(class_of(virtual_pool, "bad").learned).get("", 0))
    assert steps == list(range(learned[1] + 1, 1))
    clock.advance(1_800)
    assert beat(virtual_pool, "bad") == "ok"
    sound(virtual_pool)


def test_what_its_agent_changes_does_not_keep_it_slow(virtual_pool: Pool, clock: Clock) -> None:
    """Nor does it count as a try: only those put off that what was learned is eased."""
    beat(virtual_pool, "bad", max_concurrent=2)
    for i in range(30):
        run(virtual_pool, clock, f"t{i}", 60_000, "bad")
    fail(virtual_pool, "bad", "b", 15)
    (before,) = class_of(virtual_pool, "bad").learned
    clock.advance(1_000)
    fail(virtual_pool, "bad", "c", 1)
    assert class_of(virtual_pool, "bad").learned == (before,)
    for n in range(18):
        clock.advance(99)
        assert beat(virtual_pool, "bad", max_concurrent=3 - n % 2) == "changed"
        assert class_of(virtual_pool, "bad").learned == (before,)
    clock.advance(18)

    beat(virtual_pool, "bad", max_concurrent=3)

    assert dict(class_of(virtual_pool, "bad").learned).get("", 0) == before[1] + 1
    sound(virtual_pool)


def test_who_holds_a_task_or_works_where_tries_take_long_is_not_idle(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool, "bad")
    run(virtual_pool, clock, "t1", 360_000, "bad")
    fail(virtual_pool, "bad", "b", 18)
    learned = class_of(virtual_pool, "bad").learned

    clock.advance(20 * 360 - 1)
    assert beat(virtual_pool, "bad") == "ok"
    submit(virtual_pool, "held")
    assign(virtual_pool, "held", "bad")
    clock.advance(1_000)
    assert beat(virtual_pool, "bad") == "ok"

    assert class_of(virtual_pool, "bad").learned == learned


def test_easing_touches_what_is_slower_only() -> None:
    assert ease({"": -1}) == {}
    assert ease({"": -3, "a": -2, "b": -4, "c": 2}) == {"": -2, "a": -1, "b": -3, "c": 2}
    assert ease({"": -2, "a": -1}) == {"": -1, "a": 0}
    assert ease({"": -1, "a": 0, "b": 1}) == {"b": 1}
    assert ease({"": 2, "a": -1}) == {"": 2, "a": 0}


@pytest.mark.parametrize(
    "learned", ['"":-3,"a":-2,"b":-4,"c":2', '"":-1,"a":0,"b":1', '"":2,"a":-1', '"a":-1,"b":3']
)
def test_easing_in_redis_is_that_of_the_twin(
    virtual_pool: Pool, clock: Clock, learned: str
) -> None:
    beat(virtual_pool)
    virtual_pool.client.hset(virtual_pool.keys.agent("a1"), "learned", learned)
    beat(virtual_pool)
    assert class_of(virtual_pool, "a1").learned == tuple(json.loads("{" + learned + "}").items())

    clock.advance(1_800)
    beat(virtual_pool)

    eased = ease(json.loads("{" + learned + "}"))
    assert dict(class_of(virtual_pool, "a1").learned) == eased
    assert class_of(virtual_pool, "a1").learned == tuple(sorted(eased.items()))
    sound(virtual_pool)
