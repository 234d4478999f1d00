"""What a task that does not run waits for, from a few plain reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from balancer.cli import output
from balancer.core.model import TaskState
from balancer.ledger.read import now_s
from balancer.ledger.read_unplaceable import why_unplaceable

if TYPE_CHECKING:
    from balancer.core.lanes import Lane
    from balancer.ledger.pool import Pool
    from balancer.ledger.read_tasks import TaskStatus

#: Most parents that are named.
MOST_PARENTS = 20


class Waits(NamedTuple):
    """What a task waits for: a line for people; parents by name, and how many there are."""

    text: str
    parents: tuple[str, ...] = ()
    total: int = 0
    #: Why no agent that accepts work could have it, where that is so.
    unplaceable: str | None = None


def what_it_waits_for(pool: Pool, status: TaskStatus, lane: Lane | None) -> Waits | None:
    """None when it waits for nothing, or has just stopped waiting."""
    if status.state is TaskState.BLOCKED:
        return _parents(pool, status.id)
    if status.state is TaskState.FAILED:
        due_us = pool.client.zscore(pool.keys.failed, status.id)
        if due_us is None:
            return None
        return Waits(f"for its next try, in {output.seconds(max(0.0, due_us / 1e6 - now_s(pool)))}")
    if status.state is TaskState.SCHEDULED and status.not_before:
        return Waits(
            f"for its time, in {output.seconds(max(0.0, status.not_before - now_s(pool)))}"
        )
    return _room(pool, status, lane) if status.state is TaskState.PENDING else None


def _parents(pool: Pool, task_id: str) -> Waits | None:
    key = pool.keys.parents(task_id)
    pipe = pool.client.pipeline(transaction=False)
    pipe.srandmember(key, MOST_PARENTS)
    pipe.scard(key)
    some, count = pipe.execute()
    if not some:
        return None
    more = f" and {count - len(some)} more" if count > len(some) else ""
    return Waits(f"for {', '.join(sorted(some))}{more}", tuple(sorted(some)), count)


def _room(pool: Pool, status: TaskStatus, lane: Lane | None) -> Waits:
    """From the role's counters, the index of its free agents, and the classes of those that accept work."""
    role = status.role
    if pool.client.hexists(pool.keys.role(role), "paused"):
        return Waits(f"the queue of role {role} is paused")
    pipe = pool.client.pipeline(transaction=False)
    pipe.hmget(pool.keys.role(role), "agents", "capacity", "used")
    pipe.exists(pool.keys.free_units(role))
    pipe.zcard(pool.keys.pending(role))
    counters, any_free, pending = pipe.execute()
    agents, capacity, used = (int(value or 0) for value in counters)
    if not agents:
        return Waits(f"no live agent of role {role}")
    unplaceable = why_unplaceable(pool, lane) if lane else None
    if unplaceable:
        return Waits(f"unplaceable: {unplaceable}", unplaceable=unplaceable)
    if any_free:
        # Who of them may have it, and who goes before it, is judged in one place.
        units = output.count(capacity, "unit")
        text = f"in line: {used} of {units} of role {role} are used; balancer task why {status.id} says why"
    elif capacity and used >= capacity:
        text = f"all {output.count(capacity, 'unit')} of role {role} are used"
    else:
        text = f"no agent of role {role} takes new work: full, paused, stopping or silent"
    return Waits(f"{text} ({output.count(pending, 'task')} of this role pending)")
