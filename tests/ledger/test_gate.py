"""Whoever fails nearly all that it tries is shut out while others could have the work, and probed now and then."""

from __future__ import annotations

import random
from typing import Any

import pytest
import redis

from balancer.core.lanes import Gate
from balancer.core.pace import CAP_TRIES, TRIES_JUDGED, Pace, next_gate, shut_s
from balancer.core.settings import STRATEGY_NAMES, PoolSettings
from balancer.ledger import Pool
from balancer.ledger import beat as beats
from balancer.ledger.agent_set import Verb, agent_set
from balancer.ledger.configure import configure
from balancer.ledger.due import due
from balancer.ledger.read_fleet import agents_by_id
from balancer.ledger.timeout import timeout
from tests.ledger.test_effort import class_of
from tests.ledger.test_pace import sound
from tests.ledger.test_pace_ends import fail, pace_of
from tests.support.factories import (
    Clock,
    assign,
    beat,
    beat_entry,
    changes,
    complete,
    completion_entry,
    drain,
    heartbeat,
    make_task,
    nonce,
    settle,
    submit,
)

LOW = TRIES_JUDGED


def gate_of(pool: Pool, agent: str = "bad") -> Gate:
    (shown,) = agents_by_id(pool, [agent])
    assert shown
    # Stopped ones have no definition left.
    assert shown.gate is class_of(pool, agent).gate
    return shown.gate


def shut(pool: Pool, clock: Clock, speed: float = 1.0) -> None:
    """`good` is live; `bad`, of four units and this speed, has failed too often."""
    beat(pool, "good", max_concurrent=5)
    beat(pool, "bad", max_concurrent=4, speed=speed)
    fail(pool, "bad", "f", LOW)
    assert gate_of(pool) is Gate.SHUT
    clock.advance(1)


def probed(pool: Pool, clock: Clock, speed: float = 1.0) -> None:
    """The same, and `bad` is given its one task."""
    shut(pool, clock, speed)
    clock.advance(60)
    beat(pool, "good", max_concurrent=5)
    assert beat(pool, "bad", max_concurrent=4, speed=speed) == "changed"
    assert gate_of(pool) is Gate.PROBE


def test_it_is_shut_out_after_enough_failures_and_not_before(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool, "bad")
    beat(virtual_pool, "good")
    fail(virtual_pool, "bad", "f", LOW - 1)
    assert gate_of(virtual_pool) is Gate.OPEN
    submit(virtual_pool, make_task("last", max_failures=1))
    assign(virtual_pool, "last", "bad")
    entry = completion_entry(virtual_pool, "last", "failed")

    with changes(virtual_pool) as seen:
        assert settle(virtual_pool, entry) == ["dead"]

    assert ("agent_failing", "", "bad", str(LOW)) in seen.events
    assert gate_of(virtual_pool) is Gate.SHUT
    (shown,) = agents_by_id(virtual_pool, ["bad"])
    assert shown
    assert (shown.tries, shown.success, shown.learned_speeds) == (LOW, 0.0, {})
    assert gate_of(virtual_pool, "good") is Gate.OPEN
    sound(virtual_pool)
    with changes(virtual_pool) as seen:
        assert settle(virtual_pool, entry) == ["duplicate"]
    assert not [name for name in seen.learned if name.startswith("agent")]
    assert not [name for name in seen.state if "class" in name]


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_it_gets_nothing_while_others_could_have_the_task(
    redis_client: redis.Redis, clock: Clock, strategy: str
) -> None:
    pool = Pool.create(redis_client, "p", PoolSettings(strategy=strategy, seed=3), clock=clock)
    shut(pool, clock)
    submit(pool, "t1", "t2", "t3", "t4", "t5", "t6", "t7")

    assert set(drain(pool).values()) == {"good"}, "five units of its own"
    assert drain(pool) == {}, "the good one is full; the other has four units free"

    complete(pool, "t1")
    assert drain(pool) == {"t6": "good"}
    # Whoever could have it must accept work: then nobody else is left.
    beat(pool, "good", max_concurrent=5, mode="stopping")
    assert drain(pool) == {"t7": "bad"}
    sound(pool)


