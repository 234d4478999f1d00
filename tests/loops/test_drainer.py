"""The drainer: everything that fits is handed out, at once, however many drain."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from balancer.core.settings import PoolSettings
from balancer.ledger import Pool
from balancer.ledger.due import due
from balancer.ledger.read_tasks import task_statuses
from balancer.loops import drainer as drainers
from balancer.loops.drainer import Drained, Drainer
from balancer.loops.loop import Loop
from balancer.protocol import TextRedis
from tests.support.factories import Clock, assign, beat, complete, dump, make_task, submit
from tests.support.wait import wait_until

Start = Callable[[Loop], None]


def state(pool: Pool, task: str) -> str:
    status = task_statuses(pool, [task])[0]
    return status.state.value if status else "unknown"


def test_step_hands_out_what_fits_and_leaves_the_rest_in_order(
    pool: Pool, reading: TextRedis
) -> None:
    beat(pool, "a1", max_concurrent=2)
    beat(pool, "a2", max_concurrent=1)
    submit(pool, *(f"t{n}" for n in range(5)))
    assert Drainer(pool, reading).step() == Drained(assigned=3)
    assert [state(pool, f"t{n}") for n in range(5)] == ["assigned"] * 3 + ["pending"] * 2
    assert Drainer(pool, reading).step() == Drained()


def test_step_more_than_one_pass_takes_all(pool: Pool, reading: TextRedis) -> None:
    for n in range(40):
        beat(pool, f"a{n:02}", max_concurrent=10)
    submit(pool, *(f"t{n}" for n in range(400)))
    drainer = Drainer(pool, reading)
    assigned = 0
    while (done := drainer.step()).assigned:
        assigned += done.assigned
    assert assigned == 400


def test_step_reaches_the_only_class_that_may_though_256_have_more_units(
    pool: Pool, reading: TextRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainers, "LOCK_USE_S", 60)
    for n in range(330):
        beat(pool, f"a{n:03}", max_concurrent=2, skills={f"s{n:03}": 1})
    beat(pool, "expert", skills={"gpu": 1})
    submit(pool, make_task("t1", requires={"gpu": 1}), "t2")
    drainer = Drainer(pool, reading)

    assigned = 0
    for _ in range(100):
        done = drainer.step()
        assert not done.more, "the next tick is soon enough"
        assigned += done.assigned

    assert assigned == 2
    (found,) = task_statuses(pool, ["t1"])
    assert found
    assert found.agent == "expert"


def test_step_while_another_holds_the_lock_does_nothing(pool: Pool, reading: TextRedis) -> None:
    beat(pool)
    submit(pool, "t1")
    pool.client.set(pool.keys.drain_lock, "another", px=60_000)
    before = dump(pool.client)
    assert Drainer(pool, reading).step() == Drained(busy=True)
    assert dump(pool.client) == before


def test_step_gives_the_lock_back(pool: Pool, reading: TextRedis) -> None:
    drainer = Drainer(pool, reading)
    drainer.step()
    assert not pool.client.exists(pool.keys.drain_lock)
    submit(pool, "t1")
    beat(pool)
    assert drainer.step().assigned == 1
    assert not pool.client.exists(pool.keys.drain_lock)
    submit(pool, *(make_task(f"big{n}", category=f"c{n}", cost=2) for n in range(70)))
    beat(pool, "a2")
    assert drainer.step() == Drained()
    assert not pool.client.exists(pool.keys.drain_lock)


def test_lanes_nobody_can_serve_hide_nothing_behind_them(
    pool: Pool, reading: TextRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainers, "LOCK_USE_S", 60)
    beat(pool, max_concurrent=1)
    costly = [make_task(f"big{n}", category=f"c{n}", cost=2) for n in range(150)]
    submit(pool, *costly, "small")
    assert Drainer(pool, reading).step() == Drained(assigned=1)
    assert state(pool, "small") == "assigned"


def test_a_wall_of_lanes_nobody_can_serve_is_passed_however_short_the_passes(
    pool: Pool, reading: TextRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainers, "LOCK_USE_S", 0)
    beat(pool, max_concurrent=1)
    submit(pool, *(make_task(f"big{n}", category=f"c{n}", cost=2) for n in range(400)), "small")
    drainer = Drainer(pool, reading, tick_s=0.05)
    steps = 0
    while state(pool, "small") == "pending" and steps < 20:
        steps += 1
        drainer.step()
    assert steps <= 7
    while drainer.step().more:
        pass
    pool.client.delete(pool.keys.wake)
    submit(pool, *(make_task(f"more{n}", category=f"d{n}", cost=2) for n in range(2)))
    beat(pool, "a2")
    drainer.wait(threading.Event())
    assert drainer.step().more, "a change is worth a whole round"
    while drainer.step().more:
        pass
    drainer.wait(threading.Event())
    assert not drainer.step().more, "without one the next tick goes on"


def test_who_is_kept_for_a_large_task_gets_nothing_of_a_later_page(
    pool: Pool, reading: TextRedis
) -> None:
    beat(pool, max_concurrent=4)
    submit(pool, make_task("half", cost=2))
    drainer = Drainer(pool, reading)
    assert drainer.step() == Drained(assigned=1)
    submit(pool, make_task("large", cost=3))
    submit(pool, *(make_task(f"huge{n}", category=f"c{n}", cost=9) for n in range(70)))
    submit(pool, "small")

    assert drainer.step() == Drained()
    assert complete(pool, "half") == "ok"
    assert drainer.step().assigned == 2
    assert [state(pool, task) for task in ("large", "small")] == ["assigned"] * 2


@pytest.mark.parametrize("strategy", ["fit", "best_match", "round_robin"])
def test_one_pass_hands_out_failed_tasks_to_all_that_the_picture_does_not_hold(
    redis_client: TextRedis,
    clock: Clock,
    reading: TextRedis,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
) -> None:
    """Of 64 classes a picture shows few agents each; the one that has failed the tasks is among them."""
    monkeypatch.setattr(drainers, "LOCK_USE_S", 60)
    pool = Pool.create(redis_client, "p", PoolSettings(strategy=strategy, seed=1), clock)
    drainer = Drainer(pool, reading)
    for n in range(63):
        beat(pool, f"other{n}", specializations=(f"s{n}",), ttl_ms=86_400_000)
    for n in range(40):
        beat(pool, f"able{n:02}", skills={"k": 1}, ttl_ms=86_400_000)
    tasks = [f"t{n}" for n in range(20)]
    submit(pool, *(make_task(id_, requires={"k": 1}, max_failures=9) for id_ in tasks))
    for id_ in tasks:
        assign(pool, id_, "able00")
        complete(pool, id_, "failed")
    submit(pool, *(make_task(f"p{n}", requires={"no": 1}) for n in range(200)))
    clock.advance(30)
    due(pool)

    assert drainer.step() == Drained(assigned=20)
    assert [state(pool, id_) for id_ in tasks] == ["assigned"] * 20
    assert drainer.step() == Drained()


def test_a_busy_last_page_of_lanes_does_not_hide_those_in_the_middle(
    virtual_pool: Pool, clock: Clock, reading: TextRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pass grants something of the last page of three, while only the second has work for an idle agent."""
    monkeypatch.setattr(drainers, "LOCK_USE_S", 0)
    pool, drainer = virtual_pool, Drainer(virtual_pool, reading)
    beat(pool, "a", skills={"a": 1}, max_concurrent=1, ttl_ms=86_400_000)
    beat(pool, "b", skills={"b": 1}, max_concurrent=4, ttl_ms=86_400_000)
    submit(
        pool, *(make_task(f"n{n}", category=f"c{n}", requires={"nobody": 1}) for n in range(100))
    )
    clock.advance(3_600)
    submit(pool, *(make_task(f"o{n}", category=f"d{n}", requires={"nobody": 1}) for n in range(60)))
    submit(pool, *(make_task(f"z{n}", category="z", requires={"a": 1}) for n in range(40)))
    running = -1

    def step() -> None:
        nonlocal running
        for _ in range(10):
            if drainer.step().assigned:
                break
        if state(pool, f"z{running + 1}") == "assigned":
            running += 1
            clock.advance(0.1)
            complete(pool, f"z{running}")

    for _ in range(5):
        step()
    assert running >= 0
    submit(pool, make_task("m", requires={"b": 1}, priority="high"))
    for _ in range(5):
        step()

    assert state(pool, "m") == "assigned"


