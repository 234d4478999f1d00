"""The script `tick`: what time alone changes; and that no clock kills an agent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from balancer.ledger import Pool
from balancer.ledger import beat as beats
from balancer.ledger import tick as ticks
from balancer.ledger.reclaim import reclaim
from balancer.ledger.tick import tick
from tests.support.factories import (
    NOW_MS,
    Clock,
    assert_bad_argument,
    assert_guarded,
    assign,
    beat,
    beat_entry,
    changes,
    complete,
    entries,
    fields,
    heartbeat,
    make_task,
    populate,
    submit,
)

NAMES = [f"a{n}" for n in range(20)]


@pytest.fixture
def fleet(virtual_pool: Pool, clock: Clock) -> Pool:
    """Twenty agents that heartbeat, and a sweeper that has run for a minute."""
    for _ in range(13):
        heartbeats(virtual_pool)
        tick(virtual_pool)
        clock.advance(5)
    return virtual_pool


def heartbeats(pool: Pool, *names: str, caught_up: bool = True) -> None:
    for name in names or NAMES:
        beat(pool, name, caught_up=caught_up)


def sweep(pool: Pool) -> set[str]:
    """One sweep: the agents that it found lost."""
    return {name for name in tick(pool).agents if reclaim(pool, name).outcome == "lost"}


def minutes(pool: Pool, clock: Clock, count: float, *names: str) -> set[str]:
    """Time passes with heartbeats (of `names` only) and sweeps; the agents found lost."""
    lost: set[str] = set()
    for _ in range(round(12 * count)):
        clock.advance(5)
        heartbeats(pool, *names)
        lost |= sweep(pool)
    return lost


def test_tick_writes_its_time_and_nothing_else(virtual_pool: Pool, clock: Clock) -> None:
    populate(virtual_pool)
    clock.advance(1)

    with changes(virtual_pool) as seen:
        assert tick(virtual_pool) == (False, False, False, False, [], False, False, False, 1)

    assert seen.state == {"meta last_tick_ms": str(NOW_MS + 1_000)}
    with changes(virtual_pool) as again:
        assert tick(virtual_pool) == (False, False, False, False, [], False, False, False, 1)
    assert again.nothing


def test_tick_says_what_is_due(virtual_pool: Pool, clock: Clock) -> None:
    submit(
        virtual_pool, "t1", make_task("t2", run_timeout_s=5), make_task("child", depends_on=("t3",))
    )
    submit(virtual_pool, "t3", make_task("child", depends_on=("t3",)))
    beat(virtual_pool, max_concurrent=3)
    for task in ("t1", "t2", "t3"):
        assign(virtual_pool, task)
    complete(virtual_pool, "t1", "failed")
    assert tick(virtual_pool) == (False, False, False, False, [], False, False, False, 1)

    complete(virtual_pool, "t3")
    assert tick(virtual_pool) == (False, False, False, True, [], False, False, False, 1)
    clock.advance(5)
    assert tick(virtual_pool) == (False, True, True, True, [], False, False, False, 1)
    clock.advance(9.999)
    assert tick(virtual_pool).agents == []
    clock.advance(0.001)
    assert tick(virtual_pool).agents == ["a1"]


def test_tick_names_at_most_two_hundred_agents_the_longest_due_first(virtual_pool: Pool) -> None:
    for n in range(250):
        virtual_pool.client.zadd(virtual_pool.keys.agent_timers, {f"g{n:03}": n})

    assert tick(virtual_pool).agents == [f"g{n:03}" for n in range(200)]


def test_tick_trims_old_heartbeats(virtual_pool: Pool, clock: Clock) -> None:
    for n in range(300):
        virtual_pool.client.xadd(
            virtual_pool.keys.heartbeats, {"n": n}, id=f"{NOW_MS + 1000 * n}-0"
        )
    clock.advance(750)

    tick(virtual_pool)

    left = [int(fields["n"]) for _, fields in entries(virtual_pool, virtual_pool.keys.heartbeats)]
    assert left == list(range(left[0], 300))
    assert 0 < left[0] <= 150, "whole nodes go, nothing younger than ten minutes"


def test_silent_agent_is_found(fleet: Pool, clock: Clock) -> None:
    """The control of all that follows: without a jump, silence is judged."""
    assert minutes(fleet, clock, 0.5, *NAMES[1:]) == {"a0"}


def test_stalled_consumer_kills_nobody(fleet: Pool, clock: Clock) -> None:
    """Ten minutes in which nobody applied heartbeats, though the sweeper went on."""
    for _ in range(120):
        clock.advance(5)
        assert sweep(fleet) == set()

    heartbeats(fleet)
    assert sweep(fleet) == set()
    assert minutes(fleet, clock, 1) == set()


def test_consumer_that_works_off_a_backlog_kills_nobody(fleet: Pool, clock: Clock) -> None:
    """All agents were heard of within each page: the mark moves with them, not with the clock."""
    backlog: list[beats.BeatEntry] = []
    for _ in range(60):
        clock.advance(5)
        for name in NAMES:
            backlog.append(beat_entry(fleet, heartbeat(name)))
        assert sweep(fleet) == set()

    for at in range(0, len(backlog), len(NAMES)):
        beats.beat(fleet, backlog[at : at + len(NAMES)], caught_up=False)
        assert sweep(fleet) == set()


def test_redis_outage_kills_nobody(fleet: Pool, clock: Clock) -> None:
    """A minute without Redis: no heartbeats, no ticks; and the consumer is the first one back."""
    clock.advance(60)
    beats.beat(fleet, [], caught_up=True)

    answer = tick(fleet)

    assert answer.in_grace
    assert len(answer.agents) == 20
    assert {reclaim(fleet, name).outcome for name in answer.agents} == {"in_grace"}
    assert minutes(fleet, clock, 2) == set()


def test_an_outage_shorter_than_a_ttl_kills_nobody_who_comes_back_later_than_others(
    fleet: Pool, clock: Clock
) -> None:
    """Redis is away for nine seconds when its next heartbeat is due, and it backs off when others are back."""
    clock.advance(5)
    sweep(fleet)
    clock.advance(9)
    heartbeats(fleet, *NAMES[1:])
    assert sweep(fleet) == set()
    clock.advance(2)
    heartbeats(fleet, *NAMES[1:])

    assert sweep(fleet) == set()

    heartbeats(fleet)
    assert minutes(fleet, clock, 2) == set()


def test_agent_that_did_not_survive_the_outage_is_found_after_the_grace(
    fleet: Pool, clock: Clock
) -> None:
    clock.advance(60)
    beats.beat(fleet, [], caught_up=True)
    sweep(fleet)

    assert minutes(fleet, clock, 0.9, *NAMES[1:]) == set(), "60 s of grace for 60 s of outage"
    assert minutes(fleet, clock, 1, *NAMES[1:]) == {"a0"}


def test_clock_that_jumps_an_hour_ahead_kills_nobody(fleet: Pool, clock: Clock) -> None:
    clock.advance(3_600)
    beats.beat(fleet, [], caught_up=True)

    with changes(fleet) as seen:
        answer = tick(fleet)

    now_ms = clock.now_us // 1000
    assert answer.in_grace
    assert seen.state["meta grace_until_ms"] == str(now_ms + 300_000), "at most five minutes"
    assert {reclaim(fleet, name).outcome for name in answer.agents} == {"in_grace"}
    assert minutes(fleet, clock, 7) == set()
    assert minutes(fleet, clock, 0.5, *NAMES[1:]) == {"a0"}


def test_clock_that_jumps_two_hours_back_kills_nobody_and_keeps_nobody(
    fleet: Pool, clock: Clock
) -> None:
    """Times in the future would make everybody immortal for two hours."""
    clock.advance(-7_200)
    now_ms = clock.now_us // 1000

    with changes(fleet) as seen:
        answer = tick(fleet)

    assert answer.in_grace
    assert seen.state == {
        **{f"alive {name}": now_ms for name in NAMES},
        **{f"agent_timers {name}": now_ms for name in NAMES},
        **{f"agent:{name} beat_ms": str(now_ms) for name in NAMES},
        **fields("meta", last_tick_ms=str(now_ms), grace_until_ms=str(now_ms + 300_000)),
    }
    assert {reclaim(fleet, name).outcome for name in answer.agents} == {"alive"}
    assert minutes(fleet, clock, 6) == set()
    assert minutes(fleet, clock, 0.5, *NAMES[1:]) == {"a0"}


def test_clock_that_jumps_there_and_back_leaves_no_endless_grace(fleet: Pool, clock: Clock) -> None:
    clock.advance(86_400)
    tick(fleet)
    clock.advance(-86_400)
    tick(fleet)

    grace_ms = int(fleet.client.hget(fleet.keys.meta, "grace_until_ms") or 0) - clock.now_us // 1000
    assert 0 < grace_ms <= 300_000


def test_first_tick_of_a_pool_starts_no_grace(virtual_pool: Pool) -> None:
    assert not tick(virtual_pool).in_grace


@pytest.mark.parametrize(
    ("gap_s", "in_grace"), [(5, False), (5.001, True), (-2, False), (-2.001, True)]
)
def test_gap_starts_a_grace(virtual_pool: Pool, clock: Clock, gap_s: float, in_grace: bool) -> None:
    tick(virtual_pool)
    clock.advance(gap_s)

    assert tick(virtual_pool).in_grace is in_grace


def test_second_sweeper_agrees_about_the_grace(virtual_pool: Pool, clock: Clock) -> None:
    """Whoever ticks first after the gap decides it for all: the grace is in Redis."""
    tick(virtual_pool)
    clock.advance(60)

    assert tick(virtual_pool).in_grace
    clock.advance(1)
    assert tick(virtual_pool).in_grace
    clock.advance(60)
    other = Pool.open(virtual_pool.client, "p", clock)
    assert tick(other).in_grace, "60 s more is a gap of its own"


def test_tick_runs_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    """What it says leads to what frees memory."""
    beat(pool)
    seconds, _ = pool.client.time()
    pool.client.zadd(pool.keys.alive, {"a1": (seconds + 3_600) * 1000})
    pool.client.hset(pool.keys.agent("a1"), "beat_ms", (seconds + 3_600) * 1000)

    with out_of_memory():
        assert tick(pool).agents == ["a1"]


def test_tick_on_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    assert_guarded(virtual_pool, ticks.SCRIPT, [1, 1, 1_000])


def test_tick_on_a_real_pool_with_a_time_of_the_callers_writes_nothing(pool: Pool) -> None:
    populate(pool)
    assert_guarded(pool, ticks.SCRIPT, [1, 1, 1_000])


@pytest.mark.parametrize(
    "args",
    [
        [], [1, 1], ["nan", 1, 1_000], [-1, 1, 1_000], [604_800_001, 1, 1_000], [1, "0x10", 1_000], [1, "1e3", 1_000],
        [1, -1, 1_000], [1, 2**53, 1_000], [1, 1, 999], [1, 1, 604_800_001], [1, 1, "x"],
    ],
)  # fmt: skip
def test_tick_with_a_bad_argument_writes_nothing(virtual_pool: Pool, args: list[object]) -> None:
    populate(virtual_pool)
    assert_bad_argument(virtual_pool, ticks.SCRIPT, args)


def test_heartbeats_that_nobody_could_apply_start_a_grace(virtual_pool: Pool, clock: Clock) -> None:
    """Memory was full: agents could not send, consumers could not apply, ticks went on."""
    beat(virtual_pool, "a1")
    for _ in range(30):
        clock.advance(1)
        tick(virtual_pool)
    beats.beat(virtual_pool, [], caught_up=True)

    assert tick(virtual_pool).in_grace
    assert reclaim(virtual_pool, "a1").outcome == "in_grace"
    clock.advance(4)
    assert beat(virtual_pool, "a1") == "changed"
    for _ in range(12):
        clock.advance(1)
        beats.beat(virtual_pool, [], caught_up=True)
        answer = tick(virtual_pool)
    assert not answer.in_grace


def test_an_agent_that_is_gone_for_a_day_is_forgotten(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool, "a1")
    beat(virtual_pool, "a1", mode="stopped")
    clock.advance(86_399)
    tick(virtual_pool, gap_ms=10**12)
    assert virtual_pool.client.zscore(virtual_pool.keys.gone, "a1") is not None
    clock.advance(1)
    tick(virtual_pool, gap_ms=10**12)
    assert virtual_pool.client.zscore(virtual_pool.keys.gone, "a1") is None
    assert not virtual_pool.client.exists(virtual_pool.keys.agent("a1"))
    assert beat(virtual_pool, "a1") == "joined"
