"""Plain reads of the fleet: an agent is shown as it declared itself and as it is now."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.ledger import Pool
from balancer.ledger.read_fleet import agents, agents_by_id
from tests.support.factories import Clock, assign, beat, boot_of, make_task, submit


def test_agent_reads_back_what_it_declared_and_what_it_holds(
    virtual_pool: Pool, clock: Clock
) -> None:
    said: dict[str, Any] = {
        "type": "build-agent",
        "specializations": ("ui", "bug"),
        "max_concurrent": 7,
    }
    beat(virtual_pool, "a1", role="builder", **said)
    submit(virtual_pool, make_task("t1", role="builder", cost=3))
    assign(virtual_pool, "t1", "a1")
    clock.advance(8.25)

    (agent, unknown) = agents_by_id(virtual_pool, ["a1", "nobody"])

    assert unknown is None
    assert agent is not None
    assert agent.model_dump(mode="json") == {
        "id": "a1",
        "role": "builder",
        "type": "build-agent",
        "specializations": ["bug", "ui"],
        "skills": {},
        "speeds": {},
        "learned_speeds": {},
        "tries": 0,
        "success": None,
        "gate": "",
        "max_concurrent": 7,
        "current_tasks": 1,
        "used": 3,
        "health": 0.8,
        "state": "live",
        "mode": "running",
        "admin": "none",
        "retires_in_s": None,
        "boot": boot_of("a1"),
        "heartbeat_age_s": 8.25,
    }
    assert agents(virtual_pool) == [agent]


@pytest.mark.parametrize(("interval_ms", "health"), [(1_000, 0.8), (5_000, 1.0)])
def test_health_goes_by_the_interval_that_the_agent_declared(
    virtual_pool: Pool, clock: Clock, interval_ms: int, health: float
) -> None:
    beat(virtual_pool, interval_ms=interval_ms, ttl_ms=60_000)
    clock.advance(2)

    assert [agent.health for agent in agents(virtual_pool)] == [health]


@pytest.mark.damaged
def test_learned_speeds_are_shown_as_speeds_beside_the_declared_ones(virtual_pool: Pool) -> None:
    beat(virtual_pool, "a1", specializations=("bug",), speed=2.0, speeds={"docs": 0.5})
    virtual_pool.client.hset(virtual_pool.keys.agent("a1"), "learned", '"":-1,"bug":2,"docs":1')

    agent = agents_by_id(virtual_pool, ["a1"])[0]

    assert agent
    assert agent.speeds == {"": 2.0, "docs": 0.5}
    assert agent.learned_speeds == {"": 1.6, "bug": 3.906, "docs": 0.625}