def test_nobody_is_shut_out_where_all_fail(virtual_pool: Pool, clock: Clock) -> None:
    """Tasks never wait for ever: it may be they that are broken."""
    shut(virtual_pool, clock)
    fail(virtual_pool, "good", "g", LOW)
    assert gate_of(virtual_pool, "good") is Gate.SHUT
    submit(virtual_pool, *(f"t{n}" for n in range(10)))

    assert sorted(drain(virtual_pool).values()) == 4 * ["bad"] + 5 * ["good"]

    # Neither does one that is probed keep the others out, nor has it one task only.
    for n in range(9):
        complete(virtual_pool, f"t{n}", "released")
    clock.advance(60)
    beat(virtual_pool, "bad", max_concurrent=4)
    beat(virtual_pool, "good", max_concurrent=5)
    assert (gate_of(virtual_pool), gate_of(virtual_pool, "good")) == (Gate.PROBE, Gate.PROBE)
    assert sorted(drain(virtual_pool).values()) == 4 * ["bad"] + 5 * ["good"]
    sound(virtual_pool)


def test_it_may_have_what_nobody_else_could(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool, "good")
    beat(virtual_pool, "bad", skills={"go": 1})
    fail(virtual_pool, "bad", "f", LOW)
    submit(virtual_pool, "plain", make_task("skilled", requires={"go": 1}))

    assert drain(virtual_pool) == {"plain": "good", "skilled": "bad"}


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_one_that_is_probed_may_have_all_that_nobody_else_could(
    redis_client: redis.Redis, clock: Clock, strategy: str
) -> None:
    """And of the rest one task, while it holds nothing: no less than one that is shut out."""
    pool = Pool.create(redis_client, "p", PoolSettings(strategy=strategy, seed=3), clock=clock)
    skilled: dict[str, Any] = {"skills": {"go": 1}, "max_concurrent": 6}
    beat(pool, "good", max_concurrent=2)
    beat(pool, "bad", **skilled)
    fail(pool, "bad", "f", LOW)
    names = [f"s{n}" for n in range(3)]
    submit(pool, *(make_task(name, requires={"go": 1}) for name in names))
    assert drain(pool) == dict.fromkeys(names, "bad")
    for name in names:
        complete(pool, name, "rejected")
    clock.advance(60)
    beat(pool, "good", max_concurrent=2)
    assert beat(pool, "bad", **skilled) == "changed"
    assert gate_of(pool) is Gate.PROBE

    assert drain(pool) == dict.fromkeys(names, "bad")
    # Of cost 3, nobody else could have it either; and it has just that many left.
    submit(pool, *(f"t{n}" for n in range(4)), make_task("large", cost=3))
    granted = drain(pool)
    assert granted.pop("large") == "bad"
    assert sorted(granted.values()) == ["good", "good"]
    assert drain(pool) == {}
    sound(pool)


def test_a_task_that_failed_on_all_others_goes_to_them_again(
    virtual_pool: Pool, clock: Clock
) -> None:
    """It does not wait for the one that is shut out: that one is nobody who could have it."""
    shut(virtual_pool, clock)
    submit(virtual_pool, make_task("t1", max_failures=9))
    assign(virtual_pool, "t1", "good")
    complete(virtual_pool, "t1", "failed")
    clock.advance(10)
    due(virtual_pool)

    assert drain(virtual_pool) == {"t1": "good"}


@pytest.mark.parametrize("is_fast", [True, False])
def test_nobody_waits_for_more_of_one_that_is_probed(
    redis_client: redis.Redis, clock: Clock, is_fast: bool
) -> None:
    """However many units it has, and however fast it says it is: the guard counts on others."""
    pool = Pool.create(redis_client, "p", PoolSettings(strategy="fit"), clock=clock)
    probed(pool, clock, speed=3.0 if is_fast else 1.0)
    submit(pool, *(make_task(f"t{n}", estimate_s=3_600) for n in range(6)))

    granted = drain(pool)

    assert sorted(granted.values()) == ["bad", *5 * ["good"]]
    assert drain(pool) == {}
    sound(pool)


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_a_task_that_failed_on_all_others_does_not_wait_for_the_end_of_a_probe(
    redis_client: redis.Redis, clock: Clock, strategy: str
) -> None:
    pool = Pool.create(redis_client, "p", PoolSettings(strategy=strategy, seed=3), clock=clock)
    probed(pool, clock)
    submit(pool, "probe", make_task("t1", max_failures=9))
    assign(pool, "probe", "bad")
    assign(pool, "t1", "good")
    complete(pool, "t1", "failed")
    clock.advance(10)
    due(pool)

    assert drain(pool) == {"t1": "good"}
    assert gate_of(pool) is Gate.PROBE
    sound(pool)


