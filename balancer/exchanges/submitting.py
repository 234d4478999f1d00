"""Handing work in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from balancer.core.errors import InvalidInput
from balancer.core.model import Task
from balancer.inputs import check_cycles, made_task, stored
from balancer.ledger import submit as submitting
from balancer.ledger.exchange import Exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.submit import Submitted


def submit(
    pool: PoolRef, task: Task | Mapping[str, Any] | None, fields: Mapping[str, Any]
) -> Exchange[str]:
    """One task; its id."""
    made = made_task(task, fields)
    (answer,) = yield from submit_many(pool, [made])
    return stored(answer).task_id


def submit_many(
    pool: PoolRef, tasks: Iterable[Task | Mapping[str, Any]]
) -> Exchange[list[Submitted]]:
    """Tasks in this order, in one round trip; an answer for each."""
    made = []
    for at, task in enumerate(tasks):
        try:
            made.append(made_task(task, {}))
        except InvalidInput as error:
            raise InvalidInput(f"task {at}: {error}") from None
    check_cycles(made)
    try:
        return (yield from submitting.submit.steps(pool, made))
    except ValueError as error:
        raise InvalidInput(str(error)) from None
