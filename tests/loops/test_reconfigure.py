"""Loops under work while the pool is configured anew, back and forth: nothing is lost, and all go by what is new."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from balancer.core.errors import Misconfigured
from balancer.core.settings import PoolSettings
from balancer.ledger import Pool
from balancer.ledger.audit import audit
from balancer.ledger.configure import Outcome, configure
from balancer.ledger.read_tasks import task_statuses
from balancer.loops.drainer import Drainer
from balancer.loops.sweeper import Sweeper
from balancer.protocol import TextRedis
from tests.ledger.test_configure import assert_exact
from tests.support.factories import Clock, beat, complete, later, make_task, submit

STRATEGIES = ["fit", "round_robin", "best_match", "random", "least_loaded", "fit"]


def in_state(pool: Pool, ids: list[str], state: str) -> list[str]:
    statuses = task_statuses(pool, ids)
    return [status.id for status in statuses if status and status.state == state]


def test_a_pool_under_work_is_switched_back_and_forth_and_loses_nothing(
    virtual_pool: Pool, reading: TextRedis, clock: Clock
) -> None:
    """Two replicas of which each has settings of its own in memory; whoever configures is a third."""
    operator = Pool.open(virtual_pool.client, "p", clock)
    replicas = [Pool.open(virtual_pool.client, "p", clock) for _ in range(2)]
    drainers = [Drainer(pool, reading) for pool in replicas]
    sweepers = [Sweeper(pool) for pool in replicas]
    ids: list[str] = []
    ended = 0
    for turn, strategy in enumerate(STRATEGIES * 2):
        for n in range(4):
            beat(virtual_pool, f"a{n}", max_concurrent=3)
        new = [f"t{turn}.{n}" for n in range(20)]
        ids += new
        submit(virtual_pool, *(
            make_task(id_, priority=("low", "high")[n % 2], category=f"c{n % 5}",
                not_before=later(3 * turn + 2) if n % 7 == 0 else None)
            for n, id_ in enumerate(new)
        ))  # fmt: skip
        for drainer in drainers:
            drainer.step()
        ageing = 0.1 * (1 + turn)
        settings = PoolSettings(strategy=strategy, ageing=ageing, seed=turn + 1)
        assert configure(operator, settings) is Outcome.OK
        assert sum(drainer.step().rejected for drainer in drainers) == 0
        assert all(pool.settings == settings for pool in replicas)
        for id_ in in_state(virtual_pool, ids, "assigned") if turn % 3 else ():
            complete(virtual_pool, id_)
        clock.advance(3)
        for sweeper in sweepers:
            sweeper.step()
        assert_exact(operator, *in_state(virtual_pool, ids, "pending"))
    while ended < len(ids):
        for n in range(4):
            beat(virtual_pool, f"a{n}", max_concurrent=3)
        drainers[ended % 2].step()
        sweepers[ended % 2].step()
        held = in_state(virtual_pool, ids, "assigned")
        for id_ in held:
            complete(virtual_pool, id_)
        clock.advance(1)
        ended = len(in_state(virtual_pool, ids, "completed"))
        assert held or ended == len(ids)
    assert audit(virtual_pool).violations == []


def test_a_drainer_plans_by_the_new_strategy_at_once(pool: Pool, reading: TextRedis) -> None:
    drainer = Drainer(Pool.open(pool.client, "p"), reading)
    beat(pool, "a1", max_concurrent=5)
    beat(pool, "a2", max_concurrent=5)
    submit(pool, "t1")
    assert drainer.step().assigned == 1
    configure(pool, PoolSettings(strategy="round_robin"))
    submit(pool, "t2")

    with capture_logs() as logs:
        assert drainer.step().assigned == 1

    assert pool.client.hget(pool.keys.task("t2"), "grant").endswith("|round_robin")
    told = [line for line in logs if line["event"] == "settings_adopted"]
    assert [(line["settings_ver"], line["strategy"]) for line in told] == [(2, "round_robin")]


def test_a_drainer_that_cannot_load_the_strategy_says_so_and_decides_nothing(
    pool: Pool, reading: TextRedis
) -> None:
    """Another replica, which has the class, goes on; this one comes back with the next change."""
    drainer = Drainer(Pool.open(pool.client, "p"), reading)
    beat(pool)
    submit(pool, "t1")
    configure(pool, PoolSettings(max_losses=5))
    text = PoolSettings(strategy="nowhere:Nobody").model_dump_json()
    pool.client.hset(pool.keys.settings, "json", text)

    with pytest.raises(Misconfigured, match="nowhere"):
        drainer.step()
    assert pool.client.exists(pool.keys.drain_lock) == 0
    assert pool.client.hget(pool.keys.task("t1"), "state") == "pending"

    configure(pool, PoolSettings(max_losses=6))
    assert drainer.step().assigned == 1


def test_a_sweeper_that_dies_between_pages_leaves_the_rest_to_another(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"t{n:03}" for n in range(600)]
    for at in range(0, 600, 200):
        submit(pool, *names[at : at + 200])
    configure(pool, PoolSettings(strategy="fit"))
    from balancer.loops import sweeper

    monkeypatch.setattr(sweeper, "PAGES", 1)
    assert Sweeper(Pool.open(pool.client, "p")).step().rescored == 200
    assert pool.client.exists(pool.keys.rescore)
    monkeypatch.undo()

    swept = Sweeper(Pool.open(pool.client, "p")).step()

    assert swept.rescored == 400
    assert_exact(pool, *names)
    assert not pool.client.exists(pool.keys.rescore)


def test_a_sweeper_tells_its_process_what_decides_now(pool: Pool) -> None:
    own = Pool.open(pool.client, "p")
    configure(pool, PoolSettings(retention_count=7))

    Sweeper(own).step()

    assert own.settings.retention_count == 7
    assert own.settings_ver == 2