def test_after_a_minute_it_gets_one_task_and_no_more(virtual_pool: Pool, clock: Clock) -> None:
    shut(virtual_pool, clock)
    clock.advance(58)
    assert beat(virtual_pool, "bad", max_concurrent=4) == "ok"
    clock.advance(1)
    entry = beat_entry(virtual_pool, heartbeat("bad", max_concurrent=4))
    assert [one.value for one in beats.beat(virtual_pool, [entry], caught_up=True)] == ["changed"]
    assert gate_of(virtual_pool) is Gate.PROBE
    with changes(virtual_pool) as seen:
        assert [one.value for one in beats.beat(virtual_pool, [entry], caught_up=True)] == ["stale"]
    assert not [name for name in seen.state if "class" in name]
    beat(virtual_pool, "good", max_concurrent=5)
    submit(virtual_pool, *(f"t{n}" for n in range(8)))

    assert sorted(drain(virtual_pool).values()) == ["bad", *5 * ["good"]]
    assert drain(virtual_pool) == {}
    sound(virtual_pool)


def test_what_its_agent_or_an_operator_changes_does_not_put_the_probe_off(
    virtual_pool: Pool, clock: Clock
) -> None:
    """Only tries do."""
    shut(virtual_pool, clock)
    for n in range(58):
        clock.advance(1)
        assert beat(virtual_pool, "bad", max_concurrent=5 - n % 2) == "changed"
        agent_set(virtual_pool, "bad", Verb.PAUSE)
        agent_set(virtual_pool, "bad", Verb.RESUME)
        beat(virtual_pool, "bad", max_concurrent=5 - n % 2, mode="stopping")
        assert gate_of(virtual_pool) is Gate.SHUT
    clock.advance(1)

    assert beat(virtual_pool, "bad", max_concurrent=5) == "changed"

    assert gate_of(virtual_pool) is Gate.PROBE
    sound(virtual_pool)


def test_who_holds_something_is_not_probed(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool, "good")
    beat(virtual_pool, "bad", max_concurrent=4)
    submit(virtual_pool, "held")
    assign(virtual_pool, "held", "bad")
    fail(virtual_pool, "bad", "f", LOW)
    clock.advance(100)

    assert beat(virtual_pool, "bad", max_concurrent=4) == "ok"
    assert gate_of(virtual_pool) is Gate.SHUT


def test_a_bad_probe_shuts_nobody_out_once_there_is_no_gate(
    virtual_pool: Pool, clock: Clock
) -> None:
    probed(virtual_pool, clock)
    configure(virtual_pool, virtual_pool.settings.model_copy(update={"min_success": 0.0}))
    assert complete_one(virtual_pool, "failed") is Gate.OPEN


def test_a_good_probe_clears_it(virtual_pool: Pool, clock: Clock) -> None:
    probed(virtual_pool, clock)
    submit(virtual_pool, "t1")
    assign(virtual_pool, "t1", "bad")
    entry = completion_entry(virtual_pool, "t1")

    with changes(virtual_pool) as seen:
        assert settle(virtual_pool, entry) == ["ok"]

    assert ("agent_trusted", "", "bad", "0") in seen.events
    assert gate_of(virtual_pool) is Gate.OPEN
    assert pace_of(virtual_pool, "bad")._replace(n=0, mean=0, categories=0) == Pace()
    submit(virtual_pool, *(f"u{n}" for n in range(9)))
    assert sorted(drain(virtual_pool).values()) == 4 * ["bad"] + 5 * ["good"]
    sound(virtual_pool)
    with changes(virtual_pool) as seen:
        assert settle(virtual_pool, entry) == ["duplicate"]
    assert not seen.learned


