"""Run timeouts that follow from what is expected of a task."""

from __future__ import annotations

import pytest
import redis

from balancer.core.effort import FEW, Estimate
from balancer.core.limits import derived_timeout_ms
from balancer.core.model import Priority
from balancer.core.settings import PoolSettings
from balancer.ledger import Pool
from balancer.ledger.configure import configure
from balancer.ledger.read_effort import Effort, TimeoutBy, effort_of
from balancer.ledger.reprioritise import reprioritise
from balancer.ledger.script import Script
from balancer.ledger.timeout import timeout
from tests.ledger.test_effort import run, stored
from tests.ledger.test_pace import sound
from tests.support.factories import (
    Clock,
    assign,
    beat,
    changes,
    commit,
    complete,
    drain,
    entries,
    make_task,
    proposal,
    submit,
)

DAY_MS = 86_400_000


@pytest.fixture
def timed(redis_client: redis.Redis, clock: Clock) -> Pool:
    """A pool whose run timeouts are three times what is expected, in which tasks are known to take a minute or two."""
    settings = PoolSettings(run_timeout_factor=3, min_run_timeout_s=10)
    pool = Pool.create(redis_client, "p", settings, clock=clock)
    beat(pool, "a1")
    for n in range(FEW + 5):
        run(pool, clock, f"known{n}", (60_000, 120_000)[n % 2])
    beat(pool, "a1")
    return pool


def limit_ms(pool: Pool, task: str) -> int:
    """How long an assigned task may run: the lease, and what its agent was told, say the same."""
    grant = pool.client.hget(pool.keys.task(task), "grant") or ""
    ends_us = pool.client.zscore(pool.keys.leases, task)
    assert ends_us is not None
    found = int(ends_us - int(grant.split("|")[0])) // 1_000
    agent = pool.client.hget(pool.keys.task(task), "agent") or ""
    (told,) = [
        fields for _, fields in entries(pool, pool.keys.inbox(agent)) if fields.get("task") == task
    ]
    assert told["timeout_ms"] == str(found)
    return found


def shown(pool: Pool, task: str) -> Effort:
    effort = effort_of(pool, task)
    assert effort
    return effort


def facts(pool: Pool, task: str) -> str:
    return (pool.client.hget(pool.keys.task(task), "d") or "").split("|")[2]


def test_it_follows_from_what_nine_of_ten_take(timed: Pool, clock: Clock) -> None:
    submit(timed, "t1", make_task("said", run_timeout_s=7), make_task("day", run_timeout_s=86_400))
    estimate = stored(timed, "t1")
    assert estimate.n >= FEW
    waiting = shown(timed, "t1")
    assert waiting.run_timeout_by is TimeoutBy.ESTIMATE
    assert waiting.run_timeout_s == pytest.approx(3 * estimate.p90_ms / 1_000, abs=0.001)
    assert (facts(timed, "t1"), facts(timed, "said"), facts(timed, "day")) == (
        *("0", "7000", str(DAY_MS)),
    )

    beat(timed, "a2", max_concurrent=2)
    assign(timed, "said", "a2")
    assign(timed, "day", "a2")
    assert drain(timed) == {"t1": "a1"}

    assert 3 * 60_000 < limit_ms(timed, "t1") < 12 * 60_000
    assert limit_ms(timed, "t1") == pytest.approx(3 * estimate.p90_ms, rel=0.001)
    assert shown(timed, "t1").run_timeout_s == limit_ms(timed, "t1") / 1_000
    assert (limit_ms(timed, "said"), limit_ms(timed, "day")) == (7_000, DAY_MS)
    assert [shown(timed, name).run_timeout_by for name in ("said", "day")] == 2 * [TimeoutBy.TASK]
    sound(timed)


def test_the_sweeper_ends_what_runs_longer(timed: Pool, clock: Clock) -> None:
    submit(timed, make_task("t1", max_failures=1))
    assign(timed, "t1")
    limit_s = limit_ms(timed, "t1") / 1_000

    clock.advance(limit_s + 4.9)
    assert timeout(timed).dead == 0
    clock.advance(0.2)
    assert timeout(timed).dead == 1

    with changes(timed) as seen:
        assert timeout(timed).dead == 0
    assert seen.nothing
    sound(timed)


@pytest.mark.parametrize(("speed", "times"), [(0.5, 2.0), (2.0, 0.5)])
def test_a_slow_agent_has_longer(timed: Pool, clock: Clock, speed: float, times: float) -> None:
    submit(timed, "t1")
    at_speed_1 = shown(timed, "t1").run_timeout_s
    beat(timed, "a1", mode="stopping")
    beat(timed, "other", speed=speed)

    assert drain(timed) == {"t1": "other"}

    assert limit_ms(timed, "t1") / 1_000 == pytest.approx(times * at_speed_1, rel=0.001)
    assert shown(timed, "t1").run_timeout_s == limit_ms(timed, "t1") / 1_000


