"""Asking about tasks, and taking them back."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from balancer.core.errors import Conflict, NotFound, WaitTimeout
from balancer.core.model import TaskState
from balancer.inputs import check_ids, check_seconds, check_text
from balancer.ledger import cancel as cancelling
from balancer.ledger import read
from balancer.ledger.exchange import Exchange, Pause
from balancer.ledger.pool import PoolRef
from balancer.ledger.read import TaskStatus


def status(pool: PoolRef, task_id: str) -> Exchange[TaskStatus]:
    """What the pool knows of a task, or NotFound."""
    (found,) = yield from statuses(pool, [task_id])
    if found is None:
        raise _missing(pool, task_id)
    return found


def statuses(pool: PoolRef, task_ids: Sequence[str]) -> Exchange[list[TaskStatus | None]]:
    """Many at once, None for unknown ones."""
    check_ids(task_ids)
    return (yield from read.task_statuses.steps(pool, task_ids))


def result(pool: PoolRef, task_id: str) -> Exchange[Any]:
    """The result of a completed task, or Conflict, which says what became of it."""
    found = yield from status(pool, task_id)
    if found.state is not TaskState.COMPLETED:
        why = found.result.get("error") or found.reason
        raise Conflict(
            f"task {task_id!r} is {found.state.value}{f': {why}' if why else ''}; it has no result"
        )
    return found.result.get("result")


def wait(pool: PoolRef, task_id: str, timeout_s: float) -> Exchange[TaskStatus]:
    """The status of a task once it has ended, or WaitTimeout."""
    check_seconds("timeout_s", timeout_s)
    until, delay_s = (yield Pause()) + timeout_s, 0.01
    while not (found := (yield from status(pool, task_id))).state.is_final:
        if (yield Pause()) + delay_s > until:
            raise WaitTimeout(
                f"task {task_id!r} is still {found.state.value} after {timeout_s:g} s"
            )
        yield Pause(delay_s * random.uniform(0.8, 1.2))
        delay_s = min(0.25, delay_s * 1.5)
    return found


def cancel(pool: PoolRef, task_id: str, reason: str) -> Exchange[None]:
    """Cancel a waiting task, or Conflict where it is past that."""
    check_ids([task_id])
    check_text("reason", reason)
    ((outcome, state),) = yield from cancelling.cancel.steps(pool, [task_id], reason)
    if outcome is cancelling.Outcome.UNKNOWN:
        raise _missing(pool, task_id)
    if outcome not in (cancelling.Outcome.CANCELLED, cancelling.Outcome.ALREADY):
        raise Conflict(f"task {task_id!r} is {state}; only a waiting task can be cancelled")


def _missing(pool: PoolRef, task_id: str) -> NotFound:
    return NotFound(f"task {task_id!r}: there is no such task in pool {pool.name!r}")
