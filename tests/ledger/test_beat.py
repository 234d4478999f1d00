"""The script `beat`: heartbeats are applied."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import redis

from balancer.core.lanes import AgentClass, class_definition
from balancer.core.settings import PoolSettings, RoleSettings
from balancer.ledger import Pool
from balancer.ledger import beat as beats
from balancer.ledger import reclaim as reclaims
from balancer.ledger import tick as ticks
from balancer.ledger.beat import BeatEntry
from balancer.protocol import Heartbeat
from tests.support.factories import (
    GONE,
    NOW_MS,
    NOW_US,
    Clock,
    assert_bad_argument,
    assert_guarded,
    assign,
    beat,
    beat_entry,
    boot_of,
    changes,
    commit,
    complete,
    drain,
    dump,
    entries,
    fields,
    heartbeat,
    make_task,
    nonce,
    populate,
    proposal,
    submit,
)


def class_of(max_concurrent: int, role: str = "dev", *specializations: str) -> tuple[str, str]:
    return class_definition(AgentClass(role, specializations, max_concurrent))


def agent(pool: Pool, id_: str = "a1") -> dict[str, str]:
    return dict(pool.client.hgetall(pool.keys.agent(id_)))


def apply(pool: Pool, *items: Heartbeat | BeatEntry, caught_up: bool = True) -> list[str]:
    sent = [item if isinstance(item, BeatEntry) else beat_entry(pool, item) for item in items]
    return [outcome.value for outcome in beats.beat(pool, sent, caught_up=caught_up)]


# --- coming, changing, going ---


def test_first_heartbeat_joins_the_agent(virtual_pool: Pool) -> None:
    hello = heartbeat(max_concurrent=4, type="build-agent", specializations=("ui", "bug"), seq=7)
    entry = beat_entry(virtual_pool, hello)
    cid, definition = class_of(4, "dev", "bug", "ui")

    with changes(virtual_pool) as seen:
        assert apply(virtual_pool, entry) == ["joined"]

    assert seen.state == {
        **fields(
            "agent:a1",
            role="dev",
            d="15000|5000|build-agent",
            specs="bug,ui",
            max="4",
            used="0",
            n="0",
        ),
        **fields(
            "agent:a1",
            boot=boot_of("a1"),
            boots=" ",
            seq="7",
            entry=entry.entry,
            mode="running",
            admin="",
        ),
        **fields("agent:a1", beat_ms=str(NOW_MS), state="live"),
        **{"agent:a1 class": cid, "agent:a1 freed_us": str(NOW_US)},
        "roles dev": True,
        f"classdef {cid}": definition,
        f"classn {cid}": "1",
        f"free:{cid} a1": NOW_MS,
        f"fc:dev {cid}": 4,
        f"capacity:dev {cid}": 4,
        "alive a1": NOW_MS,
        "agent_timers a1": NOW_MS + 15_000,
        **fields("role:dev", capacity="4", agents="1", fleet_ver="1"),
        **fields("pool", capacity="4", agents="1", heartbeats_joined="1"),
        "meta hb_mark_ms": str(NOW_MS),
        "wake": ["1"],
    }
    assert seen.events == [("agent_joined", "", "a1", "running")]


def test_skills_and_speeds_are_part_of_the_class_and_of_the_agent(virtual_pool: Pool) -> None:
    said: dict[str, Any] = {
        "skills": {"python": 3, "go": 1},
        "speed": 1.5004,
        "speeds": {"bug": 2.0},
    }
    hello = heartbeat(**said)
    cid, definition = class_definition(
        AgentClass("dev", (), 1, (("go", 1), ("python", 3)), (("", 1.5), ("bug", 2.0)))
    )

    assert apply(virtual_pool, hello) == ["joined"]

    stored = agent(virtual_pool)
    assert (stored["class"], stored["skills"], stored["speeds"]) == (
        cid,
        "go:1,python:3",
        ":1.5,bug:2.0",
    )
    assert virtual_pool.client.hget(virtual_pool.keys.classdef, cid) == definition
    with changes(virtual_pool) as seen:
        assert beat(virtual_pool, **said) == "ok"
    assert not seen.events


def test_what_is_not_declared_any_more_is_gone(virtual_pool: Pool) -> None:
    beat(virtual_pool, skills={"go": 1}, speeds={"bug": 2.0})

    assert beat(virtual_pool, skills={"go": 1}) == "changed"
    assert "speeds" not in agent(virtual_pool)
    assert beat(virtual_pool) == "changed"

    stored = agent(virtual_pool)
    assert "skills" not in stored
    assert stored["class"] == class_of(1)[0]
    assert list(virtual_pool.client.hgetall(virtual_pool.keys.classdef)) == [stored["class"]]


@pytest.mark.parametrize("speed", [1.0, 1, 1.0004, None])
def test_a_normal_base_speed_is_as_good_as_none(virtual_pool: Pool, speed: float | None) -> None:
    beat(virtual_pool, speed=speed)

    assert agent(virtual_pool)["class"] == class_of(1)[0]
    assert "speeds" not in agent(virtual_pool)


def test_the_same_entry_again_is_stale_and_changes_only_its_count(virtual_pool: Pool) -> None:
    entry = beat_entry(virtual_pool, heartbeat())
    apply(virtual_pool, entry)

    with changes(virtual_pool) as seen:
        assert apply(virtual_pool, entry) == ["stale"]

    assert seen.state == {"pool heartbeats_stale": "1"}
    assert not seen.events


def test_next_heartbeat_moves_time_and_nothing_else(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool, seq=1)
    clock.advance(5)
    entry = beat_entry(virtual_pool, heartbeat(seq=2))

    with changes(virtual_pool) as seen:
        assert apply(virtual_pool, entry) == ["ok"]

    assert seen.state == {
        **fields("agent:a1", seq="2", entry=entry.entry, beat_ms=str(NOW_MS + 5_000)),
        "alive a1": NOW_MS + 5_000,
        "agent_timers a1": NOW_MS + 20_000,
        "meta hb_mark_ms": str(NOW_MS + 5_000),
    }
    assert not seen.events


def test_more_units_change_class_and_capacity(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, "t1")
    beat(virtual_pool, max_concurrent=2)
    assign(virtual_pool)
    clock.advance(5)
    entry = beat_entry(virtual_pool, heartbeat(max_concurrent=4))
    old, new = class_of(2)[0], class_of(4)[0]

    with changes(virtual_pool) as seen:
        assert apply(virtual_pool, entry) == ["changed"]

    at_ms = NOW_MS + 5_000
    assert seen.state.pop("agent:a1 seq")
    assert seen.state == {
        **fields(
            "agent:a1", entry=entry.entry, beat_ms=str(at_ms), max="4", freed_us=f"{at_ms}000"
        ),
        "agent:a1 class": new,
        f"classdef {old}": GONE,
        f"classn {old}": GONE,
        f"classdef {new}": class_of(4)[1],
        f"classn {new}": "1",
        f"free:{old} a1": GONE,
        f"fc:dev {old}": GONE,
        f"free:{new} a1": 250 * 2**42 + at_ms,
        f"fc:dev {new}": 3,
        f"capacity:dev {old}": GONE,
        f"capacity:dev {new}": 4,
        "alive a1": at_ms,
        "agent_timers a1": at_ms + 15_000,
        **fields("role:dev", capacity="4", fleet_ver="2"),
        **fields("pool", capacity="4", heartbeats_changed="1"),
        "meta hb_mark_ms": str(at_ms),
    }
    assert seen.events == [("agent_changed", "", "a1", "running")]


def test_fewer_units_than_are_held_leave_nothing_free(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1", "t2", "t3")
    beat(virtual_pool, max_concurrent=3)
    for task in ("t1", "t2", "t3"):
        assign(virtual_pool, task)

    assert beat(virtual_pool, max_concurrent=1) == "changed"

    assert (agent(virtual_pool)["used"], agent(virtual_pool)["max"]) == ("3", "1")
    assert not virtual_pool.client.exists(virtual_pool.keys.free_units("dev"))
    complete(virtual_pool, "t1")
    complete(virtual_pool, "t2")
    assert not virtual_pool.client.exists(virtual_pool.keys.free_units("dev")), (
        "one held, one allowed"
    )
    complete(virtual_pool, "t3")
    assert virtual_pool.client.zscore(virtual_pool.keys.free_units("dev"), class_of(1)[0]) == 1


def test_stopping_keeps_leases_and_takes_nothing(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1", "t2")
    beat(virtual_pool, max_concurrent=2)
    assign(virtual_pool)

    assert beat(virtual_pool, max_concurrent=2, mode="stopping") == "changed"

    assert drain(virtual_pool) == {}
    assert agent(virtual_pool)["n"] == "1"
    assert complete(virtual_pool) == "ok"
    assert drain(virtual_pool) == {}
    assert beat(virtual_pool, max_concurrent=2) == "changed"
    assert drain(virtual_pool) == {"t2": "a1"}


def test_stopped_agent_is_gone_and_its_leases_are_due(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, "t1")
    beat(virtual_pool, max_concurrent=2)
    assign(virtual_pool)
    clock.advance(1)
    entry = beat_entry(virtual_pool, heartbeat(max_concurrent=2, mode="stopped"))
    cid = class_of(2)[0]

    with changes(virtual_pool) as seen:
        assert apply(virtual_pool, entry) == ["changed"]

    at_ms = NOW_MS + 1_000
    assert seen.state.pop("agent:a1 seq")
    assert seen.state == {
        **fields(
            "agent:a1", entry=entry.entry, beat_ms=str(at_ms), mode="stopped", state="stopped"
        ),
        f"classdef {cid}": GONE,
        f"classn {cid}": GONE,
        f"free:{cid} a1": GONE,
        f"fc:dev {cid}": GONE,
        f"capacity:dev {cid}": GONE,
        "alive a1": GONE,
        "gone a1": at_ms,
        "agent_timers a1": at_ms,
        **fields("role:dev", capacity="0", agents="0", fleet_ver="2"),
        **fields("pool", capacity="0", agents="0", heartbeats_changed="1"),
        "meta hb_mark_ms": str(at_ms),
    }


@pytest.mark.parametrize(("first", "last"), [("running", "stopped"), ("stopped", "running")])
def test_last_of_two_heartbeats_in_one_call_decides(
    virtual_pool: Pool, first: str, last: str
) -> None:
    """A farewell right behind an ordinary heartbeat is read with it."""
    beat(virtual_pool)

    apply(virtual_pool, heartbeat(mode=first), heartbeat(mode=last))

    keys, client, lives = virtual_pool.keys, virtual_pool.client, last == "running"
    assert agent(virtual_pool)["state"] == ("live" if lives else "stopped")
    assert client.zrange(keys.alive, 0, -1) == (["a1"] if lives else [])
    assert client.zrange(keys.gone, 0, -1) == ([] if lives else ["a1"])
    assert ticks.tick(virtual_pool).agents == ([] if lives else ["a1"])


def test_stopped_agent_joins_again(virtual_pool: Pool) -> None:
    beat(virtual_pool)
    beat(virtual_pool, mode="stopped")

    assert beat(virtual_pool, mode="running") == "joined"
    assert virtual_pool.client.zrange(virtual_pool.keys.gone, 0, -1) == []
    submit(virtual_pool, "t1")
    assert drain(virtual_pool) == {"t1": "a1"}


def test_change_of_role_moves_the_agent_with_its_numbers(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1", make_task("t2", role="ops"))
    beat(virtual_pool, max_concurrent=2)
    assign(virtual_pool)

    assert beat(virtual_pool, role="ops", max_concurrent=2) == "changed"

    def counters(role: str) -> Any:
        return virtual_pool.client.hmget(
            virtual_pool.keys.role(role), ["capacity", "used", "running", "agents"]
        )

    assert counters("dev") == ["0", "0", "0", "0"]
    assert counters("ops") == ["2", "1", "1", "1"]
    assert drain(virtual_pool) == {"t2": "a1"}
    assert complete(virtual_pool, "t1") == "ok"


@pytest.mark.parametrize(
    "what", [{"type": "x"}, {"interval_ms": 1_000}, {"ttl_ms": 60_000}, {"specializations": ("s",)}]
)
def test_every_declared_fact_is_stored_when_it_changes(
    virtual_pool: Pool, what: dict[str, Any]
) -> None:
    beat(virtual_pool)

    assert beat(virtual_pool, **what) == "changed"

    stored = agent(virtual_pool)
    known = {
        **beats.Declared.read(stored["d"])._asdict(),
    }
    known["specializations"] = tuple(stored["specs"].split(","))
    assert {name: known[name] for name in what} == what
    assert beat(virtual_pool, **what) == "ok"


def test_what_a_heartbeat_leaves_out_comes_from_role_and_type(redis_client: redis.Redis) -> None:
    roles = {"dev": RoleSettings(max_concurrent=7, specializations=("go",))}
    pool = Pool.create(redis_client, "p", PoolSettings(roles=roles))

    beat(pool, "a1", max_concurrent=None, specializations=None, type="ux-agent")
    beat(pool, "a2", role="ops", max_concurrent=None, specializations=None, type="ux-agent")
    beat(pool, "a3", role="ops", max_concurrent=0, specializations=())

    stored = [
        (a["max"], a["specs"]) for a in (agent(pool, "a1"), agent(pool, "a2"), agent(pool, "a3"))
    ]
    assert stored == [("7", "go"), ("5", "improvement,ux_design"), ("0", "")]


def test_agent_of_no_units_lives_and_gets_nothing(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")

    assert beat(virtual_pool, max_concurrent=0) == "joined"

    assert virtual_pool.client.zcard(virtual_pool.keys.alive) == 1
    assert drain(virtual_pool) == {}


# --- order ---


def test_older_sequence_number_of_the_same_boot_is_stale(virtual_pool: Pool) -> None:
    beat(virtual_pool, seq=5, max_concurrent=3)

    with changes(virtual_pool) as seen:
        assert (
            apply(virtual_pool, *(heartbeat(seq=n, max_concurrent=9) for n in (4, 5)))
            == ["stale"] * 2
        )

    assert seen.state.pop(
        "heartbeats " + entries(virtual_pool, virtual_pool.keys.heartbeats)[-1][0]
    )
    assert seen.state.pop(
        "heartbeats " + entries(virtual_pool, virtual_pool.keys.heartbeats)[-2][0]
    )
    assert seen.state == {"pool heartbeats_stale": "2"}


def test_older_entry_is_stale_whatever_its_sequence_number(virtual_pool: Pool) -> None:
    older = beat_entry(virtual_pool, heartbeat(seq=10))
    newer = beat_entry(virtual_pool, heartbeat(seq=9))

    assert apply(virtual_pool, newer, older) == ["joined", "stale"]


def test_entries_of_one_millisecond_compare_by_number_not_by_text(virtual_pool: Pool) -> None:
    first, second = (BeatEntry(f"{NOW_MS}-{n}", heartbeat()) for n in (9, 10))

    assert apply(virtual_pool, first, second) == ["joined", "ok"]


def test_sequence_number_at_its_bound_keeps_every_digit(virtual_pool: Pool) -> None:
    beat(virtual_pool, seq=10**15 - 2)

    assert beat(virtual_pool, seq=10**15 - 1) == "ok"
    assert agent(virtual_pool)["seq"] == "999999999999999"


# --- restarts ---


def held(pool: Pool, count: int, **facts: Any) -> list[str]:
    """Nonces of this many leases of a1."""
    submit(pool, *(make_task(f"t{n}", **facts) for n in range(count)))
    beat(pool, max_concurrent=1_000)
    return [assign(pool, f"t{n}") for n in range(count)]


def test_restart_resumes_listed_leases_and_the_rest_are_reclaimed(virtual_pool: Pool) -> None:
    """A new boot must not lose what it goes on with: only what it does not list is taken back."""
    one, two, three = held(virtual_pool, 3)

    with changes(virtual_pool) as seen:
        assert (
            beat(virtual_pool, boot=2, max_concurrent=1_000, start=True, held=(one, three))
            == "new_boot"
        )

    records = {key: value for key, value in seen.state.items() if key.startswith("held:")}
    assert {key: value.split(" ")[4:] for key, value in records.items()} == {
        f"held:a1 {two}": ["orphaned"]
    }
    assert seen.state["agent:a1 boot"] == boot_of("a1", 2)
    assert seen.state["agent:a1 boots"] == f"{boot_of('a1')}  "
    assert seen.state["agent_timers a1"] == NOW_MS
    assert {key for key in seen.state if key.startswith("task:")} == {
        "task:t0 losses",
        "task:t2 losses",
    }
    assert "agent:a1 used" not in seen.state

    answer = reclaims.reclaim(virtual_pool, "a1")
    assert answer == ("rebooted", 1, 0, False)
    losses = [virtual_pool.client.hget(virtual_pool.keys.task(f"t{n}"), "losses") for n in range(3)]
    assert losses == ["1", "1", "1"]
    assert set(virtual_pool.client.hkeys(virtual_pool.keys.held("a1"))) == {one, three}
    assert complete(virtual_pool, "t0", lease=one) == "ok"
    assert complete(virtual_pool, "t1", lease=two) == "stale"


def test_restart_heartbeat_again_counts_no_second_loss(virtual_pool: Pool) -> None:
    (one,) = held(virtual_pool, 1)
    entry = beat_entry(
        virtual_pool, heartbeat(boot=2, max_concurrent=1_000, start=True, held=(one,))
    )
    apply(virtual_pool, entry)

    with changes(virtual_pool) as seen:
        assert apply(virtual_pool, entry) == ["stale"]

    assert seen.state == {"pool heartbeats_stale": "1"}
    assert virtual_pool.client.hget(virtual_pool.keys.task("t0"), "losses") == "1"


def test_restart_that_lists_nothing_loses_every_lease(virtual_pool: Pool) -> None:
    held(virtual_pool, 2)

    beat(virtual_pool, boot=2, max_concurrent=1_000, start=True)

    assert reclaims.reclaim(virtual_pool, "a1") == ("rebooted", 2, 0, False)
    assert agent(virtual_pool)["used"] == "0"


def test_restart_that_lists_a_lease_of_another_agent_gets_nothing(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")
    beat(virtual_pool, "a1")
    beat(virtual_pool, "a2")
    lease = assign(virtual_pool, "t1", "a1")

    with changes(virtual_pool) as seen:
        beat(virtual_pool, "a2", boot=2, start=True, held=(lease, nonce("never")))

    assert not [key for key in seen.state if key.startswith(("held:", "task:"))]


def test_task_that_crashes_its_agent_again_and_again_dies(virtual_pool: Pool) -> None:
    """A resumed lease counts a loss, or a poison task would crash one agent for ever."""
    (lease,) = held(virtual_pool, 1)
    assert virtual_pool.settings.max_losses == 3

    beat(virtual_pool, boot=2, max_concurrent=1_000, start=True, held=(lease,))
    assert reclaims.reclaim(virtual_pool, "a1") == ("alive", 0, 0, False)
    beat(virtual_pool, boot=3, max_concurrent=1_000, start=True, held=(lease,))
    assert reclaims.reclaim(virtual_pool, "a1") == ("rebooted", 1, 0, False)
    beat(virtual_pool, boot=3, max_concurrent=1_000)
    lease = assign(virtual_pool, "t0")
    beat(virtual_pool, boot=4, max_concurrent=1_000, start=True, held=(lease,))

    assert reclaims.reclaim(virtual_pool, "a1") == ("rebooted", 0, 1, False)
    stored = virtual_pool.client.hgetall(virtual_pool.keys.task("t0"))
    assert (stored["state"], stored["reason"], stored["losses"]) == ("dead", "lost", "3")


def test_a_boot_that_resumes_what_it_must_not_gets_nothing_before_its_next_heartbeat(
    virtual_pool: Pool,
) -> None:
    """It runs that by now, and if it dies of it, what it was given meanwhile must not die with it."""
    (lease,) = held(virtual_pool, 1)
    submit(virtual_pool, "innocent")
    beat(virtual_pool, boot=2, max_concurrent=1_000, start=True, held=(lease,))
    assert agent(virtual_pool)["mode"] == "running"

    beat(virtual_pool, boot=3, max_concurrent=1_000, start=True, held=(lease,))

    reclaims.reclaim(virtual_pool, "a1")
    assert agent(virtual_pool)["mode"] == "silent"
    assert commit(virtual_pool, proposal("innocent")) == ["not_accepting"]
    assert drain(virtual_pool) == {}
    assert beat(virtual_pool, boot=3, max_concurrent=1_000) == "changed"
    assert set(drain(virtual_pool).values()) == {"a1"}


def test_a_boot_that_resumes_nothing_gets_work_at_once(virtual_pool: Pool) -> None:
    (lease,) = held(virtual_pool, 1)
    beat(virtual_pool, boot=2, max_concurrent=1_000, start=True, held=(lease,))

    beat(virtual_pool, boot=3, max_concurrent=1_000, start=True)

    reclaims.reclaim(virtual_pool, "a1")
    assert drain(virtual_pool) == {"t0": "a1"}


def test_heartbeats_after_a_restart_do_not_put_off_the_look_at_old_leases(
    virtual_pool: Pool, clock: Clock
) -> None:
    """An agent that heartbeats more often than the sweeper looks must still be looked at."""
    held(virtual_pool, 1)
    fast: dict[str, Any] = {"max_concurrent": 1_000, "interval_ms": 100, "ttl_ms": 300}
    first = heartbeat(boot=2, start=True, **fast)
    apply(virtual_pool, first, heartbeat(boot=2, **fast))
    assert ticks.tick(virtual_pool).agents == ["a1"]

    for _ in range(3):
        clock.advance(0.1)
        assert beat(virtual_pool, boot=2, **fast) == "ok"

    assert ticks.tick(virtual_pool).agents == ["a1"]
    assert reclaims.reclaim(virtual_pool, "a1") == ("rebooted", 1, 0, False)
    beat(virtual_pool, boot=2, **fast)
    assert ticks.tick(virtual_pool).agents == []


def test_heartbeats_of_an_earlier_boot_change_nothing(virtual_pool: Pool) -> None:
    """A replay of the old boot, or its process still running."""
    beat(virtual_pool, boot=1, start=True)
    beat(virtual_pool, boot=2, start=True)

    for start in (True, False):
        with changes(virtual_pool) as seen:
            assert beat(virtual_pool, boot=1, start=start, max_concurrent=9) == "stale"
        changed = {key for key in seen.state if not key.startswith("heartbeats ")}
        assert changed == {"pool heartbeats_stale"}


def test_earlier_boots_are_remembered_four_deep(virtual_pool: Pool) -> None:
    for boot in range(1, 7):
        beat(virtual_pool, boot=boot, start=True)

    assert [beat(virtual_pool, boot=boot, start=True) for boot in (5, 4, 3, 2)] == ["stale"] * 4
    assert agent(virtual_pool)["boot"] == boot_of("a1", 6)


def test_unknown_boot_that_does_not_start_is_refused_while_the_current_one_lives(
    virtual_pool: Pool,
) -> None:
    beat(virtual_pool, boot=1)

    with changes(virtual_pool) as seen:
        assert beat(virtual_pool, boot=2, max_concurrent=9) == "other_boot"

    changed = {key for key in seen.state if not key.startswith("heartbeats ")}
    assert changed == {"pool heartbeats_other_boot"}


def lose(pool: Pool, clock: Clock, id_: str = "a1") -> None:
    clock.advance(60)
    beat(pool, "witness", role="ops")
    assert reclaims.reclaim(pool, id_).outcome == "lost"


def test_unknown_boot_takes_over_when_the_current_one_is_lost(
    virtual_pool: Pool, clock: Clock
) -> None:
    beat(virtual_pool, boot=1)
    lose(virtual_pool, clock)

    assert beat(virtual_pool, boot=2) == "new_boot"
    assert agent(virtual_pool)["state"] == "live"


def test_lost_agent_returns_with_capacity_and_without_its_leases(
    virtual_pool: Pool, clock: Clock
) -> None:
    submit(virtual_pool, "t1")
    beat(virtual_pool, max_concurrent=2)
    lease = assign(virtual_pool)
    lose(virtual_pool, clock)
    assert agent(virtual_pool)["state"] == "lost"
    entry = beat_entry(virtual_pool, heartbeat(max_concurrent=2))

    with changes(virtual_pool) as seen:
        assert apply(virtual_pool, entry) == ["joined"]

    cid, at_ms = class_of(2)[0], NOW_MS + 60_000
    assert seen.state.pop("agent:a1 seq")
    assert seen.state == {
        **fields("agent:a1", entry=entry.entry, beat_ms=str(at_ms), state="live"),
        f"classdef {cid}": class_of(2)[1],
        f"classn {cid}": "1",
        f"free:{cid} a1": at_ms,
        f"fc:dev {cid}": 2,
        f"capacity:dev {cid}": 2,
        "alive a1": at_ms,
        "gone a1": GONE,
        "agent_timers a1": at_ms + 15_000,
        **fields("role:dev", capacity="2", agents="1", fleet_ver="3"),
        **fields("pool", capacity="3", agents="2", heartbeats_joined="3"),
    }
    assert complete(virtual_pool, "t1", agent="a1", lease=lease) == "stale"
    assert drain(virtual_pool) == {"t1": "a1"}


# --- the mark ---


def test_mark_follows_the_newest_applied_heartbeat_until_the_stream_is_read_to_its_end(
    virtual_pool: Pool, clock: Clock
) -> None:
    def mark() -> int:
        return int(virtual_pool.client.hget(virtual_pool.keys.meta, "hb_mark_ms") or 0)

    late, later = beat_entry(virtual_pool, heartbeat("a1")), None
    clock.advance(3)
    later = beat_entry(virtual_pool, heartbeat("a2"))
    clock.advance(60)
    apply(virtual_pool, late, caught_up=False)
    assert mark() == NOW_MS
    apply(virtual_pool, later, caught_up=False)
    assert mark() == NOW_MS + 3_000
    beats.beat(virtual_pool, [], caught_up=False)
    assert mark() == NOW_MS + 3_000
    beats.beat(virtual_pool, [], caught_up=True)
    assert mark() == NOW_MS + 63_000


def test_entry_from_the_future_counts_as_now(virtual_pool: Pool) -> None:
    """Redis' clock went back: its stream ids do not."""
    assert apply(virtual_pool, BeatEntry(f"{NOW_MS + 7_200_000}-0", heartbeat())) == ["joined"]

    assert agent(virtual_pool)["beat_ms"] == str(NOW_MS)
    assert virtual_pool.client.hget(virtual_pool.keys.meta, "hb_mark_ms") == str(NOW_MS)


