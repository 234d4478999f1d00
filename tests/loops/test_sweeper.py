"""The sweeper: what time alone changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balancer.core.settings import PoolSettings
from balancer.ledger import Pool
from balancer.ledger.read import agents, task_statuses
from balancer.loops.loop import Loop
from balancer.loops.sweeper import Sweeper
from balancer.protocol import TextRedis
from tests.support.factories import (
    Clock,
    assign,
    beat,
    complete,
    dump,
    make_task,
    submit,
)
from tests.support.wait import wait_until

Start = Callable[[Loop], None]


def state(pool: Pool, task: str = "t1") -> str:
    status = task_statuses(pool, [task])[0]
    return status.state.value if status else "unknown"


def sweep(pool: Pool, clock: Clock, seconds: float, keep: tuple[str, ...] = ()) -> None:
    """Let time pass in steps that are no gap, with the agents in `keep` beating all the while."""
    sweeper = Sweeper(pool)
    for _ in range(round(seconds)):
        clock.advance(1)
        for agent in keep:
            beat(pool, agent)
        sweeper.step()


def test_a_silent_agent_is_lost_and_its_work_goes_back_to_its_place(
    virtual_pool: Pool, clock: Clock
) -> None:
    pool = virtual_pool
    beat(pool, "a1")
    beat(pool, "a2")
    submit(pool, "t1", "t2")
    assign(pool, "t1", "a1")
    before = pool.client.hmget(pool.keys.task("t1"), ["ready_us", "order_us"])
    sweep(pool, clock, 14, keep=("a2",))
    assert state(pool) == "assigned"
    sweep(pool, clock, 3, keep=("a2",))
    assert state(pool) == "pending"
    assert pool.client.hmget(pool.keys.task("t1"), ["ready_us", "order_us"]) == before
    assert {agent.id: agent.state.value for agent in agents(pool)} == {"a1": "lost", "a2": "live"}


def test_nobody_is_lost_while_no_heartbeat_is_applied_for_anybody(
    virtual_pool: Pool, clock: Clock
) -> None:
    pool = virtual_pool
    beat(pool, "a1")
    submit(pool, "t1")
    assign(pool)
    sweep(pool, clock, 120)
    assert state(pool) == "assigned"


def test_a_due_retry_becomes_pending(virtual_pool: Pool, clock: Clock) -> None:
    pool = virtual_pool
    beat(pool)
    submit(pool, "t1")
    assign(pool)
    complete(pool, "t1", "failed")
    sweep(pool, clock, 4, keep=("a1",))
    assert state(pool) == "failed"
    sweep(pool, clock, 1, keep=("a1",))
    assert state(pool) == "pending"


def test_a_try_past_its_run_timeout_fails(virtual_pool: Pool, clock: Clock) -> None:
    pool = virtual_pool
    beat(pool)
    submit(pool, make_task("t1", run_timeout_s=10, max_failures=1))
    assign(pool)
    sweep(pool, clock, 14, keep=("a1",))
    assert state(pool) == "assigned"
    sweep(pool, clock, 2, keep=("a1",))
    assert state(pool) == "dead"
    assert pool.client.hget(pool.keys.agent("a1"), "used") == "0"


def test_children_that_nobody_told_are_told(virtual_pool: Pool, clock: Clock) -> None:
    pool = virtual_pool
    beat(pool)
    submit(pool, "t1", make_task("child", depends_on=("t1",)))
    assign(pool)
    complete(pool)
    assert state(pool, "child") == "blocked"
    sweep(pool, clock, 1, keep=("a1",))
    assert state(pool, "child") == "pending"


def test_more_than_a_page_is_swept_in_one_step(virtual_pool: Pool, clock: Clock) -> None:
    pool = virtual_pool
    beat(pool, max_concurrent=1000)
    submit(pool, *(f"t{n}" for n in range(450)))
    for n in range(450):
        assign(pool, f"t{n}")
        complete(pool, f"t{n}", "failed")
    clock.advance(6)
    assert Sweeper(pool).step().due == 450


def test_a_drifted_counter_is_mended_and_told(
    virtual_pool: Pool, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = virtual_pool
    beat(pool, max_concurrent=5)
    submit(pool, "t1")
    assign(pool)
    for key in (pool.keys.agent("a1"), pool.keys.role("dev"), pool.keys.pool):
        pool.client.hincrby(key, "used", 1)
    pool.client.zincrby(
        pool.keys.free_units("dev"), -1, pool.client.hget(pool.keys.agent("a1"), "class")
    )
    assert Sweeper(pool).step().mended == 1
    assert pool.client.hget(pool.keys.agent("a1"), "used") == "1"
    assert "counter_mended" in capsys.readouterr().out


def test_nothing_due_changes_only_the_tick(virtual_pool: Pool, clock: Clock) -> None:
    pool = virtual_pool
    beat(pool)
    submit(pool, "t1")
    Sweeper(pool).step()
    before = dump(pool.client)
    clock.advance(1)
    Sweeper(pool).step()
    after = dump(pool.client)
    meta = pool.keys.meta
    assert after.pop(meta) | {"last_tick_ms": ""} == before.pop(meta) | {"last_tick_ms": ""}
    assert after == before


def test_a_hint_brings_the_sweep_forward(redis_client: TextRedis, running: Start) -> None:
    pool = Pool.create(redis_client, "quick", PoolSettings(retry_delay_s=0.05))
    beat(pool)
    submit(pool, "t1")
    assign(pool)
    sweeper = Sweeper(pool, sweep_s=3)
    running(sweeper)
    complete(pool, "t1", "failed")
    sweeper.due_in(0.05)
    wait_until(lambda: state(pool) == "pending", "the retry is due", 2.0)
