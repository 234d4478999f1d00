"""Handing work in."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

from balancer.core.errors import BalancerError, InvalidInput
from balancer.core.model import Task
from balancer.exchanges import waiting
from balancer.exchanges.watching import Callback, Driver
from balancer.inputs import check_block, check_callback, check_cycles, made_task, stored
from balancer.ledger import submit as submitting
from balancer.ledger.exchange import Exchange, Pause
from balancer.ledger.pool import PoolRef
from balancer.ledger.submit import Outcome, QueueState, Submitted

#: How long full memory is left alone before it is asked again, seconds: a sweep may have judged anew.
MEMORY_RETRY_S = 0.5


def submit(
    pool: PoolRef,
    driver: Driver,
    task: Task | Mapping[str, Any] | None,
    fields: Mapping[str, Any],
    *,
    block_s: float | None,
    on_completion: Callback | None,
) -> Exchange[str]:
    """One task; its id. A full queue is asked again for block_s, at times that it names itself."""
    made = made_task(task, fields)
    if block_s is None:
        (answer,) = yield from submit_many(pool, driver, [made], on_completion)
        return stored(answer).task_id
    check_block(block_s)
    until = (yield Pause()) + block_s
    while True:
        (answer,) = yield from submit_many(pool, driver, [made], on_completion)
        left_s = until - (yield Pause())
        if left_s <= 0 or (delay_s := _retry_after_s(answer)) is None:
            return stored(answer).task_id
        # All who wait were told the same: spread out, they find room instead of each other.
        yield Pause(min(left_s, delay_s * random.uniform(1.0, 1.5)))


def _retry_after_s(answer: Submitted) -> float | None:
    """When to ask again; None where asking again would not help, or need not."""
    if answer.outcome is Outcome.QUEUE_FULL:
        return QueueState.read(answer.detail).retry_after_s
    return MEMORY_RETRY_S if answer.outcome is Outcome.REDIS_FULL else None


def submit_many(
    pool: PoolRef,
    driver: Driver,
    tasks: Iterable[Task | Mapping[str, Any]],
    on_completion: Callback | None,
) -> Exchange[list[Submitted]]:
    """Tasks in this order, in one round trip; an answer for each."""
    if on_completion is not None:
        check_callback(on_completion)
    made = []
    for at, task in enumerate(tasks):
        try:
            made.append(made_task(task, {}))
        except InvalidInput as error:
            raise InvalidInput(f"task {at}: {error}") from None
    check_cycles(made)
    try:
        answers = yield from submitting.submit.steps(pool, made)
    except BalancerError:
        raise
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    if on_completion is not None:
        known = [answer.task_id for answer in answers if answer.outcome.is_stored]
        yield from waiting.on_completion(pool, driver, known, on_completion)
    return answers
