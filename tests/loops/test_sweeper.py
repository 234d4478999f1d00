"""The sweeper: what time alone changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balancer.core.settings import PoolSettings
from balancer.ledger import Pool
from balancer.ledger.read_fleet import agents
from balancer.ledger.read_tasks import task_statuses
from balancer.ledger.tick import NO_LIMIT, read_memory
from balancer.loops.loop import Loop
from balancer.loops.sweeper import Sweeper
from balancer.protocol import TextRedis
from tests.support.factories import (
    Clock,
    assign,
    beat,
    complete,
    dump,
    later,
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


def test_a_scheduled_task_becomes_pending_and_may_expire(virtual_pool: Pool, clock: Clock) -> None:
    pool = virtual_pool
    submit(
        pool,
        make_task("t1", not_before=later(3), max_wait_s=2),
        make_task("child", depends_on=("t1",)),
    )
    sweep(pool, clock, 2)
    assert state(pool) == "scheduled"
    sweep(pool, clock, 1)
    assert state(pool) == "pending"
    sweep(pool, clock, 2)
    assert (state(pool), state(pool, "child")) == ("dead", "dead")


def test_more_than_a_page_expires_in_one_step(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, *(make_task(f"t{n}", max_wait_s=1) for n in range(450)))
    clock.advance(2)
    assert Sweeper(virtual_pool).step().expired == 450


def test_new_work_is_refused_before_memory_runs_out(
    redis_client: TextRedis, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the figures of Redis itself: completions still fit where submits are refused."""
    submit(pool, "t1")
    beat(pool)
    assign(pool)
    sweeper = Sweeper(pool)
    sweeper.step()
    used = int(redis_client.info("memory")["used_memory"])
    redis_client.config_set("maxmemory", round(used / 0.9))
    try:
        sweeper.step()
        assert submit(pool, "t2") == ["redis_full"]
        assert complete(pool) == "ok"
        redis_client.config_set("maxmemory", 10 * used)
        sweeper.step()
        assert submit(pool, "t2") == ["accepted"]
    finally:
        redis_client.config_set("maxmemory", 0)
    said = capsys.readouterr().out
    assert said.count("memory_filled") == said.count("memory_freed") == 1


def test_where_redis_says_nothing_of_its_memory_there_is_no_limit(
    redis_client: TextRedis, pool: Pool
) -> None:
    redis_client.execute_command("ACL SETUSER default -info")
    try:
        assert read_memory(pool) == NO_LIMIT
        assert Sweeper(pool).step().expired == 0
        assert submit(pool, "t1") == ["accepted"]
    finally:
        redis_client.execute_command("ACL SETUSER default +@all")
