"""Tiny traces and fleets, written down in a line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from balancer.core.model import Priority
from balancer.simulate.fleet import Fleet, SimAgent, make_fleet_of
from balancer.simulate.trace import Trace, make_trace
from balancer.trace import Row


def task(
    arrival_s: float,
    size_s: float,
    category: str = "feat",
    *,
    role: str = "r",
    priority: Priority = Priority.MEDIUM,
    parents: Iterable[int] = (),
) -> Row:
    """A task; parents by their place in the call of `trace`."""
    return Row(
        id="",
        arrival_s=arrival_s,
        duration_s=size_s,
        role=role,
        category=category,
        priority=priority,
        description="",
        depends_on=tuple(f"t{parent}" for parent in parents),
        group="",
        outcome="done",
    )


def trace(*tasks: Row) -> Trace:
    """These tasks, t0, t1 ..., as if each stood in its line of a file."""
    return make_trace([replace(row, id=f"t{i}", line=i) for i, row in enumerate(tasks)])


def agent(
    *speeds: float,
    role: str = "r",
    slots: int = 1,
    health: float = 1.0,
    specializations: Iterable[str] = (),
) -> SimAgent:
    """An agent with these speeds, by category."""
    return SimAgent("", role, slots, 1.0, frozenset(specializations), health, speeds)


def fleet(*agents: SimAgent) -> Fleet:
    """Agents known by their place."""
    return make_fleet_of(agents)
