"""Asking about tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from balancer.core.errors import Conflict
from balancer.core.model import TaskState
from balancer.exchanges.watching import missing
from balancer.inputs import check_ids
from balancer.ledger import read_tasks
from balancer.ledger.exchange import Exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.read_tasks import TaskStatus


def status(pool: PoolRef, task_id: str) -> Exchange[TaskStatus]:
    """What the pool knows of a task, or NotFound."""
    (found,) = yield from statuses(pool, [task_id])
    if found is None:
        raise missing(pool, task_id)
    return found


def statuses(pool: PoolRef, task_ids: Sequence[str]) -> Exchange[list[TaskStatus | None]]:
    """Many at once, None for unknown ones."""
    check_ids(task_ids)
    return (yield from read_tasks.task_statuses.steps(pool, task_ids))


def result(pool: PoolRef, task_id: str) -> Exchange[Any]:
    """The result of a completed task, or Conflict, which says what became of it."""
    found = yield from status(pool, task_id)
    if found.state is not TaskState.COMPLETED:
        why = found.result.get("error") or found.reason
        raise Conflict(
            f"task {task_id!r} is {found.state.value}{f': {why}' if why else ''}; it has no result"
        )
    return found.result.get("result")
