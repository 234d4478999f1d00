"""Reading what `core/explain` judges: one task, and its role as a planner would see it. Plain reads, in pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from balancer.core.explain import explained
from balancer.core.explain.answer import Code, Parent, Why
from balancer.core.model import TaskState
from balancer.core.options import expired_by, expiry_us
from balancer.core.settings import PoolSettings
from balancer.core.wording import seconds
from balancer.ledger.exchange import Exchange, exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.read_picture import Around
from balancer.ledger.read_role import read_role
from balancer.ledger.read_tasks import TaskStatus, Try, lane_of, read_try, status_of
from balancer.ledger.read_tried import tried
from balancer.ledger.replicas import asks, read_replicas

#: Most parents that are named.
MOST_PARENTS = 20
#: A balancer ticks every second; when none has for so long, none serves the pool.
UNSERVED_S = 10.0
#: A task that has moved on so often while it was looked at waits for nothing.
_MOVES = 3
#: States in which the error of the last try says why.
_SAY_WHY = (TaskState.FAILED, TaskState.DEAD)


class _Read(NamedTuple):
    """One task at one instant."""

    status: TaskStatus
    fields: Mapping[str, str]
    tries: list[str]
    now_us: int
    mark_ms: int
    #: Of the last tick of a balancer; 0 when there was none.
    tick_ms: int
    #: What decides in the pool now.
    settings: PoolSettings
    settings_ver: int
    #: Whether a balancer has just begun: none has ever ticked, and one holds a name.
    is_starting: bool

    @property
    def task(self) -> dict[str, Any]:
        """What every answer says of it."""
        status, at_us = self.status, expiry_us(self.fields)
        same = (
            *("id", "state", "role", "category", "priority", "cost", "requires", "reason"),
            *("failures", "max_failures", "losses", "max_wait_s"),
        )
        return {name: getattr(status, name) for name in same} | {
            "max_losses": self.settings.max_losses,
            "error": str(status.result.get("error", "")) if status.state in _SAY_WHY else "",
            "expires_in_s": None if at_us is None else max(0.0, (at_us - self.now_us) / 1e6),
            "expired_by": expired_by(self.fields),
            "tries": tuple(_told(read_try(line)) for line in self.tries),
        }

    @property
    def unserved(self) -> dict[str, Any]:
        """Whether a balancer serves the pool, and since when none has."""
        age_s = self.now_us / 1e6 - self.tick_ms / 1e3
        if self.is_starting or (self.tick_ms and age_s <= UNSERVED_S):
            return {"is_served": True, "unserved_s": None}
        return {"is_served": False, "unserved_s": age_s if self.tick_ms else None}


@exchange
def why(pool: PoolRef, task_id: str) -> Exchange[Why | None]:
    """Why a task is where it is; None for an unknown one. Ten round trips at most, as long as the task stays
    where it is; at most 1,000 agents, 256 classes, 256 lanes and about 2,000 tasks are looked at.

    Raises:
        Misconfigured: the pool's strategy is a class that is not here.
    """
    looks = {
        TaskState.PENDING: _pending,
        TaskState.ASSIGNED: _assigned,
        TaskState.BLOCKED: _blocked,
        TaskState.FAILED: _backing_off,
        TaskState.SCHEDULED: _scheduled,
    }
    moves = 0
    while (read := (yield from _read(pool, task_id))) is not None:
        look = looks.get(read.status.state, _ended)
        answer = yield from look(pool, read)
        if answer is not None:
            return answer
        moves += 1
        if moves == _MOVES:
            return _due(read)
    return None


def _read(pool: PoolRef, task_id: str) -> Exchange[_Read | None]:
    fields, result, tries, (tick_ms, mark_ms, settings_ver), settings, time = yield [
        ("HGETALL", pool.keys.task(task_id)),
        ("GET", pool.keys.result(task_id)),
        ("LRANGE", pool.keys.hist(task_id), 0, -1),
        ("HMGET", pool.keys.meta, "last_tick_ms", "hb_mark_ms", "settings_ver"),
        ("HGET", pool.keys.settings, "json"),
        ("TIME",),
    ]
    status = status_of(task_id, fields, result=result)
    if status is None:
        return None
    now_us = pool.clock() if pool.clock else int(time[0]) * 1_000_000 + int(time[1])
    decides = PoolSettings.model_validate_json(settings) if settings else pool.settings
    is_starting = False
    if not int(tick_ms or 0) and status.state is TaskState.PENDING:
        is_starting = bool(read_replicas((yield asks(pool.keys))))
    return _Read(
        *(status, fields, tries, now_us, int(mark_ms or 0), int(tick_ms or 0)),
        *(decides, int(settings_ver or 0), is_starting),
    )


def _around(read: _Read) -> Around:
    return Around(
        read.status.id,
        read.fields,
        read.now_us,
        min(read.now_us // 1_000, read.mark_ms),
        read.unserved,
    )


def _pending(pool: PoolRef, read: _Read) -> Exchange[Why | None]:
    is_decided = yield from _is_decided(pool, read)
    picture = yield from read_role(pool, _around(read))
    return explained.pending(read.settings, picture, is_decided, **read.task) if picture else None


def _is_decided(pool: PoolRef, read: _Read) -> Exchange[bool]:
    """Whether a balancer that runs can load the pool's strategy: each can that has not said otherwise."""
    if not read.settings.is_own_strategy:
        return True
    found = read_replicas((yield asks(pool.keys)))
    return not found or any(one.unable_ver != read.settings_ver for one in found)


