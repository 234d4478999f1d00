"""Plain reads of tasks: how they stand, what befell them, which are in a state."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from balancer.core.lanes import Lane, read_lane
from balancer.core.model import Assignment, TaskState
from balancer.core.options import TaskOptions
from balancer.core.strategies import reason
from balancer.ledger import read
from balancer.ledger.commit import Grant, read_scores
from balancer.ledger.exchange import Command, Exchange, exchange
from balancer.ledger.pool import PoolRef


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
    return [read_try(line) for line in lines]


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


def read_try(line: str) -> Try:
    """A stored line of a task's history."""
    agent, granted_us, ended_us, how = line.split(" ")
    return Try(agent=agent, granted_at=int(granted_us) / 1e6, ended_at=int(ended_us) / 1e6, how=how)


@exchange
def task_ids(
    pool: PoolRef, state: TaskState, role: str | None = None, limit: int = 50
) -> Exchange[list[str]]:
    """Ids of tasks in a state, oldest first, at most `limit`. A role narrows pending tasks only."""
    keys, limit = pool.keys, min(limit, read.MOST)
    if state is TaskState.PENDING:
        names = [role] if role else (yield from read.roles(pool))
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
