"""`balancer agent`: list and show agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from balancer.cli import options, output
from balancer.core.errors import NotFound

if TYPE_CHECKING:
    from balancer.core.model import Agent
    from balancer.ledger.pool import Pool

app = options.group("agent", "List and show agents.")

COLUMNS = ("id", "role", "state", "doing", "used", "of", "health", "heartbeat", "specializations")


@options.verb(app, "ls")
def ls(
    *,
    role: Annotated[str | None, typer.Option(metavar="NAME", help="Of this role only.")] = None,
    limit: options.Limit = options.LIMIT,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """List agents, live ones first: what they carry, how they are.

    Examples:
      balancer agent ls
      balancer agent ls --role developer --json
    """
    with options.opened(redis_url, pool) as balancer:
        found = balancer.agents(options.MOST if role else limit + 1)
    found = [agent for agent in found if role in (None, agent.role)]
    if as_json:
        output.write_json([_json(agent) for agent in found[:limit]])
    else:
        output.table(
            COLUMNS, map(_row, found[:limit]), numbers=("used", "of", "health", "heartbeat")
        )
        if not found:
            output.note("no agents")
    if len(found) > limit:
        output.note(f"the first {limit}; --limit shows more, --role narrows it")


@options.verb(app, "show")
def show(
    agent_id: Annotated[str, typer.Argument(metavar="ID", help="The agent.", show_default=False)],
    limit: options.Limit = options.LIMIT,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Show one agent and the tasks that it holds.

    Example:
      balancer agent show builder-1
    """
    options.check_name("agent id", agent_id)
    with options.opened(redis_url, pool) as balancer:
        agent, tasks = options.asked(balancer, lambda opened: _agent(opened, agent_id))
    if agent is None:
        raise NotFound(f"agent {agent_id!r}: there is no such agent in pool {pool!r}")
    if as_json:
        output.write_json(_json(agent) | {"tasks": tasks[:limit]})
        return
    output.facts(
        (
            ("id", agent.id),
            ("role", agent.role),
            ("type", agent.type),
            ("specializations", ", ".join(agent.specializations)),
            ("state", f"{agent.state.value}, {agent.activity} (says: {agent.mode})"),
            (
                "capacity",
                f"{agent.used} of {agent.max_concurrent} units used, {agent.remaining} free",
            ),
            ("health", f"{agent.health:g}"),
            ("heartbeat", f"{output.seconds(agent.heartbeat_age_s)} ago"),
            ("boot", agent.boot),
            ("tasks", ", ".join(tasks[:limit])),
        )
    )
    if len(tasks) > limit:
        output.note(f"the first {limit} of {len(tasks)} tasks; --limit shows more")


def _agent(pool: Pool, agent_id: str) -> tuple[Agent | None, list[str]]:
    from balancer.core.invariants import Lease
    from balancer.ledger.read import agents_by_id

    leases = [Lease.read(record) for record in pool.client.hvals(pool.keys.held(agent_id))]
    leases.sort(key=lambda lease: [int(part) for part in lease.entry.split("-")])
    return agents_by_id(pool, [agent_id])[0], [lease.task for lease in leases]


def _json(agent: Agent) -> dict[str, Any]:
    derived = {"remaining": agent.remaining, "load": agent.load, "activity": agent.activity}
    return agent.model_dump(mode="json") | derived


def _row(agent: Agent) -> tuple[object, ...]:
    return (
        agent.id,
        agent.role,
        agent.state.value,
        agent.activity,
        agent.used,
        agent.max_concurrent,
        f"{agent.health:g}",
        output.seconds(agent.heartbeat_age_s),
        ",".join(agent.specializations),
    )
