"""Plain reads of agents and of their roles' queues."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from balancer.core.health import health
from balancer.core.invariants import finished, waiting
from balancer.core.lanes import AgentClass, gate_of
from balancer.core.model import Agent, LoadMetrics
from balancer.core.pace import Pace
from balancer.ledger import read
from balancer.ledger.agent_set import Said
from balancer.ledger.beat import Declared, read_figures
from balancer.ledger.exchange import Command, Exchange, exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.read_effort import usually_off


class RoleQueue(BaseModel):
    """One role's queue and capacity."""

    model_config = ConfigDict(frozen=True)

    role: str
    paused: bool
    pending: int
    scheduled: int
    waiting: int = Field(
        description="pending, scheduled, blocked or failed: what max_pending bounds"
    )
    max_pending: int
    oldest_waiting_s: float
    agents: int
    capacity: int
    used: int
    completed: int
    dead: int
    unplaceable: int | None = Field(
        default=None,
        description="pending tasks that none of its agents that accept work could have, for a skill or their"
        " size; none: nobody looked",
    )
    unplaceable_task: str | None = Field(default=None, description="the first of them in line")
    usually_off: float | None = Field(
        default=None,
        description="factor by which completed tasks usually missed what was expected of them; None: not known yet",
    )


@exchange
def agents(pool: PoolRef, limit: int = read.MOST) -> Exchange[list[Agent]]:
    """Known agents, live ones first, at most `limit`."""
    last = min(limit, read.MOST) - 1
    alive, gone = yield [
        ("ZRANGE", pool.keys.alive, 0, last),
        ("ZRANGE", pool.keys.gone, 0, last),
    ]
    found = yield from agents_by_id.steps(pool, [*alive, *gone][: last + 1])
    return [agent for agent in found if agent is not None]


@exchange
def agents_by_id(pool: PoolRef, ids: Sequence[str]) -> Exchange[list[Agent | None]]:
    """The agents of these ids, None for unknown ones, in one round trip."""
    now_ms = (yield from read.now_s.steps(pool)) * 1000
    found = yield [("HGETALL", pool.keys.agent(agent_id)) for agent_id in ids]
    return [_agent(id_, fields, now_ms) for id_, fields in zip(ids, found, strict=True)]


def _agent(agent_id: str, fields: dict[str, str], now_ms: float) -> Agent | None:
    if not fields:
        return None
    age_ms = max(0.0, now_ms - int(fields["beat_ms"]))
    live, declared = fields["state"] == "live", Declared.read(fields["d"])
    said, pace = Said.read(fields["admin"]), Pace.read(fields.get("pace"))
    return Agent.model_validate(
        {
            "id": agent_id,
            "role": fields["role"],
            "type": declared.type,
            "specializations": tuple(part for part in fields["specs"].split(",") if part),
            "skills": read_figures(fields.get("skills")),
            "speeds": read_figures(fields.get("speeds")),
            "learned_speeds": _learned_speeds(fields),
            "tries": pace.tries,
            "success": pace.share if pace.tries else None,
            "gate": gate_of(fields["class"]),
            "max_concurrent": int(fields["max"]),
            "current_tasks": int(fields["n"]),
            "used": int(fields["used"]),
            "health": health(age_ms, declared.interval_ms, declared.ttl_ms) if live else 0.2,
            "state": fields["state"],
            "mode": fields["mode"],
            "admin": said.word,
            "retires_in_s": None
            if said.retires_ms is None
            else max(0.0, said.retires_ms - now_ms) / 1000,
            "boot": fields["boot"],
            "heartbeat_age_s": age_ms / 1000,
        }
    )


def _learned_speeds(fields: dict[str, str]) -> dict[str, float]:
    if not fields.get("learned"):
        return {}
    steps: dict[str, int] = json.loads("{" + fields["learned"] + "}")
    cls = AgentClass(
        fields["role"],
        tuple(fields["specs"].split(",")),
        int(fields["max"]),
        speeds=tuple(read_figures(fields.get("speeds")).items()),
        learned=tuple(steps.items()),
    )
    return {category: round(cls.speed_of(category), 3) for category in sorted(steps)}


@exchange
def queues(pool: PoolRef) -> Exchange[list[RoleQueue]]:
    """Every role's depth, age and capacity. Depth and age come from the pending sets themselves."""
    keys, now = pool.keys, (yield from read.now_s.steps(pool))
    roles = yield from read.roles(pool)
    asks: list[Command] = []
    for role in roles:
        asks += [
            ("ZCARD", keys.pending(role)),
            ("ZRANGE", keys.pending(role), 0, 0, "WITHSCORES"),
            ("HGETALL", keys.role(role)),
            ("HGET", keys.est, f"x:{role}"),
            ("HGET", keys.est_old, f"x:{role}"),
        ]
    replies = yield asks
    out = []
    for i, role in enumerate(roles):
        pending, head, counters, *off = replies[5 * i : 5 * i + 5]
        numbers = {
            name: int(counters.get(name, 0))
            for name in ("scheduled", "agents", "capacity", "used", "completed")
        }
        numbers["dead"] = finished({name: int(n) for name, n in counters.items()})["dead"]
        oldest = max(0.0, now - float(head[0][1]) / 1e6) if head else 0.0
        out.append(
            RoleQueue(
                role=role,
                paused="paused" in counters,
                pending=pending,
                waiting=waiting({name: int(value) for name, value in counters.items()}),
                max_pending=pool.settings.max_pending_of(role),
                oldest_waiting_s=oldest,
                usually_off=usually_off(off),
                **numbers,
            )
        )
    return out


@exchange
def load_metrics(pool: PoolRef) -> Exchange[LoadMetrics]:
    """How busy the pool is, from the counters. An agent is active until its TTL has passed and it
    was found lost.
    """
    rows = yield from queues.steps(pool)
    total_agents = sum((yield [("ZCARD", pool.keys.alive), ("ZCARD", pool.keys.gone)]))
    capacity, used = sum(row.capacity for row in rows), sum(row.used for row in rows)
    return LoadMetrics(
        total_agents=total_agents,
        active_agents=sum(row.agents for row in rows),
        total_capacity=capacity,
        used_capacity=used,
        utilization_rate=used / capacity if capacity else 0.0,
        queued_tasks=sum(row.pending for row in rows),
        oldest_waiting_s=max((row.oldest_waiting_s for row in rows), default=0.0),
    )
