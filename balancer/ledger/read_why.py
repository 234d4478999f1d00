"""Reading what `core/explain` judges: one task, and its role as a planner would see it. Plain reads, in pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from balancer.core.explain import explained
from balancer.core.explain.answer import Code, Parent, Why
from balancer.core.model import TaskState
from balancer.core.settings import PoolSettings
from balancer.core.wording import seconds
from balancer.ledger.exchange import Exchange, exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.read_picture import Around
from balancer.ledger.read_role import read_role
from balancer.ledger.read_tasks import TaskStatus, Try, history, status_of

#: Most parents that are named.
MOST_PARENTS = 20
#: A balancer ticks every second; when none has for so long, none serves the pool.
UNSERVED_S = 10.0


class _Read(NamedTuple):
    """One task at one instant."""

    status: TaskStatus
    fields: Mapping[str, str]
    now_us: int
    mark_ms: int
    #: Of the last tick of a balancer; 0 when there was none.
    tick_ms: int
    #: What decides in the pool now.
    settings: PoolSettings

    @property
    def task(self) -> dict[str, Any]:
        """What every answer says of it."""
        status = self.status
        same = ("id", "state", "role", "category", "priority", "cost", "failures", "max_failures")
        return {name: getattr(status, name) for name in same} | {
            "requires": status.requires,
            "reason": status.reason,
        }

    @property
    def unserved(self) -> dict[str, Any]:
        """Whether a balancer serves the pool, and since when none has."""
        age_s = self.now_us / 1e6 - self.tick_ms / 1e3
        if self.tick_ms and age_s <= UNSERVED_S:
            return {"is_served": True, "unserved_s": None}
        return {"is_served": False, "unserved_s": age_s if self.tick_ms else None}

    def until_s(self, at_us: float) -> float:
        """Seconds until then; 0 when it has come."""
        return max(0.0, (at_us - self.now_us) / 1e6)


@exchange
def why(pool: PoolRef, task_id: str) -> Exchange[Why | None]:
    """Why a task is where it is; None for an unknown one. At most seven round trips, at most 1,000 agents,
    256 classes, 256 lanes and about 2,000 tasks.

    Raises:
        Misconfigured: the pool's strategy is a class that is not here.
    """
    read = yield from _read(pool, task_id)
    if read is None:
        return None
    tries = [_told(one) for one in (yield from history.steps(pool, task_id))]
    task = read.task | {"tries": tuple(tries)}
    looks = {
        TaskState.PENDING: _pending,
        TaskState.ASSIGNED: _assigned,
        TaskState.BLOCKED: _blocked,
        TaskState.FAILED: _backing_off,
        TaskState.SCHEDULED: _scheduled,
    }
    look = looks.get(read.status.state)
    return (yield from look(pool, read, task)) if look else _ended(read, task)


def _read(pool: PoolRef, task_id: str) -> Exchange[_Read | None]:
    fields, (tick_ms, mark_ms), settings, time = yield [
        ("HGETALL", pool.keys.task(task_id)),
        ("HMGET", pool.keys.meta, "last_tick_ms", "hb_mark_ms"),
        ("HGET", pool.keys.settings, "json"),
        ("TIME",),
    ]
    status = status_of(task_id, fields)
    if status is None:
        return None
    now_us = pool.clock() if pool.clock else int(time[0]) * 1_000_000 + int(time[1])
    decides = PoolSettings.model_validate_json(settings) if settings else pool.settings
    return _Read(status, fields, now_us, int(mark_ms or 0), int(tick_ms or 0), decides)


def _around(read: _Read) -> Around:
    return Around(
        read.status.id,
        read.fields,
        read.now_us,
        min(read.now_us // 1_000, read.mark_ms),
        read.unserved,
    )


def _pending(pool: PoolRef, read: _Read, task: dict[str, Any]) -> Exchange[Why]:
    picture = yield from read_role(pool, _around(read))
    if picture is None:
        # It was given to somebody, or taken back, between two reads.
        return _due(read, task)
    return explained.pending(read.settings, picture, **task)


def _backing_off(pool: PoolRef, read: _Read, task: dict[str, Any]) -> Exchange[Why]:
    (due_us,) = yield [("ZSCORE", pool.keys.failed, read.status.id)]
    return _timed(read, task, Code.BACKING_OFF, float(due_us or 0))


def _scheduled(pool: PoolRef, read: _Read, task: dict[str, Any]) -> Exchange[Why]:
    (at_us,) = yield [("ZSCORE", pool.keys.scheduled, read.status.id)]
    return _timed(read, task, Code.SCHEDULED, float(at_us or 0))


def _assigned(pool: PoolRef, read: _Read, task: dict[str, Any]) -> Exchange[Why]:
    status = read.status
    task |= {
        "assignment": status.assignment,
        "granted_s": read.now_us / 1e6 - (status.granted_at or 0.0),
        "cancelling": status.cancelling,
    }
    picture = yield from read_role(pool, _around(read))
    if picture is None:
        cancelling = task.pop("cancelling")
        return explained.told(Code.CANCELLING if cancelling else Code.ASSIGNED, **task)
    return explained.assigned(read.settings, picture, status.agent or "", **task)


def _blocked(pool: PoolRef, read: _Read, task: dict[str, Any]) -> Exchange[Why]:
    key = pool.keys.parents(read.status.id)
    some, count = yield [("SRANDMEMBER", key, MOST_PARENTS), ("SCARD", key)]
    if not some:
        return _due(read, task)
    names = sorted(some)
    states = yield [("HGET", pool.keys.task(name), "state") for name in names]
    parents = tuple(
        Parent(id=name, state=state or "unknown") for name, state in zip(names, states, strict=True)
    )
    return explained.told(
        Code.BLOCKED, **task, parents=parents, open_parents=max(count, len(names))
    )


def _timed(read: _Read, task: dict[str, Any], code: Code, at_us: float) -> Why:
    if at_us <= read.now_us:
        return _due(read, task)
    return explained.told(code, **task, due_in_s=read.until_s(at_us))


def _due(read: _Read, task: dict[str, Any]) -> Why:
    code = Code.DUE if read.unserved["is_served"] else Code.UNSERVED
    return explained.told(code, **task, **read.unserved)


def _ended(read: _Read, task: dict[str, Any]) -> Why:
    status = read.status
    took_s = None
    if status.granted_at is not None and status.ended_at is not None:
        took_s = max(0.0, status.ended_at - status.granted_at)
    return explained.told(
        Code(status.state.value), **task, assignment=status.assignment, took_s=took_s
    )


def _told(one: Try) -> str:
    return f"{one.how} on {one.agent} after {seconds(max(0.0, one.ended_at - one.granted_at))}"
