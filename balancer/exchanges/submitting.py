"""Handing work in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from balancer.core.errors import BalancerError, InvalidInput
from balancer.core.model import Task
from balancer.core.payload import encode_body
from balancer.exchanges import waiting
from balancer.exchanges.room import with_room
from balancer.exchanges.watching import Callback, Driver
from balancer.inputs import check_callback, check_cycles, listed, made_task, stored
from balancer.ledger import submit as submitting
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
    made = made_task(task, fields)

    def send() -> Exchange[list[Submitted]]:
        return submit_many(pool, driver, [made], on_completion)

    if block_s is not None:
        answer = yield from with_room(send, block_s)
    else:
        (answer,) = yield from send()
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
    try:
        answers = yield from submitting.submit.steps(pool, made)
    except BalancerError:
        raise
    except ValueError as error:
        raise InvalidInput(f"{_too_large(made)}{error}") from None
    if on_completion is not None:
        known = [answer.task_id for answer in answers if answer.outcome.is_stored]
        yield from waiting.on_completion(pool, driver, known, on_completion)
    return answers


def _too_large(made: list[Task]) -> str:
    """The place of the first task whose body is too large, where there are several."""
    for at, task in enumerate(made if len(made) > 1 else ()):
        try:
            encode_body(task.description, task.payload)
        except ValueError:
            return f"task {at}: "
    return ""