def test_what_little_is_known_of_may_run_for_a_day(redis_client: redis.Redis, clock: Clock) -> None:
    """Else what was cut short would never teach that it takes longer."""
    settings = PoolSettings(run_timeout_factor=1, min_run_timeout_s=1)
    pool = Pool.create(redis_client, "p", settings, clock=clock)
    beat(pool, "a1", max_concurrent=9)
    for n in range(FEW - 1):
        run(pool, clock, f"known{n}", 60_000)
    submit(pool, "few", make_task("own", estimate_s=5.0))
    assert stored(pool, "few").n == FEW - 1
    for name in ("few", "own"):
        assign(pool, name)
        assert limit_ms(pool, name) == DAY_MS
        assert shown(pool, name).run_timeout_by is TimeoutBy.DEFAULT
        assert shown(pool, name).run_timeout_s == DAY_MS / 1_000
    run(pool, clock, "one-more", 60_000)
    submit(pool, "enough")
    assign(pool, "enough")
    assert limit_ms(pool, "enough") < DAY_MS


def test_it_is_bounded_from_below_and_above(timed: Pool, clock: Clock) -> None:
    beat(timed, "a1", max_concurrent=9)
    least = timed.settings.model_copy(update={"min_run_timeout_s": 4_000.5})
    configure(timed, least)
    submit(timed, "short")
    assign(timed, "short")
    assert limit_ms(timed, "short") == 4_001_000

    submit(timed, "long")
    assert commit(timed, proposal("long", estimate_s=10_000_000.0)) == ["assigned"]
    assert limit_ms(timed, "long") == 30 * DAY_MS
    assert shown(timed, "long").run_timeout_s == 30 * DAY_MS / 1_000


def test_it_is_worked_out_when_the_task_is_granted(timed: Pool, clock: Clock) -> None:
    beat(timed, "a1", max_concurrent=9)
    submit(timed, "t1", "t2", "t3")
    estimate = stored(timed, "t1")
    # Those who grant say that it takes a minute there.
    p90_ms = estimate.p90_ms * 60_000 / estimate.mean_ms
    reprioritise(timed, ["t1"], Priority.HIGH)
    assert facts(timed, "t1") == "0"
    assign(timed, "t1")
    configure(timed, timed.settings.model_copy(update={"run_timeout_factor": 10.0}))
    assign(timed, "t2")
    configure(timed, timed.settings.model_copy(update={"run_timeout_factor": 0.0}))
    assign(timed, "t3")

    assert [limit_ms(timed, f"t{n}") for n in (1, 2, 3)] == [
        *(pytest.approx(times * p90_ms, rel=0.001) for times in (3, 10)), DAY_MS,
    ]  # fmt: skip
    assert shown(timed, "t3").run_timeout_by is TimeoutBy.TASK


def test_it_is_no_part_of_what_the_task_is(timed: Pool, clock: Clock) -> None:
    submit(timed, "t1")
    configure(timed, timed.settings.model_copy(update={"run_timeout_factor": 0.0}))
    with changes(timed) as seen:
        assert submit(timed, "t1") == ["duplicate"]
    assert seen.nothing
    assert submit(timed, make_task("t1", run_timeout_s=5)) == ["conflict"]
    submit(timed, "t2")
    assert facts(timed, "t2") == str(DAY_MS)
    configure(timed, timed.settings.model_copy(update={"run_timeout_factor": 3.0}))
    assert submit(timed, "t2") == ["duplicate"]
    assign(timed, "t2")
    assert limit_ms(timed, "t2") == DAY_MS, "submitted before the factor was set"


def test_a_try_that_comes_again_is_granted_anew(timed: Pool, clock: Clock) -> None:
    submit(timed, "t1")
    beat(timed, "slow", speed=0.5)
    assert commit(timed, proposal("t1", "slow", estimate_s=400.0)) == ["assigned"]
    long_ms = limit_ms(timed, "t1")
    complete(timed, "t1", "released")
    assert shown(timed, "t1").run_timeout_s < long_ms / 1_000, "of whoever gets it next"
    clock.advance(5)
    beat(timed, "slow", speed=0.5, mode="stopping")
    beat(timed, "a1")
    assert drain(timed) == {"t1": "a1"}
    assert limit_ms(timed, "t1") < long_ms


@pytest.mark.parametrize(
    "estimate",
    [Estimate(1, 1, 20, 1), Estimate(90_001, 250_003, 77, 5), Estimate(10**9, 3 * 10**9, 500, 1)],
)
@pytest.mark.parametrize("here_ms", [0, 1, 12_345, 3 * 10**9])
def test_the_limit_in_redis_is_that_of_the_twin(
    timed: Pool, clock: Clock, estimate: Estimate, here_ms: int
) -> None:
    submit(timed, "t1")
    packed = "|".join(str(number) for number in estimate)
    timed.client.hset(timed.keys.task("t1"), "e", packed)
    assert commit(timed, proposal("t1", estimate_s=here_ms / 1_000)) == ["assigned"]
    assert limit_ms(timed, "t1") == derived_timeout_ms(estimate, 3_000, 10, here_ms)


def test_pools_without_it_read_nothing_for_it(virtual_pool: Pool) -> None:
    beat(virtual_pool)
    submit(virtual_pool, "t1")
    assert facts(virtual_pool, "t1") == str(DAY_MS)
    assert "timeout_ms == '0'" in Script("commit").text
    assign(virtual_pool)
    assert limit_ms(virtual_pool, "t1") == DAY_MS
