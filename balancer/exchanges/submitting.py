"""Handing work in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from balancer.core.errors import InvalidInput
from balancer.core.model import Task
from balancer.core.payload import encode_body
from balancer.exchanges import waiting
from balancer.exchanges.room import with_room
from balancer.exchanges.watching import Callback, Driver
from balancer.inputs import check_callback, check_cycles, listed, made_task, stored
from balancer.ledger import submit as submitting
from balancer.ledger.configure import refresh
from balancer.ledger.exchange import Exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.submit import Submitted


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
    if on_completion is not None:
        check_callback(on_completion)
    made = [made_task(task, fields)]
    if block_s is None:
        (answer,) = yield from _sent(pool, made)
    else:
        answer = yield from with_room(lambda: _sent(pool, made), block_s)
    if on_completion is not None and answer.outcome.is_stored:
        yield from waiting.on_completion(pool, driver, answer.task_id, on_completion)
    return stored(answer).task_id


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
    for at, task in enumerate(listed("tasks", tasks)):
        try:
            made.append(made_task(task, {}))
        except InvalidInput as error:
            raise InvalidInput(f"task {at}: {error}") from None
    check_cycles(made)
    answers = yield from _sent(pool, made)
    if on_completion is not None:
        known = [answer.task_id for answer in answers if answer.outcome.is_stored]
        yield from waiting.on_completion(pool, driver, known, on_completion)
    return answers


def _sent(pool: PoolRef, made: list[Task]) -> Exchange[list[Submitted]]:
    if pool.is_behind:
        yield from refresh.steps(pool)
    try:
        asks = submitting.asked(pool, made)
    except ValueError as error:
        raise InvalidInput(f"{_too_large(made)}{error}") from None
    return submitting.told(pool, made, (yield asks))


def _too_large(made: list[Task]) -> str:
    """The place of the first task whose body is too large, where there are several."""
    for at, task in enumerate(made if len(made) > 1 else ()):
        try:
            encode_body(task.description, task.payload)
        except ValueError:
            return f"task {at}: "
    return ""