@pytest.mark.parametrize("how", ["failed", "timeout"])
def test_each_bad_probe_shuts_it_out_for_twice_as_long(
    virtual_pool: Pool, clock: Clock, how: str
) -> None:
    shut(virtual_pool, clock)
    waits = []
    for n in range(7):
        since_s = clock.now_us / 1e6
        while gate_of(virtual_pool) is Gate.SHUT:
            clock.advance(20)
            beat(virtual_pool, "bad", max_concurrent=4)
            beat(virtual_pool, "good", max_concurrent=5)
        waits.append(clock.now_us / 1e6 - since_s)
        submit(virtual_pool, make_task(f"p{n}", max_failures=1, run_timeout_s=1))
        assign(virtual_pool, f"p{n}", "bad")
        if how == "failed":
            complete(virtual_pool, f"p{n}", "failed")
        else:
            clock.advance(6)
            assert timeout(virtual_pool).dead == 1
        assert gate_of(virtual_pool) is Gate.SHUT

    assert waits == pytest.approx([60, 120, 240, 480, 960, 1_800, 1_800], abs=21)
    assert [shut_s(n) for n in range(7)] == [60, 120, 240, 480, 960, 1_800, 1_800]
    sound(virtual_pool)


@pytest.mark.parametrize("how", ["failed", "completed"])
def test_a_probe_counts_in_a_call_of_any_size(virtual_pool: Pool, clock: Clock, how: str) -> None:
    """Of other tries of a large call, one in sixteen shows its agent's pace."""
    probed(virtual_pool, clock)
    beat(virtual_pool, "many", max_concurrent=40)
    names = [f"t{n}" for n in range(40)]
    submit(virtual_pool, make_task("p", max_failures=1), *names)
    unlikely = next(n for n in range(99) if nonce(n) >= "1")
    assign(virtual_pool, "p", "bad", unlikely)
    for name in names:
        assign(virtual_pool, name, "many")
    entries = [completion_entry(virtual_pool, name) for name in names]
    entries.insert(20, completion_entry(virtual_pool, "p", how))

    assert settle(virtual_pool, *entries).count("ok") == 40 + (how == "completed")

    assert gate_of(virtual_pool) is (Gate.OPEN if how == "completed" else Gate.SHUT)
    assert pace_of(virtual_pool, "many").tries < 40
    sound(virtual_pool)
    with changes(virtual_pool) as seen:
        assert set(settle(virtual_pool, *entries)) == {"duplicate"}
    assert not seen.learned


def test_what_says_nothing_of_the_probe_leaves_it_open(virtual_pool: Pool, clock: Clock) -> None:
    probed(virtual_pool, clock)
    for n, how in enumerate(("rejected", "released")):
        submit(virtual_pool, f"t{n}")
        assign(virtual_pool, f"t{n}", "bad")
        complete(virtual_pool, f"t{n}", how)
        assert gate_of(virtual_pool) is Gate.PROBE


def test_a_restart_keeps_the_gate_and_has_it_tried_soon(virtual_pool: Pool, clock: Clock) -> None:
    probed(virtual_pool, clock)
    for n in range(4):
        submit(virtual_pool, make_task(f"p{n}", max_failures=1))
        assign(virtual_pool, f"p{n}", "bad")
        complete(virtual_pool, f"p{n}", "failed")
        clock.advance(shut_s(n + 1))
        beat(virtual_pool, "bad", max_concurrent=4)
    assert complete_one(virtual_pool, "failed") is Gate.SHUT

    clock.advance(40)
    assert beat(virtual_pool, "bad", 2, start=True, max_concurrent=4) == "new_boot"
    assert gate_of(virtual_pool) is Gate.SHUT
    clock.advance(21)
    assert beat(virtual_pool, "bad", boot=2, max_concurrent=4) == "changed"
    assert gate_of(virtual_pool) is Gate.PROBE
    assert complete_one(virtual_pool, "completed") is Gate.OPEN
    sound(virtual_pool)


