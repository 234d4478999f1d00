"""An agent that runs a program for each task: what `worker run -- PROGRAM` runs."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from balancer.protocol import Misconfigured, is_name, pool_name
from worker.agent import Agent
from worker.command import Command
from worker.guard import Guard
from worker.target import USAGE_HINT, BadTarget


@contextmanager
def program_agent(
    words: Sequence[str],
    *,
    id: str | None,
    role: str | None,
    max_concurrent: int | None,
    categories: Sequence[str] | None,
    redis_url: str | None,
    pool: str | None,
    kill_after_s: float,
    skills: Mapping[str, int] | None = None,
    speed: float | None = None,
    speeds: Mapping[str, float] | None = None,
) -> Iterator[Agent]:
    """The agent, with a guardian that outlives it.

    Args:
        words: the program and its arguments.
        id: default: the host and the role, the same after a restart.
        role: whose tasks it takes.
        max_concurrent: units it carries at once, default 1.
        categories: what it does, and is best at; default all.
        redis_url: as of Agent.
        pool: as of Agent.
        kill_after_s: from SIGTERM to SIGKILL.
        skills: as of Agent.
        speed: as of Agent.
        speeds: as of Agent.

    Raises:
        Misconfigured: the Redis address or the environment breaks a rule.
        BadTarget: an argument breaks its rule, or there is no such program.
    """
    if not words:
        raise BadTarget("no program follows --", USAGE_HINT)
    if role is None:
        raise BadTarget("a program needs --role: whose tasks it takes", USAGE_HINT)
    if not is_name(role):
        raise BadTarget(f"role: {role!r} is not a name", USAGE_HINT)
    pool = pool_name(pool)
    id = id or default_id(role)
    try:
        guard = Guard()
    except OSError as error:
        raise BadTarget(f"no process can be started: {error.strerror}", exit_code=1) from None
    try:
        try:
            agent = Agent(
                id,
                role=role,
                redis_url=redis_url,
                pool=pool,
                max_concurrent=max_concurrent or 1,
                specializations=categories or None,
                skills=skills,
                speed=speed,
                speeds=speeds,
            )
            command = Command(words, guard, agent_id=id, pool=pool, kill_after_s=kill_after_s)
            agent.task(*categories or ())(command)
        except Misconfigured:
            raise
        except ValueError as error:
            raise BadTarget(str(error), USAGE_HINT) from None
        yield agent
    finally:
        guard.close()


def default_id(role: str) -> str:
    """HOST-ROLE, as a name: the same after a restart, so that what the process before held is resumed."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    return f"{host[: max(0, 63 - len(role))]}-{role}".lstrip("-._")
