"""Asking about the whole fleet, in bounded pages."""

from __future__ import annotations

from balancer.core.invariants import waiting
from balancer.core.model import Agent
from balancer.inputs import check_count
from balancer.ledger import read, read_fleet
from balancer.ledger.exchange import Command, Exchange
from balancer.ledger.pool import PoolRef

#: Most agents that a pool knows, those that are gone included.
MOST_AGENTS = 50_000


def known(pool: PoolRef, limit: int) -> Exchange[list[Agent]]:
    """Known agents, live ones first; a page of read.MOST at most."""
    check_count("limit", limit, MOST_AGENTS)
    return (yield from read_fleet.agents.steps(pool, limit))


def everyone(pool: PoolRef) -> Exchange[list[Agent]]:
    """All known agents by name, also those that are gone; a pool knows 50,000 at most."""
    alive, gone = yield [
        ("ZRANGE", pool.keys.alive, 0, -1),
        ("ZRANGE", pool.keys.gone, 0, -1),
    ]
    ids, found = sorted({*alive, *gone}), []
    for at in range(0, len(ids), read.MOST):
        page = yield from read_fleet.agents_by_id.steps(pool, ids[at : at + read.MOST])
        found += [agent for agent in page if agent is not None]
    return found


def idle(pool: PoolRef, role: str | None) -> Exchange[list[Agent]]:
    """Live agents that hold nothing, of one role or of all."""
    found = yield from everyone(pool)
    return [agent for agent in found if agent.activity == "idle" and role in (None, agent.role)]


def of_role(pool: PoolRef, role: str) -> Exchange[list[Agent]]:
    """All known agents of a role."""
    return [agent for agent in (yield from everyone(pool)) if agent.role == role]


def roles_needed(pool: PoolRef) -> Exchange[list[str]]:
    """Roles that have waiting work and no live agent, by name."""
    roles = yield from read.roles(pool)
    asks: list[Command] = [("HGETALL", pool.keys.role(role)) for role in roles]
    counted = [{name: int(n) for name, n in row.items()} for row in (yield asks)]
    return [
        role
        for role, counters in zip(roles, counted, strict=True)
        if waiting(counters) > 0 and not counters.get("agents", 0)
    ]


def running(pool: PoolRef) -> Exchange[int]:
    """Open leases of all agents, from the pool's counter."""
    ((count,),) = yield [("HMGET", pool.keys.pool, "running")]
    return int(count or 0)
