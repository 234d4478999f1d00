"""The script `gc`: finished tasks are forgotten by age and by number."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import redis

from balancer.core.settings import PoolSettings
from balancer.ledger import Pool
from balancer.ledger import gc as gcs
from balancer.ledger.cancel import cancel
from balancer.ledger.gc import gc
from balancer.ledger.release import release
from balancer.ledger.retry import retry
from tests.support.factories import (
    GONE,
    Clock,
    assert_bad_argument,
    assert_guarded,
    assign,
    beat,
    changes,
    complete,
    completion_entry,
    dump,
    make_task,
    populate,
    settle,
    submit,
)


@pytest.fixture
def small(redis_client: redis.Redis, clock: Clock) -> Pool:
    """A pool that remembers three finished tasks, for a minute."""
    settings = PoolSettings(retention_s=60, retention_count=3)
    return Pool.create(redis_client, "p", settings, clock=clock)


def finish(pool: Pool, *names: str) -> None:
    beat(pool, max_concurrent=9)
    for name in names:
        assign(pool, name)
        complete(pool, name, result="1")


def known(pool: Pool) -> list[str]:
    return sorted(key.rpartition(":")[2] for key in dump(pool.client) if ":task:" in key)


def test_beyond_its_time_all_of_a_task_is_forgotten(small: Pool, clock: Clock) -> None:
    submit(
        small, "t2",
        make_task("t1", dedup_key="once", payload={"n": 1}, max_failures=2),
        make_task("child", depends_on=("t1",)),
    )  # fmt: skip
    beat(small, max_concurrent=9)
    assign(small, "t1")
    complete(small, "t1", "failed")
    cancel(small, ["t1"])
    clock.advance(1)
    release(small)
    before = {key for key in dump(small.client) if key.endswith(":t1")}
    assert {key.split("}:")[1] for key in before} == {"task:t1", "body:t1", "hist:t1"}
    dedup = next(key for key in dump(small.client) if "dedup:" in key).split("}:")[1]
    clock.advance(58.999999)
    with changes(small) as early:
        assert gc(small) == (0, False)
    assert early.nothing
    clock.advance(0.000001)

    with changes(small) as seen:
        assert gc(small) == (1, False)

    gone = {name for name, value in seen.state.items() if value == GONE}
    assert {name.split(" ")[0] for name in gone} == {
        "task:t1",
        "body:t1",
        "hist:t1",
        "cancelled",
        dedup,
    }
    assert {name: value for name, value in seen.state.items() if name not in gone} == {
        "role:dev forgotten_cancelled": "1",
        "pool forgotten_cancelled": "1",
    }
    assert known(small) == ["child", "t2"]
    with changes(small) as again:
        assert gc(small) == (0, False)
    assert again.nothing


def test_beyond_their_number_the_oldest_are_forgotten_whatever_their_state(
    small: Pool, clock: Clock
) -> None:
    names = ["c1", "d1", "x1", "c2", "d2", "x2"]
    submit(small, *(make_task(name, max_failures=1) for name in names), "waits")
    beat(small, max_concurrent=9)
    for name in names:
        clock.advance(1)
        if name.startswith("x"):
            cancel(small, [name])
        else:
            assign(small, name)
            complete(small, name, "completed" if name.startswith("c") else "failed")

    assert gc(small) == (3, False)

    assert known(small) == ["c2", "d2", "waits", "x2"]
    counts = small.client.hgetall(small.keys.pool)
    assert {name: counts[f"forgotten_{name}"] for name in ("completed", "dead", "cancelled")} == {
        "completed": "1", "dead": "1", "cancelled": "1",
    }  # fmt: skip


def test_a_parent_is_remembered_until_its_children_were_told(small: Pool, clock: Clock) -> None:
    submit(small, "t1", make_task("child", depends_on=("t1",)))
    finish(small, "t1")
    clock.advance(61)

    assert gc(small) == (0, False)
    assert release(small).ready == 1
    assert gc(small) == (1, False)
    assert submit(small, make_task("late", depends_on=("t1",))) == ["unknown_parent"]


def test_what_waits_or_runs_is_never_forgotten(virtual_pool: Pool, clock: Clock) -> None:
    populate(virtual_pool)
    release(virtual_pool)
    clock.advance(10 * 86_400)

    assert gc(virtual_pool).tasks == 3

    assert known(virtual_pool) == ["assigned", "blocked", "failed", "pending"]


def test_a_forgotten_task_is_unknown_and_may_come_again(small: Pool, clock: Clock) -> None:
    submit(small, make_task("t1", dedup_key="once"))
    beat(small)
    assign(small, "t1")
    done = completion_entry(small, "t1")
    settle(small, done)
    assert submit(small, make_task("t9", dedup_key="once")) == ["duplicate"]
    clock.advance(61)
    gc(small)

    assert settle(small, done) == ["unknown"]
    assert retry(small, ["t1"])[0].outcome == "unknown"
    assert submit(small, make_task("t9", dedup_key="once")) == ["accepted"]


def test_a_dedup_key_that_is_another_tasks_by_now_stays(small: Pool, clock: Clock) -> None:
    submit(small, make_task("t1", dedup_key="once"))
    finish(small, "t1")
    key = next(key for key in dump(small.client) if "dedup:" in key)
    clock.advance(61)
    small.client.set(key, "t2")

    gc(small)

    assert small.client.get(key) == "t2"
    small.client.delete(key)


def test_more_than_a_page_goes_in_pages(virtual_pool: Pool, clock: Clock) -> None:
    names = [f"t{n:03}" for n in range(450)]
    submit(virtual_pool, *names)
    for at in range(0, 450, 150):
        cancel(virtual_pool, names[at : at + 150])
        clock.advance(1)
    clock.advance(86_400)

    assert [gc(virtual_pool) for _ in range(4)] == [
        (200, True),
        (200, True),
        (50, False),
        (0, False),
    ]


def test_gc_runs_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    submit(pool, "t1")
    cancel(pool, ["t1"])

    with out_of_memory():
        assert pool.run(gcs.SCRIPT, [0, 0]) == [1, 0]


def test_gc_on_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    assert_guarded(virtual_pool, gcs.SCRIPT, [0, 0])


@pytest.mark.parametrize(
    "args",
    [
        [],
        [1],
        ["nan", 1],
        [-1, 1],
        ["1e3", 1],
        [1, "nan"],
        [1, -1],
        [1, "0x10"],
        [1, 1_000_000_001],
    ],
)
def test_gc_with_a_bad_argument_writes_nothing(virtual_pool: Pool, args: list[str | int]) -> None:
    populate(virtual_pool)
    assert_bad_argument(virtual_pool, gcs.SCRIPT, args)