def test_several_drainers_never_share_a_unit(pool: Pool, reading: TextRedis) -> None:
    for n in range(10):
        beat(pool, f"a{n}", max_concurrent=3)
    submit(pool, *(f"t{n}" for n in range(100)))
    drainers = [Drainer(pool, reading) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda drainer: drainer.step(), drainers * 3))
    assert sum(one.assigned for one in done) == 30
    assert pool.client.hget(pool.keys.pool, "used") == "30"


def unlocked(drainer: Drainer) -> Drained:
    return drainer._drain(drainer._viewer.view(), "")


def test_several_drainers_without_the_lock_never_share_a_unit(
    pool: Pool, reading: TextRedis
) -> None:
    for n in range(10):
        beat(pool, f"a{n}", max_concurrent=3)
    submit(pool, *(f"t{n}" for n in range(100)))
    drainers = [Drainer(pool, reading) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(unlocked, drainers * 3))
    assert sum(one.assigned for one in done) == 30
    assert pool.client.hget(pool.keys.pool, "used") == "30"


def test_work_is_dispatched_within_a_second_with_a_slow_tick(
    pool: Pool, reading: TextRedis, running: Start
) -> None:
    beat(pool)
    running(Drainer(pool, reading, tick_s=60))
    wait_until(lambda: not pool.client.exists(pool.keys.wake), "the drainer has looked")
    submit(pool, "t1")
    wait_until(lambda: state(pool, "t1") == "assigned", "new work is handed out", 1.0)
    submit(pool, "t2")
    complete(pool, "t1")
    wait_until(lambda: state(pool, "t2") == "assigned", "freed capacity is used", 1.0)
    submit(pool, "t3")
    beat(pool, "a2")
    wait_until(lambda: state(pool, "t3") == "assigned", "a new agent is used", 1.0)


def test_a_lost_wake_up_is_made_up_for_by_the_tick(
    pool: Pool, reading: TextRedis, running: Start
) -> None:
    beat(pool)
    submit(pool, "t1")
    drainer = Drainer(pool, reading, tick_s=0.05)
    drainer.step()
    complete(pool, "t1")
    submit(pool, "t2")
    pool.client.delete(pool.keys.wake)
    running(drainer)
    wait_until(lambda: state(pool, "t2") == "assigned", "the tick finds it")


def test_a_token_taken_while_another_drains_is_not_lost(
    pool: Pool, reading: TextRedis, running: Start
) -> None:
    beat(pool)
    pool.client.set(pool.keys.drain_lock, "another", px=60_000)
    drainer = Drainer(pool, reading, tick_s=60)
    running(drainer)
    wait_until(lambda: drainer._busy, "it meets the lock")
    submit(pool, "t1")
    pool.client.delete(pool.keys.wake, pool.keys.drain_lock)
    wait_until(lambda: state(pool, "t1") == "assigned", "it looks again", 1.0)
