"""Who carries how much: the figures over a fleet's open leases."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field


class WorkloadStats(BaseModel):
    """The open leases of a fleet. An agent's workload is the number of tasks it holds."""

    model_config = ConfigDict(frozen=True)

    total_tasks: int = Field(ge=0, description="open leases of all agents")
    agent_workloads: dict[str, int] = Field(description="open leases by agent, idle agents too")
    max_workload: int = Field(ge=0, description="the highest workload; 0 when all are idle")
    busiest_agent: str | None = Field(
        description="who has it, the first by name of several; None when all are idle"
    )
    avg_workload: float = Field(ge=0, description="total tasks / agents; 0 without agents")


def workload_stats(workloads: Iterable[tuple[str, int]]) -> WorkloadStats:
    """The figures over (agent, open leases) pairs."""
    by_agent = dict(sorted(workloads))
    total = sum(by_agent.values())
    highest = max(by_agent.values(), default=0)
    busiest = next((agent for agent, tasks in by_agent.items() if tasks == highest), None)
    return WorkloadStats(
        total_tasks=total,
        agent_workloads=by_agent,
        max_workload=highest,
        busiest_agent=busiest if highest else None,
        avg_workload=total / len(by_agent) if by_agent else 0.0,
    )
