"""What a person can ask of the demo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from balancer.core.errors import InvalidInput
from balancer.trace import SHIPPED


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """None means: chosen to fit the trace, and stated in the report.

    Raises:
        InvalidInput: a value is out of its bounds.
    """

    #: The file to replay, in the format that `balancer.trace` reads.
    trace: Path = SHIPPED
    #: Agents over all roles, at least two a role.
    agents: int | None = None
    #: Units over all agents.
    capacity: int | None = None
    #: Offered work / capacity: arrivals are compressed by one factor until it is this.
    load: float = 0.9
    #: Durations are divided by it.
    speed: float | None = None
    #: Rows of the trace; None for all.
    limit: int | None = None
    #: Agents that are killed by SIGKILL on the way.
    kill: int | None = None
    #: Balancers side by side.
    replicas: int = 2
    #: The report as JSON.
    json: bool = False
    #: Keep the logs even when all is well.
    keep: bool = False

    def __post_init__(self) -> None:
        _check("agents", self.agents, 2, 500)
        _check("capacity", self.capacity, 2, 10_000)
        _check("load", self.load, 0.01, 10)
        _check("speed", self.speed, 1e-6, 1e12)
        _check("limit", self.limit, 1, 1_000_000)
        _check("kill", self.kill, 0, 1_000)
        _check("replicas", self.replicas, 1, 16)


def _check(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not (math.isfinite(value) and least <= value <= most):
        raise InvalidInput(f"--{name} is {value:g}, must be: from {least:g} to {most:g}")
