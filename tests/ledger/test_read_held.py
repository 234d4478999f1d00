"""What agents hold where a large task waits for one of them: how it is read, and what comes of it."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from random import Random

import pytest

from balancer.core.planner import Planner
from balancer.core.settings import PoolSettings
from balancer.core.view import Held
from balancer.ledger import Pool, read_held
from balancer.ledger import view as views
from balancer.protocol import TextRedis
from tests.support.factories import (
    NOW_MS,
    Clock,
    beat,
    changes,
    commit,
    complete,
    drain,
    make_task,
    proposal,
    submit,
)


def held(viewer: views.Viewer) -> Mapping[str, Sequence[Held]]:
    (role,) = viewer.view().roles
    return role.held


def reads(pool: Pool) -> int:
    stats = pool.client.info("commandstats")
    return int(stats.get("cmdstat_hvals", {"calls": 0})["calls"])


@pytest.fixture
def waiting(virtual_pool: Pool, clock: Clock) -> Pool:
    """Two agents of four units that hold something; a task of four, and one of one."""
    for id_ in ("a1", "a2"):
        beat(virtual_pool, id_, max_concurrent=4, ttl_ms=60_000_000)
    submit(virtual_pool, "t0", "t1", "t2")
    hold(virtual_pool, "t0", "a1", 86_400)
    hold(virtual_pool, "t1", "a2", 60)
    clock.advance(5)
    hold(virtual_pool, "t2", "a2", 90)
    submit(virtual_pool, make_task("large", cost=4))
    return virtual_pool


def hold(pool: Pool, task: str, agent: str, estimate_s: float) -> None:
    wish = proposal(task, agent, estimate_s=estimate_s)
    assert commit(pool, wish) == ["assigned"]


def test_what_the_agents_hold_that_are_nearest_to_a_large_task(waiting: Pool) -> None:
    with changes(waiting) as seen:
        found = held(views.Viewer(waiting))

    assert {id_: sorted(own) for id_, own in found.items()} == {
        "a1": [Held(1, NOW_MS, 86_400.0)],
        "a2": [Held(1, NOW_MS, 60.0), Held(1, NOW_MS + 5_000, 90.0)],
    }
    assert seen.nothing


def test_nothing_is_read_where_somebody_has_room_or_nobody_ever_could(waiting: Pool) -> None:
    submit(waiting, make_task("other", role="ops", cost=9), "small")
    beat(waiting, "small", role="ops", max_concurrent=8)
    beat(waiting, "a3", max_concurrent=4)
    before = reads(waiting)

    assert all(not role.held for role in views.Viewer(waiting).view().roles)

    assert reads(waiting) == before


def test_what_was_read_is_good_for_a_while_as_long_as_as_much_is_held(
    waiting: Pool, clock: Clock
) -> None:
    viewer = views.Viewer(waiting)
    first, before = held(viewer), reads(waiting)
    assert held(viewer) == first
    clock.advance(5)
    assert held(viewer) == first
    assert reads(waiting) == before

    complete(waiting, "t1")
    assert held(viewer) == {"a1": first["a1"], "a2": (Held(1, NOW_MS + 5_000, 90.0),)}
    assert reads(waiting) == before + 1
    clock.advance(0.001)
    held(viewer)
    assert reads(waiting) == before + 2, "a1 was read more than five seconds ago"


def test_of_many_agents_those_are_read_that_are_emptiest_or_were_used_last(
    waiting: Pool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_held, "MOST_AGENTS", 4)
    for n in range(6):
        beat(waiting, f"b{n}", max_concurrent=4, ttl_ms=60_000_000)
        tasks = [f"b{n}-{k}" for k in range(4)]
        submit(waiting, *tasks)
        for task in tasks:
            hold(waiting, task, f"b{n}", 60)
    for n in range(6):
        clock.advance(1)
        complete(waiting, f"b{n}-0")
    submit(waiting, *(f"small{n}" for n in range(10)))

    assert sorted(held(views.Viewer(waiting))) == ["a1", "a2", "b4", "b5"]
    monkeypatch.setattr(read_held, "MOST_LEASES", 6)
    assert sorted(held(views.Viewer(waiting))) == ["a1", "a2", "b5"]


@pytest.mark.parametrize("strategy", ["fit", "best_match"])
def test_a_large_task_does_not_wait_for_who_has_more_room_and_holds_what_takes_for_ever(
    redis_client: TextRedis, clock: Clock, strategy: str
) -> None:
    """One agent holds two units of work for days; the other turns small tasks over, each minute more than it can do."""
    pool = Pool.create(redis_client, "p", PoolSettings(strategy=strategy), clock)
    for id_ in ("days", "minutes"):
        beat(pool, id_, max_concurrent=4, ttl_ms=600_000_000)
    submit(pool, "x0", "x1", *(make_task(f"b{n}", estimate_s=60) for n in range(4)))
    for n in range(2):
        hold(pool, f"x{n}", "days", 200_000)
    running = []
    for n in range(4):
        hold(pool, f"b{n}", "minutes", 60)
        running.append((15.0 * (n + 1), f"b{n}"))
    submit(pool, make_task("large", cost=4, estimate_s=60))
    at_s, count = 0.0, 0

    while at_s < 600:
        submit(pool, *(make_task(f"s{count + n}", estimate_s=60) for n in range(4)))
        count += 4
        while given := drain(pool):
            if "large" in given:
                assert given["large"] == "minutes"
                assert at_s <= 240
                return
            running += [(at_s + 60, task) for task in given]
        clock.advance(20)
        at_s += 20
        for ends_s, task in sorted(running):
            if ends_s <= at_s:
                assert complete(pool, task, duration_ms=60_000) == "ok"
                running.remove((ends_s, task))
    assert at_s < 600, "it waits for ever"


@pytest.mark.parametrize("estimates_s", [(1,), (100,), (1, 1_000)])
def test_a_large_task_does_not_wait_for_ever_where_estimates_are_far_too_small(
    redis_client: TextRedis, clock: Clock, estimates_s: tuple[int, ...]
) -> None:
    """Thirty agents of three units, all busy with tasks of 500 to 1,500 s, and one that needs all of an agent."""
    pool = Pool.create(redis_client, "p", PoolSettings(learning=False, seed=1), clock)
    for n in range(30):
        beat(pool, f"a{n}", max_concurrent=3, ttl_ms=600_000_000, interval_ms=86_400_000)
    viewer, planner, draw = views.Viewer(pool), Planner(pool.settings), Random(1)
    ends: list[tuple[int, str]] = []
    start_us, asked_us, count = clock.now_us, 0, 0

    while clock.now_us <= start_us + 7_000_000_000:
        if pool.client.zcard(pool.keys.pending("dev")) < 10:
            some = [
                make_task(f"s{count + n}", estimate_s=draw.choice(estimates_s)) for n in range(10)
            ]
            submit(pool, *some)
            count += len(some)
        while wishes := planner.plan(viewer.view()):
            assert set(commit(pool, *wishes)) == {"assigned"}
            if any(wish.task == "large" for wish in wishes):
                assert clock.now_us - asked_us <= 2_000_000_000
                return
            for wish in wishes:
                took_us = int(draw.uniform(500, 1_500) * 1_000_000)
                heapq.heappush(ends, (clock.now_us + took_us, wish.task))
        clock.now_us, task = heapq.heappop(ends)
        assert complete(pool, task) == "ok"
        if not asked_us and clock.now_us - start_us >= 3_000_000_000:
            submit(pool, make_task("large", cost=3, estimate_s=1))
            asked_us = clock.now_us
    raise AssertionError("it waits for ever")