def _backing_off(pool: PoolRef, read: _Read) -> Exchange[Why | None]:
    (at_us,) = yield [("ZSCORE", pool.keys.failed, read.status.id)]
    lane = yield from lane_of.steps(pool, read.status.id)
    agents, is_void = yield from tried.steps(pool, lane)
    return _timed(read, Code.BACKING_OFF, at_us, tried=agents, tried_void=is_void)


def _scheduled(pool: PoolRef, read: _Read) -> Exchange[Why | None]:
    (at_us,) = yield [("ZSCORE", pool.keys.scheduled, read.status.id)]
    return _timed(read, Code.SCHEDULED, at_us)


def _assigned(pool: PoolRef, read: _Read) -> Exchange[Why | None]:
    status = read.status
    task = read.task | {
        "assignment": status.assignment,
        "granted_s": max(0.0, read.now_us / 1e6 - (status.granted_at or 0.0)),
    }
    code = Code.CANCELLING if status.cancelling else Code.ASSIGNED
    picture = yield from read_role(pool, _around(read))
    if picture is None:
        return None
    return explained.assigned(read.settings, picture, code, status.agent or "", **task)


def _blocked(pool: PoolRef, read: _Read) -> Exchange[Why | None]:
    parents, many = yield from _parents(pool, read)
    if not parents:
        return _due(read)
    return explained.told(Code.BLOCKED, **read.task, parents=parents, open_parents=many)


def _parents(pool: PoolRef, read: _Read) -> Exchange[tuple[tuple[Parent, ...], int]]:
    """Some of those that a task waits for, or waited for when it died, and how many there are."""
    key = pool.keys.parents(read.status.id)
    some, count = yield [("SRANDMEMBER", key, MOST_PARENTS), ("SCARD", key)]
    names = sorted(some)
    if not names:
        return (), 0
    states = yield [("HGET", pool.keys.task(name), "state") for name in names]
    parents = tuple(
        Parent(id=name, state=state or "unknown") for name, state in zip(names, states, strict=True)
    )
    return parents, max(count, len(names))


def _timed(read: _Read, code: Code, at_us: float | None, **more: Any) -> Why | None:
    if at_us is None:
        return None
    if at_us <= read.now_us:
        return _due(read)
    return explained.told(code, **read.task, **more, due_in_s=(at_us - read.now_us) / 1e6)


def _due(read: _Read) -> Why:
    code = Code.DUE if read.unserved["is_served"] else Code.UNSERVED
    return explained.told(code, **read.task, **read.unserved)


def _ended(pool: PoolRef, read: _Read) -> Exchange[Why | None]:
    status = read.status
    parents: tuple[Parent, ...] = ()
    many = 0
    if status.reason == "parent_failed":
        parents, many = yield from _parents(pool, read)
    took_s = None
    if status.granted_at is not None and status.ended_at is not None:
        took_s = max(0.0, status.ended_at - status.granted_at)
    code = Code(status.state.value)
    return explained.told(
        code,
        **read.task,
        assignment=status.assignment,
        took_s=took_s,
        parents=parents,
        open_parents=many,
    )


def _told(one: Try) -> str:
    return f"{one.how} on {one.agent} after {seconds(max(0.0, one.ended_at - one.granted_at))}"
