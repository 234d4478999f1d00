"""`balancer queue`: the queues of the roles: list them, hold them, let them go on, empty them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from balancer.cli import options, output
from balancer.cli.again import repeated
from balancer.core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from balancer.ledger.read_fleet import RoleQueue

app = options.group("queue", "List the queues of the roles, pause, resume and purge them.")

Role = Annotated[str, typer.Argument(metavar="ROLE", help="The role.", show_default=False)]

COLUMNS = (
    *("role", "queue", "pending", "oldest", "scheduled", "waiting", "limit"),
    *("agents", "used", "capacity", "completed", "dead", "off"),
)
#: What a narrow terminal goes without, the first ones first: 80 columns are too few for all.
SPARE = ("off", "limit", "scheduled", "completed", "waiting")


@options.verb(app, "ls")
def ls(
    limit: options.Limit = options.LIMIT,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """List the roles: what waits, for how long, and who could take it. `waiting` is all that `limit`
    bounds: pending, scheduled, blocked by other tasks, or failed and waiting for a retry. `off`: the
    factor by which tasks usually miss what was expected of them. A narrow terminal goes without some
    columns.

    Examples:
      balancer queue ls
      balancer queue ls --json
    """
    with options.opened(redis_url, pool) as balancer:
        found = balancer.queues()
    if as_json:
        output.write_json([queue.model_dump(mode="json") for queue in found[:limit]])
    else:
        show_queues(found[:limit])
        if not found:
            output.note("no roles")
        for queue in found[:limit]:
            if queue.pending and not queue.agents:
                start = repeated(f"worker run --role {queue.role} -- PROGRAM")
                output.note(
                    f"{queue.role}: {output.count(queue.pending, 'pending task')} and no live agent;"
                    f" start one: {start}"
                )
            if queue.unplaceable:
                output.note(
                    f"{queue.role}: {output.count(queue.unplaceable, 'pending task')} unplaceable, no agent that"
                    f" takes work could have {queue.unplaceable_task};"
                    f" {repeated(f'balancer task why {queue.unplaceable_task}')} says more"
                )
    if len(found) > limit:
        output.note(f"the first {limit} of {len(found)} roles; --limit shows more")


@options.verb(app, "pause")
def pause(
    role: Role,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Hand out none of a role's work. What agents hold goes on, and new work is accepted.

    Example:
      balancer queue pause developer
    """
    with options.opened(redis_url, pool, options.WRITE_DEADLINE_S) as balancer:
        balancer.pause_queue(role)
    _told(role, "paused", as_json)


@options.verb(app, "resume")
def resume(
    role: Role,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Hand out a role's work again.

    Example:
      balancer queue resume developer
    """
    with options.opened(redis_url, pool, options.WRITE_DEADLINE_S) as balancer:
        balancer.resume_queue(role)
    _told(role, "open", as_json)


@options.verb(app, "purge")
def purge(
    role: Role,
    *,
    is_sure: Annotated[
        bool, typer.Option("--yes", help="Do it; without it nothing is done.")
    ] = False,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Cancel every task of a role that waits. What agents hold goes on.

    Example:
      balancer queue purge developer --yes
    """
    with options.opened(redis_url, pool, options.WRITE_DEADLINE_S) as balancer:
        if not is_sure:
            options.check_name("role", role)
            known = {queue.role: queue for queue in balancer.queues()}
            if role not in known:
                raise NotFound(f"role {role!r}: pool {pool!r} has had no task and no agent of it")
            count = output.count(known[role].waiting, "waiting task")
            raise InvalidInput(
                f"--yes: without it nothing is done; {count} of {role} would be cancelled"
            )
        cancelled = balancer.purge_queue(role)
    if as_json:
        output.write_json({"role": role, "cancelled": cancelled})
    else:
        output.note(f"{output.count(cancelled, 'waiting task')} of {role} cancelled")


def _told(role: str, state: str, as_json: bool) -> None:
    if as_json:
        output.write_json({"role": role, "queue": state})
    else:
        output.note(f"the queue of {role} is {state}")


def show_queues(found: Iterable[RoleQueue]) -> None:
    """A row a role."""
    rows = (
        (
            queue.role,
            "paused" if queue.paused else "open",
            queue.pending,
            output.seconds(queue.oldest_waiting_s) if queue.pending else None,
            queue.scheduled,
            queue.waiting,
            queue.max_pending,
            queue.agents,
            queue.used,
            queue.capacity,
            queue.completed,
            queue.dead,
            output.factor(queue.usually_off) if queue.usually_off else None,
        )
        for queue in found
    )
    output.table(COLUMNS, rows, numbers=COLUMNS[2:], spare=SPARE)
