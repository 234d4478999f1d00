"""Plain reads for producers and people: no script, no decision, every list bounded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from balancer.core.health import health
from balancer.core.invariants import finished, waiting
from balancer.core.lanes import Lane, read_lane
from balancer.core.model import Agent, Assignment, LoadMetrics, TaskState
from balancer.core.options import TaskOptions
from balancer.core.strategies import reason
from balancer.ledger.agent_set import Said
from balancer.ledger.beat import Declared, read_figures
from balancer.ledger.commit import Grant, read_scores
from balancer.ledger.exchange import Command, Exchange, exchange
from balancer.ledger.pool import PoolRef
from balancer.protocol.connect import TextRedis

#: Largest page of any list.
MOST = 1_000


class TaskStatus(BaseModel):
    """One task as the pool knows it now. Times are seconds since 1970, by Redis' clock."""

    model_config = ConfigDict(frozen=True)

    id: str
    state: TaskState
    role: str
    category: str
    priority: str
    cost: int
    attempt: int
    failures: int
    losses: int
    max_failures: int
    agent: str | None
    reason: str
    accepted_at: float
    not_before: float | None
    expires_at: float | None
    max_wait_s: float | None
    on_parent_failure: str
    requires: dict[str, int] = Field(description="least level by skill that an agent must have")
    prefer_agent: str | None
    prefer_for_s: float | None = Field(description="since it became ready")
    ready_at: float
    granted_at: float | None
    freed_at: float | None
    ended_at: float | None
    assignment: Assignment | None
    body: dict[str, Any]
    result: dict[str, Any]
    cancelling: bool = Field(
        default=False, description="an agent holds it and was asked to stop; it ends cancelled"
    )


class Try(BaseModel):
    """One try of a task that did not complete. Times are seconds since 1970, by Redis' clock."""

    model_config = ConfigDict(frozen=True)

    agent: str
    granted_at: float
    ended_at: float = Field(description="for `resumed`: when the agent had come back")
    how: str = Field(
        description="failed, timeout, rejected, released, cancelled; lost: taken back from an agent that was"
        " lost, stopped or restarted; resumed: its agent crashed and went on with it"
    )


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


@exchange
def now_s(pool: PoolRef) -> Exchange[float]:
    """The pool's time: Redis', or the virtual clock's."""
    if pool.clock:
        return pool.clock() / 1e6
    ((seconds, micros),) = yield [("TIME",)]
    return float(seconds) + float(micros) / 1e6


@exchange
def task_statuses(pool: PoolRef, task_ids: Sequence[str]) -> Exchange[list[TaskStatus | None]]:
    """The tasks of these ids, None for unknown ones, in one round trip."""
    keys = pool.keys
    asks: list[Command] = []
    for task_id in task_ids:
        asks += [
            ("HGETALL", keys.task(task_id)),
            ("GET", keys.body(task_id)),
            ("GET", keys.result(task_id)),
        ]
    replies = yield asks
    return [status_of(id_, *replies[3 * i : 3 * i + 3]) for i, id_ in enumerate(task_ids)]


def status_of(
    task_id: str, fields: dict[str, str], body: str | None = None, result: str | None = None
) -> TaskStatus | None:
    """A task from its fields; None where there are none."""
    if not fields:
        return None
    priority, max_failures, *_ = fields["d"].split("|")
    options = TaskOptions.read(fields.get("o"))
    preferred, _, for_ms = fields.get("p", "").partition("|")
    grant, assignment = None, None
    if "grant" in fields:
        grant = Grant.read(fields["grant"])
        agent_type, _, packed = fields["why"].partition("|")
        scores = read_scores(packed)
        assignment = Assignment(
            task_id=task_id,
            agent_id=fields["agent"],
            attempt=int(fields["attempt"]),
            reason=reason(grant.strategy, agent_type or fields["agent"], scores),
            scores=scores,
            estimated_duration_s=grant.estimate_ms / 1000,
        )
    return TaskStatus(
        id=task_id,
        state=TaskState(fields["state"]),
        role=fields["role"],
        category=fields["category"],
        priority=priority,
        cost=int(fields["cost"]),
        attempt=int(fields.get("attempt", 0)),
        failures=int(fields.get("failures", 0)),
        losses=int(fields.get("losses", 0)),
        max_failures=int(max_failures),
        agent=fields.get("agent"),
        reason=fields.get("reason", ""),
        accepted_at=int(fields["accepted_us"]) / 1e6,
        not_before=int(fields["not_before_us"]) / 1e6 if "not_before_us" in fields else None,
        expires_at=options.expires_us / 1e6 or None,
        max_wait_s=options.max_wait_ms / 1000 or None,
        on_parent_failure=options.policy,
        requires=json.loads(fields["r"]) if "r" in fields else {},
        prefer_agent=preferred or None,
        prefer_for_s=int(for_ms) / 1000 if for_ms else None,
        ready_at=int(fields["ready_us"]) / 1e6,
        granted_at=grant.granted_us / 1e6 if grant else None,
        freed_at=grant.freed_us / 1e6 if grant else None,
        ended_at=int(fields["ended_us"]) / 1e6 if "ended_us" in fields else None,
        assignment=assignment,
        body=json.loads(body) if body else {},
        result=json.loads(result) if result else {},
        cancelling="cancel" in fields,
    )


