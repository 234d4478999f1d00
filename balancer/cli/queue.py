"""`balancer queue`: the queue of every role."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from balancer.cli import options, output

if TYPE_CHECKING:
    from balancer.ledger.read import RoleQueue

app = options.group("queue", "Depth, age and capacity of every role.")

COLUMNS = ("role", "pending", "oldest", "agents", "used", "capacity", "completed", "dead")


@options.verb(app, "ls")
def ls(
    limit: options.Limit = options.LIMIT,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """List the roles: what waits, for how long, and who could take it.

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
    if len(found) > limit:
        output.note(f"the first {limit} of {len(found)} roles; --limit shows more")


def show_queues(found: Iterable[RoleQueue]) -> None:
    """A row a role."""
    rows = (
        (
            queue.role,
            queue.pending,
            output.seconds(queue.oldest_waiting_s) if queue.pending else None,
            queue.agents,
            queue.used,
            queue.capacity,
            queue.completed,
            queue.dead,
        )
        for queue in found
    )
    output.table(COLUMNS, rows, numbers=COLUMNS[1:])