# --- bounds, faults ---


def test_a_hundred_heartbeats_in_one_call(virtual_pool: Pool) -> None:
    hellos = [heartbeat(f"a{n}", max_concurrent=1 + n % 3) for n in range(100)]

    assert apply(virtual_pool, *hellos) == ["joined"] * 100
    assert virtual_pool.client.hget(virtual_pool.keys.pool, "agents") == "100"
    assert (
        apply(virtual_pool, *(heartbeat(f"a{n}", max_concurrent=1 + n % 3) for n in range(100)))
        == ["ok"] * 100
    )


def test_bad_entries_are_set_aside_and_the_rest_is_applied(virtual_pool: Pool) -> None:
    rubbish = BeatEntry(f"{NOW_MS}-50", None, "seq: 'x' is not a whole number", '{"seq":"x"}')

    outcomes = apply(
        virtual_pool, *(heartbeat(f"a{n}") for n in range(50)), rubbish, heartbeat("last")
    )

    assert outcomes == ["joined"] * 50 + ["bad", "joined"]
    ((_, content),) = entries(virtual_pool, virtual_pool.keys.rejected)
    assert content == {
        "stream": "heartbeats",
        "entry": f"{NOW_MS}-50",
        "reason": "seq: 'x' is not a whole number",
        "raw": '{"seq":"x"}',
    }
    assert virtual_pool.client.hget(virtual_pool.keys.pool, "heartbeats_bad") == "1"


