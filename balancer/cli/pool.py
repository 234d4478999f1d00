"""`balancer status` and `balancer audit`: the pool as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from balancer.cli import errors, options, output
from balancer.cli.queue import show_queues
from balancer.log import printable

if TYPE_CHECKING:
    from balancer.ledger.audit import Audit


def status(
    limit: options.Limit = options.LIMIT,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Show how busy the pool is, and each role.

    Examples:
      balancer status
      balancer status --json
      watch -n 1 balancer status
    """
    with options.opened(redis_url, pool) as balancer:
        load, queues = balancer.load_metrics(), balancer.queues()
    if as_json:
        roles = [queue.model_dump(mode="json") for queue in queues[:limit]]
        output.write_json({"pool": pool, **load.model_dump(mode="json"), "roles": roles})
    else:
        used, total = load.used_capacity, load.total_capacity
        oldest = f", the oldest for {output.seconds(load.oldest_waiting_s)}"
        output.facts(
            (
                ("pool", pool),
                ("agents", f"{load.active_agents} active of {load.total_agents} known"),
                ("capacity", f"{used} of {total} units used ({load.utilization_rate:.0%})"),
                (
                    "queued",
                    f"{output.count(load.queued_tasks, 'task')}{oldest if load.queued_tasks else ''}",
                ),
            )
        )
        if queues:
            output.write("")
            show_queues(queues[:limit])
    if len(queues) > limit:
        output.note(f"the first {limit} of {len(queues)} roles; --limit shows more")


def audit(
    limit: options.Limit = options.LIMIT,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Hold every task, agent and counter of the pool against the rules. Reads only.

    Examples:
      balancer audit
      balancer audit --json

    Exit code 1 when something is wrong. On a pool that is busy the sums over all
    agents are left out; the answer then says that it is not exact.
    """
    from balancer.ledger.audit import audit as judge

    with options.opened(redis_url, pool) as balancer:
        found = options.asked(balancer, judge)
    if as_json:
        output.write_json(
            {
                "clean": found.clean,
                "exact": found.exact,
                "tasks": found.tasks,
                "agents": found.agents,
                "violations": len(found.violations),
                "first_violations": found.violations[:limit],
            }
        )
    else:
        _show(found, limit)
    if not found.clean:
        raise typer.Exit(errors.FAILURE)


def _show(found: Audit, limit: int) -> None:
    looked = f"{output.count(found.tasks, 'task')} and {output.count(found.agents, 'agent')}"
    how = (
        "exact: nothing changed meanwhile"
        if found.exact
        else "not exact: the pool changed meanwhile, sums over all agents were left out"
    )
    verdict = "clean" if found.clean else output.count(len(found.violations), "violation")
    output.write(f"{verdict} ({looked}; {how})")
    for line in found.violations[:limit]:
        output.write(f"- {printable(line)}")
    if len(found.violations) > limit:
        output.note(f"the first {limit}; --limit shows more")