@exchange
def history(pool: PoolRef, task_id: str) -> Exchange[list[Try]]:
    """The last ten tries of a task that did not complete, oldest first."""
    (lines,) = yield [("LRANGE", pool.keys.hist(task_id), 0, -1)]
    return [_try(line) for line in lines]


class Dead(NamedTuple):
    """One dead task, in short."""

    id: str
    role: str
    reason: str


@exchange
def dead(pool: PoolRef, upto_us: int, skip: int, limit: int) -> Exchange[list[Dead]]:
    """At most `limit` of the tasks that died until then, the earliest first, behind the first `skip`."""
    keys = pool.keys
    (ids,) = yield [("ZRANGEBYSCORE", keys.dead, "-inf", upto_us, "LIMIT", skip, limit)]
    facts = (yield [("HMGET", keys.task(id_), "role", "reason") for id_ in ids]) if ids else []
    pairs = zip(ids, facts, strict=True)
    return [Dead(id_, role or "", reason or "") for id_, (role, reason) in pairs]


def _try(line: str) -> Try:
    agent, granted_us, ended_us, how = line.split(" ")
    return Try(agent=agent, granted_at=int(granted_us) / 1e6, ended_at=int(ended_us) / 1e6, how=how)


@exchange
def task_ids(
    pool: PoolRef, state: TaskState, role: str | None = None, limit: int = 50
) -> Exchange[list[str]]:
    """Ids of tasks in a state, oldest first, at most `limit`. A role narrows pending tasks only."""
    keys, limit = pool.keys, min(limit, MOST)
    if state is TaskState.PENDING:
        names = [role] if role else (yield from _roles(pool))
        pages = yield [("ZRANGE", keys.pending(name), 0, limit - 1, "WITHSCORES") for name in names]
        found = [(float(score), id_) for page in pages for id_, score in page]
        return [id_ for _, id_ in sorted(found)[:limit]]
    key = {TaskState.ASSIGNED: keys.leases}.get(state, f"{keys.prefix}{state.value}")
    (ids,) = yield [("ZRANGE", key, 0, limit - 1)]
    return list(ids)


@exchange
def lane_of(pool: PoolRef, task_id: str) -> Exchange[Lane | None]:
    """The lane of a task; None when it has ended, or is unknown."""
    (lane_id,) = yield [("HGET", pool.keys.task(task_id), "lane")]
    (text,) = yield [("HGET", pool.keys.lanedef, lane_id or "")]
    return read_lane(text) if text else None


def _roles(pool: PoolRef) -> Exchange[list[str]]:
    (names,) = yield [("SMEMBERS", pool.keys.roles)]
    return sorted(names)


@exchange
def agents(pool: PoolRef, limit: int = MOST) -> Exchange[list[Agent]]:
    """Known agents, live ones first, at most `limit`."""
    last = min(limit, MOST) - 1
    alive, gone = yield [
        ("ZRANGE", pool.keys.alive, 0, last),
        ("ZRANGE", pool.keys.gone, 0, last),
    ]
    found = yield from agents_by_id.steps(pool, [*alive, *gone][: last + 1])
    return [agent for agent in found if agent is not None]


@exchange
def agents_by_id(pool: PoolRef, ids: Sequence[str]) -> Exchange[list[Agent | None]]:
    """The agents of these ids, None for unknown ones, in one round trip."""
    now_ms = (yield from now_s.steps(pool)) * 1000
    found = yield [("HGETALL", pool.keys.agent(agent_id)) for agent_id in ids]
    return [_agent(id_, fields, now_ms) for id_, fields in zip(ids, found, strict=True)]


def _agent(agent_id: str, fields: dict[str, str], now_ms: float) -> Agent | None:
    if not fields:
        return None
    age_ms = max(0.0, now_ms - int(fields["beat_ms"]))
    live, declared = fields["state"] == "live", Declared.read(fields["d"])
    said = Said.read(fields["admin"])
    return Agent.model_validate(
        {
            "id": agent_id,
            "role": fields["role"],
            "type": declared.type,
            "specializations": tuple(part for part in fields["specs"].split(",") if part),
            "skills": read_figures(fields.get("skills")),
            "speeds": read_figures(fields.get("speeds")),
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


@exchange
def queues(pool: PoolRef) -> Exchange[list[RoleQueue]]:
    """Every role's depth, age and capacity. Depth and age come from the pending sets themselves."""
    keys, now = pool.keys, (yield from now_s.steps(pool))
    roles = yield from _roles(pool)
    asks: list[Command] = []
    for role in roles:
        asks += [
            ("ZCARD", keys.pending(role)),
            ("ZRANGE", keys.pending(role), 0, 0, "WITHSCORES"),
            ("HGETALL", keys.role(role)),
        ]
    replies = yield asks
    out = []
    for i, role in enumerate(roles):
        pending, head, counters = replies[3 * i : 3 * i + 3]
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


def counters(client: TextRedis, key: str) -> dict[str, int]:
    """A counter hash of the pool or a role."""
    return {name: int(value) for name, value in client.hgetall(key).items()}
