"""`balancer task retry` and `reprioritise`: what people do to tasks that died or wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from balancer.cli import options, output
from balancer.core.errors import InvalidInput

TaskIds = Annotated[
    list[str] | None, typer.Argument(metavar="ID...", help="The tasks.", show_default=False)
]


def add_verbs(app: typer.Typer) -> None:
    """Make the commands verbs of `balancer task`."""
    options.verb(app, "retry")(retry)
    options.verb(app, "reprioritise")(reprioritise)


def retry(
    task_ids: TaskIds = None,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="Every task that is dead now; see --role and --reason.")
    ] = False,
    role: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --all: of this role only.")
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="With --all: dead for this reason only: failed, timeout, lost, expired or parent_failed.",
        ),
    ] = None,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Give dead tasks a new life: no failures, no losses, a new place in the queue.

    Their history stays. Tasks that are not dead are left alone; the exit code is 5 when there were some.

    Examples:
      balancer task retry gw5xk2v7q3ma4
      balancer task retry --all --role developer --reason lost
    """
    if bool(task_ids) == every:
        raise InvalidInput("ID...: name tasks, or --all; one of the two")
    if not every and (role is not None or reason is not None):
        raise InvalidInput("--role, --reason: only with --all")
    with options.opened(redis_url, pool, options.WRITE_DEADLINE_S) as balancer:
        if every:
            count = balancer.retry_dead(role, reason)
            if as_json:
                output.write_json({"retried": count})
            else:
                output.note(f"{output.count(count, 'dead task')} retried")
            return
        answers = balancer.retry(task_ids or [])
    rows = [(answer.outcome.value, answer.state) for answer in answers]
    _tell(task_ids or [], rows, "retried", as_json)


def reprioritise(
    task_ids: TaskIds = None,
    *,
    priority: Annotated[
        str, typer.Option(metavar="NAME", help="critical, high, medium or low.", show_default=False)
    ],
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Give waiting tasks another priority, and the place in the queue that goes with it.

    Tasks that run or have ended are left alone; the exit code is 5 when there were some.

    Example:
      balancer task reprioritise gw5xk2v7q3ma4 --priority critical
    """
    if not task_ids:
        raise InvalidInput("ID...: name at least one task")
    with options.opened(redis_url, pool, options.WRITE_DEADLINE_S) as balancer:
        answers = balancer.reprioritise(task_ids, priority)
    rows = [(answer.outcome.value, answer.state) for answer in answers]
    _tell(task_ids, rows, "moved", as_json)


def _tell(ids: Sequence[str], rows: Sequence[tuple[str, str]], done: str, as_json: bool) -> None:
    """A line a task. What was so already is as good as done."""
    if as_json:
        output.write_json(
            [
                {"id": id_, "outcome": outcome, "state": state}
                for id_, (outcome, state) in zip(ids, rows, strict=True)
            ]
        )
    else:
        for id_, (outcome, state) in zip(ids, rows, strict=True):
            output.note(f"{id_}: {outcome}{f' (it was {state})' if state else ''}")
    outcomes = {outcome for outcome, _ in rows}
    if "unknown" in outcomes:
        raise typer.Exit(3)
    if outcomes - {done, "already"}:
        raise typer.Exit(5)