@pytest.mark.damaged
def test_an_agent_whose_record_is_broken_does_not_stop_the_others(virtual_pool: Pool) -> None:
    virtual_pool.client.set(virtual_pool.keys.agent("a50"), "not a hash")

    outcomes = apply(virtual_pool, *(heartbeat(f"a{n}") for n in range(100)))

    assert outcomes == ["joined"] * 50 + ["bad"] + ["joined"] * 49
    assert virtual_pool.client.zcard(virtual_pool.keys.alive) == 99
    assert virtual_pool.client.hget(virtual_pool.keys.pool, "agents") == "99"
    ((_, content),) = entries(virtual_pool, virtual_pool.keys.rejected)
    assert "WRONGTYPE" in content["reason"]
    virtual_pool.client.delete(virtual_pool.keys.agent("a50"))


@pytest.mark.damaged
def test_a_restart_that_fails_leaves_its_agent_as_it_was(virtual_pool: Pool) -> None:
    (lease,) = held(virtual_pool, 1)
    virtual_pool.client.set(virtual_pool.keys.held("a1"), "not a hash")
    restart = heartbeat(boot=2, max_concurrent=7, start=True, held=(lease,))

    outcomes = apply(virtual_pool, heartbeat(max_concurrent=9), restart, heartbeat("a2"))

    assert outcomes == ["changed", "bad", "joined"]
    assert (agent(virtual_pool)["boot"], agent(virtual_pool)["max"]) == (boot_of("a1"), "9")
    assert virtual_pool.client.hmget(virtual_pool.keys.pool, ["capacity", "agents"]) == ["10", "2"]
    virtual_pool.client.delete(virtual_pool.keys.held("a1"))


