"""Who takes part: always the same, so that a seed means the same faults on every machine."""

from __future__ import annotations

from dataclasses import dataclass

#: Name of the pool; seconds between two heartbeats, and of silence after which an agent is lost.
POOL, INTERVAL_S, TTL_S = "chaos", 0.5, 2.5
BALANCERS = ("balancer-1", "balancer-2", "balancer-3")
PRODUCER = "producer"


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """One agent.

    Args:
        is_careless: it speaks the protocol by hand, never fences itself, and says some things twice, late or wrongly.
    """

    id: str
    role: str
    units: int
    is_careless: bool = False


AGENTS = (
    AgentSpec("builder-1", "builder", 6),
    AgentSpec("builder-2", "builder", 4),
    AgentSpec("builder-3", "builder", 5),
    AgentSpec("builder-4", "builder", 4, is_careless=True),
    AgentSpec("builder-5", "builder", 3, is_careless=True),
    AgentSpec("reviewer-1", "reviewer", 5),
    AgentSpec("reviewer-2", "reviewer", 4),
    AgentSpec("reviewer-3", "reviewer", 3),
    AgentSpec("reviewer-4", "reviewer", 4, is_careless=True),
    AgentSpec("tester-1", "tester", 4),
    AgentSpec("tester-2", "tester", 4),
    AgentSpec("tester-3", "tester", 3, is_careless=True),
)
ROLES = ("builder", "reviewer", "tester")
#: The dearest task that every agent can carry.
MOST_COST = 3