def complete_one(pool: Pool, status: str) -> Gate:
    submit(pool, make_task(f"one-{status}", max_failures=1))
    assign(pool, f"one-{status}", "bad")
    complete(pool, f"one-{status}", status)
    return gate_of(pool)


def test_whoever_declares_other_speeds_is_somebody_else(virtual_pool: Pool, clock: Clock) -> None:
    shut(virtual_pool, clock)

    beat(virtual_pool, "bad", max_concurrent=4, speed=2.0)

    assert gate_of(virtual_pool) is Gate.OPEN
    assert pace_of(virtual_pool, "bad") == Pace()
    assert not virtual_pool.client.hexists(virtual_pool.keys.agent("bad"), "pace_probes")


def test_more_units_or_skills_do_not_open_it(virtual_pool: Pool, clock: Clock) -> None:
    shut(virtual_pool, clock)

    beat(virtual_pool, "bad", max_concurrent=6, skills={"go": 2})

    assert gate_of(virtual_pool) is Gate.SHUT
    assert class_of(virtual_pool, "bad").max_concurrent == 6
    sound(virtual_pool)


def test_it_comes_back_by_what_it_still_holds(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool, "good")
    beat(virtual_pool, "bad", max_concurrent=30)
    submit(virtual_pool, *(f"h{n}" for n in range(8)))
    for n in range(8):
        assign(virtual_pool, f"h{n}", "bad")
    fail(virtual_pool, "bad", "f", LOW)
    gates = []
    for n in range(8):
        complete(virtual_pool, f"h{n}")
        gates.append(gate_of(virtual_pool))

    assert gates == 5 * [Gate.SHUT] + 3 * [Gate.OPEN], "6 of 26 are more than a fifth"
    sound(virtual_pool)


@pytest.mark.parametrize("changes_", [{"min_success": 0.0}, {"learning": False}])
def test_without_the_gate_nobody_is_shut_out(
    virtual_pool: Pool, clock: Clock, changes_: dict[str, float]
) -> None:
    shut(virtual_pool, clock)
    configure(virtual_pool, virtual_pool.settings.model_copy(update=changes_))
    submit(virtual_pool, *(f"t{n}" for n in range(9)))

    assert sorted(drain(virtual_pool).values()) == 4 * ["bad"] + 5 * ["good"]
    if "min_success" in changes_:
        complete(virtual_pool, next(iter(held(virtual_pool, "bad"))), "failed")
        assert gate_of(virtual_pool) is Gate.OPEN
    sound(virtual_pool)


def held(pool: Pool, agent: str) -> list[str]:
    return [record.split()[0] for record in pool.client.hvals(pool.keys.held(agent))]


def test_the_gate_in_redis_is_that_of_the_twin(virtual_pool: Pool, clock: Clock) -> None:
    rng = random.Random(5)
    beat(virtual_pool, "good")
    beat(virtual_pool, "bad")
    pace, gate, seen = Pace(), Gate.OPEN, set()
    for n in range(260):
        is_good = rng.random() < (0.9 if 120 < n < 180 else 0.05)
        submit(virtual_pool, make_task(f"t{n}", max_failures=1))
        assign(virtual_pool, f"t{n}", "bad")
        complete(virtual_pool, f"t{n}", "completed" if is_good else "failed")
        pace = pace.tried(is_good)
        before, gate = gate, next_gate(gate, pace, is_good, 0.2)
        if before is Gate.PROBE and gate is Gate.OPEN:
            pace = Pace()
        assert gate_of(virtual_pool) is gate
        known = pace_of(virtual_pool, "bad")
        assert known.tries == pace.tries
        assert known.share == pytest.approx(pace.share, abs=0.002)
        seen.add((before, gate))
        if gate is Gate.SHUT and n % 7 == 0:
            clock.advance(1_800)
            beat(virtual_pool, "bad")
            gate = gate_of(virtual_pool)
            assert gate is Gate.PROBE
    assert pace.tries <= CAP_TRIES
    assert len(seen) >= 5, seen
    sound(virtual_pool)
