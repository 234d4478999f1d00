"""`balancer submit`: one task from options, or many from lines of JSON."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from balancer.cli import errors, options, output
from balancer.cli.strict import parse, read_text
from balancer.core.errors import InvalidInput, WaitTimeout

if TYPE_CHECKING:
    from balancer.client import Balancer
    from balancer.core.model import Task
    from balancer.ledger.submit import Submitted

#: Most tasks a call of the command, and tasks that are sent together.
MAX_TASKS, TOGETHER = 100_000, 1_000


def submit(
    *,
    role: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which agents may do it.  [required]")
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What kind of work it is.  [default: general]"),
    ] = None,
    priority: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="critical, high, medium or low.  [default: medium]"),
    ] = None,
    payload: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="Any JSON value; `-` reads one a line: a task for each."),
    ] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="For people.")] = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", metavar="NAME", help="Its id; repeating a submit is then safe."),
    ] = None,
    depends_on: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A task that must complete first; may be repeated."),
    ] = None,
    cost: Annotated[
        int | None, typer.Option(metavar="N", help="Units of capacity it takes.  [default: 1]")
    ] = None,
    max_failures: Annotated[
        int | None, typer.Option(metavar="N", help="Failures until it is dead.  [default: 3]")
    ] = None,
    run_timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Longest run of a try.  [default: 86400]"),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="JSON lines, a task each; the options fill what a line lacks. `-` is stdin.",
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(min=0, max=86_400, metavar="SECONDS", help="Wait until the task has ended."),
    ] = None,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Submit a task, or many; prints their ids.

    Examples:
      balancer submit --role developer --category feature --payload '{"issue": 17}'
      balancer submit --role developer --priority high --wait 60
      balancer submit --role developer --payload - < payloads.jsonl
      balancer submit --file tasks.jsonl

    With --wait the exit code is 0 when the task completed, 1 when it died or was
    cancelled, 7 when it had not ended in time. In bulk it is 5 when an id names
    another task already, 6 when the pool refused a task for another reason.
    """
    given = {
        "id": id_,
        "role": role,
        "category": category,
        "priority": priority,
        "description": description,
        "depends_on": depends_on or None,
        "cost": cost,
        "max_failures": max_failures,
        "run_timeout_s": run_timeout,
    }
    fields = {name: value for name, value in given.items() if value is not None}
    if payload is not None and file is not None:
        raise InvalidInput("--payload: together with --file it may not be given")
    if file is None and payload != "-":
        if payload is not None:
            fields["payload"] = parse(payload, "payload")
        _one(_made(fields, ""), wait, redis_url, pool, as_json)
        return
    if wait is not None:
        raise InvalidInput("--wait: it waits for one task, not for many")
    if id_ is not None:
        raise InvalidInput(f"--id: {id_!r} can name one task only, not many")
    tasks = _read(file, fields)
    with options.opened(redis_url, pool, options.WRITE_DEADLINE_S) as balancer:
        _many(balancer, tasks, as_json)


def _one(task: Task, wait: float | None, redis_url: str, pool: str, as_json: bool) -> None:
    from balancer.cli.shown import show_status

    with options.opened(redis_url, pool, options.WRITE_DEADLINE_S) as balancer:
        task_id = balancer.submit(task)
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


def _read(file: str | None, fields: dict[str, Any]) -> list[Task]:
    """A task a line: of the file, or of standard input, which without a file holds payloads."""
    path = file or "-"
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
        tasks.append(_made(fields | value, at))
        if len(tasks) > MAX_TASKS:
            raise InvalidInput(f"{place}: more than {MAX_TASKS} tasks; split it")
    return tasks


def _made(fields: dict[str, Any], at: str) -> Task:
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


def _many(balancer: Balancer, tasks: list[Task], as_json: bool) -> None:
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
    if count.keys() - {"accepted", "blocked", "duplicate", "dead_parent"}:
        raise typer.Exit(errors.UNMET)


def _tell(answer: Submitted, as_json: bool) -> None:
    if as_json:
        output.write_json(
            {"id": answer.task_id, "outcome": answer.outcome.value, "detail": answer.detail}
        )
    elif answer.outcome.is_stored:
        output.write(answer.task_id)
    else:
        detail = f" ({answer.detail})" if answer.detail else ""
        output.note(f"error: task {answer.task_id}: {answer.outcome.value}{detail}")
