"""`balancer agent`: list and show agents, pause and resume them, let them go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from balancer.cli import options, output
from balancer.cli.shown import figures
from balancer.core.errors import NotFound
from balancer.core.lanes import Gate

if TYPE_CHECKING:
    from balancer.core.model import Agent
    from balancer.ledger.pool import Pool

app = options.group("agent", "List and show agents, pause and resume them, let them go.")

AgentId = Annotated[str, typer.Argument(metavar="ID", help="The agent.", show_default=False)]

#: What it means that an agent fails nearly all that it tries, and in one word.
GATES = {
    Gate.SHUT: "gets no work while others could have it, but one task now and then",
    Gate.PROBE: "gets one task, to see whether it goes better",
}
_DOES = {Gate.SHUT: "failing", Gate.PROBE: "probed"}

COLUMNS = (
    "id",
    "role",
    "state",
    "doing",
    "used",
    "of",
    "health",
    "heartbeat",
    "specializations",
    "skills",
    "speeds",
)


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
    agent_id: AgentId,
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
            ("skills", figures(agent.skills)),
            ("speeds", figures(agent.speeds)),
            ("learned speeds", _learned(agent)),
            ("success rate", _success(agent)),
            ("state", f"{_state(agent)}, {agent.activity} (says: {agent.mode})"),
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


@options.verb(app, "pause")
def pause(
    agent_id: AgentId,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Give an agent nothing new. What it holds it keeps.

    Example:
      balancer agent pause builder-1
    """
    with options.opened(redis_url, pool, options.WRITE_DEADLINE_S) as balancer:
        _told(agent_id, "paused", balancer.pause_agent(agent_id), as_json)


@options.verb(app, "resume")
def resume(
    agent_id: AgentId,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Take back a pause or a retirement.

    Example:
      balancer agent resume builder-1
    """
    with options.opened(redis_url, pool, options.WRITE_DEADLINE_S) as balancer:
        _told(agent_id, "resumed", balancer.resume_agent(agent_id), as_json)


@options.verb(app, "retire")
def retire(
    agent_id: AgentId,
    *,
    deadline_s: Annotated[
        float,
        typer.Option(
            "--deadline",
            metavar="SECONDS",
            help="How long it may keep what it holds; 0: not at all.",
        ),
    ] = 300.0,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    as_json: options.Json = False,
) -> None:
    """Let an agent go: it gets nothing new and is told to stop.

    What it still holds at the deadline goes back into the queue, without counting as a failure or a loss. A process
    that starts under its id later is a new agent.

    Examples:
      balancer agent retire builder-1
      balancer agent retire builder-1 --deadline 60
    """
    with options.opened(redis_url, pool, options.WRITE_DEADLINE_S) as balancer:
        _told(agent_id, "retiring", balancer.retire_agent(agent_id, deadline_s), as_json)


def _told(agent_id: str, what: str, held: int, as_json: bool) -> None:
    if as_json:
        output.write_json({"agent": agent_id, "is": what, "held": held})
    else:
        output.note(f"{agent_id} {what}; it holds {held} task{'s' * (held != 1)}")


def _agent(pool: Pool, agent_id: str) -> tuple[Agent | None, list[str]]:
    from balancer.core.invariants import Lease
    from balancer.ledger.read_fleet import agents_by_id

    leases = [Lease.read(record) for record in pool.client.hvals(pool.keys.held(agent_id))]
    leases.sort(key=lambda lease: [int(part) for part in lease.entry.split("-")])
    return agents_by_id(pool, [agent_id])[0], [lease.task for lease in leases]


def _json(agent: Agent) -> dict[str, Any]:
    derived = {"remaining": agent.remaining, "load": agent.load, "activity": agent.activity}
    derived["available"] = agent.is_available
    return agent.model_dump(mode="json") | derived


def _learned(agent: Agent) -> str:
    """What its work has shown of its speeds, where that counts."""
    return (
        figures(agent.learned_speeds)
        if agent.gate is Gate.OPEN
        else "not used while its tries fail"
    )


def _success(agent: Agent) -> str:
    """What came of its last tries, and what follows from that."""
    if agent.success is None:
        return "" if agent.gate is Gate.OPEN else GATES[agent.gate]
    of = f"{100 * agent.success:.0f} % of its last {agent.tries} tries"
    return of if agent.gate is Gate.OPEN else f"{of}; {GATES[agent.gate]}"


def _state(agent: Agent) -> str:
    if agent.admin.value == "none":
        return agent.state.value + (f", {_DOES[agent.gate]}" if agent.gate else "")
    left = "" if agent.retires_in_s is None else f" in {output.seconds(agent.retires_in_s)}"
    return f"{agent.state.value}, {agent.admin.value}{left}"


def _row(agent: Agent) -> tuple[object, ...]:
    return (
        agent.id,
        agent.role,
        _state(agent),
        agent.activity,
        agent.used,
        agent.max_concurrent,
        f"{agent.health:g}",
        output.seconds(agent.heartbeat_age_s),
        ",".join(agent.specializations),
        figures(agent.skills),
        figures(agent.speeds),
    )