@pytest.mark.damaged
def test_more_than_fifty_thousand_agents_are_refused(virtual_pool: Pool) -> None:
    alive = {f"g{n}": n for n in range(49_998)}
    virtual_pool.client.zadd(virtual_pool.keys.alive, alive)

    with changes(virtual_pool) as seen:
        outcomes = apply(
            virtual_pool, heartbeat("a1"), heartbeat("a2"), heartbeat("a3"), heartbeat("a1")
        )

    assert outcomes == ["joined", "joined", "too_many_agents", "ok"]
    assert "agent:a3 role" not in seen.state
    ((_, content),) = entries(virtual_pool, virtual_pool.keys.rejected)
    assert content["reason"] == "too_many_agents"
    assert seen.state["pool heartbeats_too_many_agents"] == "1"


@pytest.mark.damaged
def test_a_full_pool_forgets_who_has_been_gone_longest(virtual_pool: Pool) -> None:
    beat(virtual_pool, "old")
    beat(virtual_pool, "old", mode="stopped")
    client, keys = virtual_pool.client, virtual_pool.keys
    client.zadd(keys.gone, {"old": 1} | {f"g{n}": 2 for n in range(49_999)})

    assert beat(virtual_pool, "new") == "joined"

    assert client.zscore(keys.gone, "old") is None
    assert not client.exists(keys.agent("old"), keys.inbox("old"))


