"""`balancer task`: list, show, cancel, retry and move tasks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from balancer.cli import options, output
from balancer.cli.lives import add_verbs
from balancer.cli.shown import show_status
from balancer.core.errors import InvalidInput

if TYPE_CHECKING:
    from balancer.client import Balancer
    from balancer.ledger.read_tasks import TaskStatus

app = options.group("task", "List, show, cancel, retry and move tasks.")

TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task.", show_default=False)]
COLUMNS = ("id", "state", "age", "role", "category", "agent", "try", "reason")


@options.verb(app, "ls")
def ls(
    *,
    state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATE",
            help="scheduled, blocked, pending, assigned, failed, completed, dead or cancelled; may be repeated."
            "  [default: all, unfinished ones first]",
        ),
    ] = None,
    role: Annotated[str | None, typer.Option(metavar="NAME", help="Of this role only.")] = None,
    limit: options.Limit = options.LIMIT,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """List tasks, state by state, the oldest first.

    Examples:
      balancer task ls
      balancer task ls --state dead --json
      balancer task ls --state pending --role developer --limit 10
    """
    with options.opened(redis_url, pool) as balancer:
        tasks, has_more = _listed(balancer, state or [], role, limit)
        now = options.asked(balancer, _now)
    if as_json:
        output.write_json([_listed_json(task) for task in tasks])
    else:
        output.table(COLUMNS, (_row(task, now) for task in tasks), numbers=("try", "age"))
        if not tasks:
            output.note("no tasks")
    if has_more:
        output.note(f"the first {len(tasks)}; --limit shows more, --state and --role narrow it")


@options.verb(app, "show")
def show(
    task_id: TaskId,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Show all that the pool knows of a task.

    Where it is, what it waits for, why it went where it went, which tries did not complete, and what came out.

    Example:
      balancer task show gw5xk2v7q3ma4
    """
    from balancer.cli.waits import what_it_waits_for
    from balancer.ledger.read_effort import effort_of
    from balancer.ledger.read_tasks import lane_of
    from balancer.ledger.read_tried import tried

    options.check_name("task id", task_id)
    with options.opened(redis_url, pool) as balancer:
        status = balancer.status(task_id)
        effort = options.asked(balancer, lambda pool: effort_of(pool, task_id))
        lane = options.asked(balancer, lambda pool: lane_of(pool, task_id))
        waits = options.asked(balancer, lambda pool: what_it_waits_for(pool, status, lane))
        tries = balancer.history(task_id)
        max_losses = balancer.pool.settings.max_losses
        failed_on = options.asked(balancer, lambda pool: tried(pool, lane))
    show_status(status, as_json, max_losses, waits, tries, tried=failed_on, effort=effort)


@options.verb(app, "why")
def why(
    task_id: TaskId,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Say why a task is where it is: what it waits for, or why it went to its agent.

    Judged by the planner's own rules on what the pool looks like now: one reason with what stands behind it, its
    place in line, when it should start and end, and the agents that may have it. Changes nothing.

    Example:
      balancer task why gw5xk2v7q3ma4
    """
    from balancer.cli.why import show_why

    options.check_name("task id", task_id)
    with options.opened(redis_url, pool) as balancer:
        answer = balancer.why(task_id)
    show_why(answer, as_json)


@options.verb(app, "cancel")
def cancel(
    task_id: TaskId,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why; kept with the task.")
    ] = "cancelled",
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Cancel a task. Cancelling it again changes nothing.

    An agent that holds it is asked to stop; the task ends cancelled with that try, however the try ends.

    Example:
      balancer task cancel gw5xk2v7q3ma4 --reason 'not needed any more'
    """
    options.check_name("task id", task_id)
    with options.opened(redis_url, pool, options.WRITE_DEADLINE_S) as balancer:
        is_cancelled = balancer.cancel(task_id, reason)
    if as_json:
        state = "cancelled" if is_cancelled else "assigned"
        output.write_json({"id": task_id, "state": state, "cancelling": not is_cancelled})
    elif is_cancelled:
        output.note(f"cancelled {task_id}")
    else:
        output.note(f"asked the agent of {task_id} to stop; it ends cancelled")


add_verbs(app)


def _listed(
    balancer: Balancer, names: list[str], role: str | None, limit: int
) -> tuple[list[TaskStatus], bool]:
    """Tasks of the states, and whether there are more. A role is looked for among the first 1,000 of each state."""
    from balancer.core.model import TaskState
    from balancer.ledger import read, read_tasks

    known = list(TaskState)
    states = [state for state in known if not names or state.value in names]
    for name in names:
        if name not in known:
            raise InvalidInput(f"--state: {name!r} is none of {', '.join(known)}")
    if role is not None:
        options.check_name("--role", role)
    found: list[TaskStatus] = []
    for state in states:
        wanted = limit + 1 - len(found)
        at_most = read.MOST if role else wanted
        ids = options.asked(
            balancer, partial(read_tasks.task_ids, state=state, role=role, limit=at_most)
        )
        page = (task for task in balancer.statuses(ids) if task and role in (None, task.role))
        found += list(page)[:wanted]
        if len(found) > limit:
            return found[:limit], True
    return found, False


def _now(pool: Any) -> float:
    from balancer.ledger.read import now_s

    return now_s(pool)


def _row(task: TaskStatus, now: float) -> tuple[object, ...]:
    age = output.seconds(max(0.0, now - task.accepted_at))
    return (
        task.id,
        task.state.value,
        age,
        task.role,
        task.category,
        task.agent,
        task.attempt or None,
        task.reason,
    )


def _listed_json(task: TaskStatus) -> dict[str, Any]:
    """Without what makes it large; `task show` has it."""
    return task.model_dump(mode="json", exclude={"body", "result", "assignment"})
