"""`balancer health`: whether the loops of a balancer pass, for health checks of containers."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Annotated, Any

import typer

from balancer.cli import errors, options, output
from balancer.core.errors import InvalidInput

if TYPE_CHECKING:
    from balancer.ledger.replicas import Replica

#: Health of an agent whose time to live has passed.
LOST_HEALTH = 0.2


def health(
    *,
    anywhere: Annotated[
        bool,
        typer.Option(
            "--any", help="One balancer of the pool that is well is enough, wherever it runs."
        ),
    ] = False,
    agent: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Ask about this agent instead: is it live?"),
    ] = None,
    redis_url: options.RedisUrl = options.DEFAULT_URL,
    pool: options.PoolName = options.DEFAULT_POOL,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Tell whether the balancer of this host is well: its loops have succeeded lately.

    Examples:
      balancer health
      balancer health --any --json
      balancer health --agent builder-1

    A loop that has not succeeded for `serve.silent_s` (30 s) is stuck. The exit code is 0
    when all is well, 6 when it is not or no balancer runs here, 4 when Redis is away.
    An agent is well until its time to live has passed since its last heartbeat.
    """
    if agent is not None:
        if anywhere:
            raise InvalidInput("--agent: together with --any it may not be given")
        _health_of(agent, redis_url, pool, as_json)
        return
    from balancer.ledger.replicas import replicas

    with options.opened(redis_url, pool) as balancer:
        found = options.asked(balancer, lambda opened: replicas(opened.client, opened.keys))
    own = found if anywhere else ours(found, socket.gethostname())
    most_s = config.process.serve.silent_s
    well = [replica for replica in own if replica.silent_s < most_s]
    is_well = bool(well) if anywhere else bool(own) and len(well) == len(own)
    if as_json:
        output.write_json({"healthy": is_well, "balancers": [_json(r) for r in own]})
    else:
        for replica in own:
            output.write(_line(replica, most_s))
        if not own:
            output.write(
                f"no balancer {'serves' if anywhere else 'of this host serves'} pool {pool!r}"
            )
    if not is_well:
        raise typer.Exit(errors.UNMET)


def _health_of(agent_id: str, redis_url: str, pool: str, as_json: bool) -> None:
    """One agent's: what it last said, and how long ago."""
    from balancer.ledger.read_fleet import agents_by_id

    options.check_name("--agent", agent_id)
    with options.opened(redis_url, pool) as balancer:
        (found,) = options.asked(balancer, lambda opened: agents_by_id(opened, [agent_id]))
    is_well = found is not None and found.state.value == "live" and found.health > LOST_HEALTH
    if as_json:
        output.write_json({"healthy": is_well, "agent": found and found.model_dump(mode="json")})
    elif found is None:
        output.write(f"agent {agent_id!r} is not in pool {pool!r}")
    else:
        word = "ok" if is_well else "lost"
        heard = output.seconds(found.heartbeat_age_s)
        output.write(f"{word}: agent {agent_id} is {found.state.value}, last heard {heard} ago")
    if not is_well:
        raise typer.Exit(errors.UNMET)


def ours(found: list[Replica], host: str) -> list[Replica]:
    """The balancers of this host whose processes are alive. Of several that had one process id, as in a container that
    was restarted, the latest; its predecessor's word stays for half a minute.
    """
    latest: dict[int, Replica] = {}
    for replica in found:
        if replica.host == host and _is_alive(replica.pid):
            known = latest.get(replica.pid)
            if known is None or replica.age_s < known.age_s:
                latest[replica.pid] = replica
    return list(latest.values())


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _line(replica: Replica, most_s: float) -> str:
    who = f"{replica.consumer} on {replica.host}, process {replica.pid}"
    if replica.silent_s < most_s:
        return f"ok: {who}; slowest loop {replica.slowest or '-'}, {replica.silent_s:.1f} s ago"
    return f"stuck: {who}; {replica.slowest} has not succeeded for {replica.silent_s:.1f} s"


def _json(replica: Replica) -> dict[str, Any]:
    return replica._asdict() | {"silent_s": replica.silent_s}