def test_more_than_256_roles_are_refused(virtual_pool: Pool) -> None:
    virtual_pool.client.sadd(virtual_pool.keys.roles, *(f"r{n}" for n in range(255)))

    outcomes = apply(
        virtual_pool, heartbeat("a1"), heartbeat("a2", role="ops"), heartbeat("a3", role="r3")
    )

    assert outcomes == ["joined", "too_many_roles", "joined"]
    assert virtual_pool.client.scard(virtual_pool.keys.roles) == 256
    with changes(virtual_pool) as seen:
        assert beat(virtual_pool, "a1", role="ops") == "too_many_roles"
    assert not [key for key in seen.state if key.startswith(("agent:", "roles", "alive"))]


def test_beat_is_refused_whole_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    """Nobody is judged then: the mark stands still with the heartbeats."""
    populate(pool)
    entry = beat_entry(pool, heartbeat("a1", max_concurrent=2))
    before = dump(pool.client)

    with out_of_memory(), pytest.raises(redis.ResponseError, match="maxmemory"):
        beats.beat(pool, [entry], caught_up=True)

    assert dump(pool.client) == before


def test_beat_to_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    entry = beat_entry(virtual_pool, heartbeat("a9"))
    assert_guarded(virtual_pool, beats.SCRIPT, [1, 3, *beats._args(virtual_pool, entry)])


