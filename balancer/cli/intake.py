"""What `balancer submit` reads and sends: one task, or many from lines of JSON."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import typer

from balancer.cli import errors, output
from balancer.cli.strict import parse, read_text
from balancer.core.errors import InvalidInput, WaitTimeout

if TYPE_CHECKING:
    from balancer.client import Balancer
    from balancer.core.model import Task
    from balancer.ledger.submit import Submitted

#: Most tasks a call of the command, and tasks that are sent together.
MAX_TASKS, TOGETHER = 100_000, 1_000


def submit_one(
    balancer: Balancer, task: Task, wait: float | None, block_s: float | None, as_json: bool
) -> None:
    """One task: its id, or with `wait` what became of it."""
    from balancer.cli.shown import show_status

    task_id = (
        balancer.submit(task, block_s=block_s) if block_s is not None else _sent(balancer, task)
    )
    if wait is None:
        if as_json:
            output.write_json({"id": task_id})
        else:
            output.write(task_id)
        return
    if not as_json:
        output.note(f"submitted {task_id}, waiting")
    try:
        status = balancer.wait(task_id, wait)
    except WaitTimeout as error:
        raise errors.StillRunning(task_id, str(error)) from None
    max_losses = balancer.pool.settings.max_losses
    show_status(status, as_json, max_losses)
    if status.state.value != "completed":
        raise typer.Exit(errors.FAILURE)


def _sent(balancer: Balancer, task: Task) -> str:
    from balancer.inputs import stored

    (answer,) = balancer.submit_many([task])
    stored(answer)
    if answer.task_id != task.id:
        output.note(f"this dedup key stands for {answer.task_id} ({answer.detail})")
    elif answer.detail == "paused":
        output.note(f"the queue of role {task.role} is paused")
    return answer.task_id


def read_tasks(file: str | None, fields: dict[str, Any]) -> list[Task]:
    """A task a line: of the file, or of standard input, which without a file holds payloads."""
    path = "-" if file is None else file
    place = "stdin" if path == "-" else path
    tasks: list[Task] = []
    for number, line in enumerate(read_text(path, "--file").split("\n"), 1):
        if not line.strip():
            continue
        at = f"{place}, line {number}: "
        value = parse(line, at.removesuffix(": "))
        if file is None:
            value = {"payload": value}
        elif not isinstance(value, dict):
            raise InvalidInput(
                f"{at}{output.json_text(value)[:60]!r} is not an object of a task's fields"
            )
        tasks.append(made(fields | value, at))
        if len(tasks) > MAX_TASKS:
            raise InvalidInput(f"{place}: more than {MAX_TASKS} tasks; split it")
    return tasks


def made(fields: dict[str, Any], at: str) -> Task:
    """The task of these fields, or InvalidInput; `at` says where they stand."""
    from pydantic import ValidationError

    from balancer.core.model import Task
    from balancer.core.payload import encode_body
    from balancer.inputs import broken_rules

    try:
        task = Task(**fields)
        encode_body(task.description, task.payload)
    except ValidationError as error:
        raise InvalidInput(f"{at}{broken_rules(error)}") from None
    except ValueError as error:  # too large
        raise InvalidInput(f"{at}{error}") from None
    return task


def submit_many(balancer: Balancer, tasks: list[Task], as_json: bool) -> None:
    """Many tasks; an answer for each."""
    from balancer.ledger.submit import Outcome

    count: Counter[str] = Counter()
    for start in range(0, len(tasks), TOGETHER):
        for answer in balancer.submit_many(tasks[start : start + TOGETHER]):
            count[answer.outcome.value] += 1
            _tell(answer, as_json)
    if not as_json:
        said = ", ".join(f"{number} {outcome}" for outcome, number in count.items())
        output.note(said or "no tasks")
    if count["conflict"]:
        raise typer.Exit(errors.CONFLICT)
    if refused := {word for word in count if not Outcome(word).is_stored}:
        is_room = refused <= {Outcome.QUEUE_FULL, Outcome.REDIS_FULL}
        raise typer.Exit(errors.QUEUE_FULL if is_room else errors.UNMET)


def _tell(answer: Submitted, as_json: bool) -> None:
    try:
        _say(answer, as_json)
    except (
        BrokenPipeError
    ):  # a reader that went away is no reason to keep the rest of the tasks back
        output.abandon()


def _say(answer: Submitted, as_json: bool) -> None:
    full = answer.queue
    said = full.in_words() if full else answer.detail
    if as_json:
        row = {"id": answer.task_id, "outcome": answer.outcome.value, "detail": said}
        output.write_json(row | (full._asdict() if full else {}))
    elif answer.outcome.is_stored:
        output.write(answer.task_id)
    else:
        detail = f" ({said})" if said else ""
        output.note(f"error: task {answer.task_id}: {answer.outcome.value}{detail}")