def test_beat_to_a_real_pool_with_a_time_of_the_callers_writes_nothing(pool: Pool) -> None:
    entry = beat_entry(pool, heartbeat("a9"))
    assert_guarded(pool, beats.SCRIPT, [1, 3, *beats._args(pool, entry)])


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (3, "abc"), (3, "1e3-0"), (3, ""), (6, "nan"), (6, "0x10"), (6, "-1"), (6, str(2**53)), (15, "1001"),
        (15, "1.5"), (9, "5000|x|"), (9, "-1|1|"), (9, "604800001|1|"), (9, "1e3|1|"), (9, "5000|86400001|"), (9, "5"),
        (16, "asleep"), (17, "1001"), (17, "1e1"), (2, "gossip"),
    ],
)  # fmt: skip
def test_beat_with_a_bad_argument_writes_nothing(virtual_pool: Pool, at: int, value: str) -> None:
    good, spoilt = (
        beats._args(virtual_pool, beat_entry(virtual_pool, heartbeat(name)))
        for name in ("a1", "a2")
    )
    spoilt[at - 2] = value

    assert_bad_argument(virtual_pool, beats.SCRIPT, [1, 3, *good, *spoilt])


@pytest.mark.parametrize(
    "spoil", [lambda args: args[:-1], lambda args: [*args, "beat"], lambda args: args * 501]
)
def test_beat_of_half_or_too_many_heartbeats_writes_nothing(
    virtual_pool: Pool, spoil: Callable[[list[str | int]], list[object]]
) -> None:
    args = beats._args(virtual_pool, beat_entry(virtual_pool, heartbeat()))

    assert_bad_argument(virtual_pool, beats.SCRIPT, [1, 3, *spoil(args)])


@pytest.mark.parametrize("losses", ["0", "101", "nan", ""])
def test_beat_with_a_bad_number_of_losses_writes_nothing(virtual_pool: Pool, losses: str) -> None:
    assert_bad_argument(virtual_pool, beats.SCRIPT, [1, losses])
