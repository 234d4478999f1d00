"""Who gets a task: one small class a strategy. To change the policy, read this file and add a
class.

A score is the sum of named components in two parts: what depends on the agent's live numbers alone,
and what depends on the lane and the class alone. The split keeps a plan cheap: within a class, the
order of agents is the same for every lane. Higher is better. Ties go to the agent whose last unit
came free longest ago.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from balancer.core.lanes import AgentClass, Lane
    from balancer.core.settings import PoolSettings
    from balancer.core.view import FreeAgent

Scores = dict[str, float]


class Strategy(Protocol):
    """What the planner asks of a strategy."""

    name: str

    def agent_part(self, agent: FreeAgent) -> Scores:
        """Components that depend on the agent's health and load."""
        ...

    def match_part(self, lane: Lane, cls: AgentClass) -> Scores:
        """Components that depend on how well the class suits the lane."""
        ...


class BestMatch:
    """Health, a bonus for a specialist, a bonus for a lower load."""

    name = "best_match"

    def __init__(self, settings: PoolSettings) -> None:
        self._weights = settings.weights

    def agent_part(self, agent: FreeAgent) -> Scores:
        """weights.health x health, and weights.load x (1 - load)."""
        return {
            "health": self._weights.health * agent.health,
            "load": self._weights.load * (1 - agent.used / agent.max_concurrent),
        }

    def match_part(self, lane: Lane, cls: AgentClass) -> Scores:
        """weights.specialization when the category is one of the class's specializations."""
        if lane.category in cls.specializations:
            return {"specialization": self._weights.specialization}
        return {}


class LeastLoaded:
    """The lowest used / max_concurrent."""

    name = "least_loaded"

    def __init__(self, settings: PoolSettings) -> None:
        pass

    def agent_part(self, agent: FreeAgent) -> Scores:
        """1 - load."""
        return {"load": 1 - agent.used / agent.max_concurrent}

    def match_part(self, lane: Lane, cls: AgentClass) -> Scores:
        """Nothing: only load counts."""
        return {}


STRATEGIES = {cls.name: cls for cls in (BestMatch, LeastLoaded)}


def reason(strategy: str, whom: str, scores: Scores) -> str:
    """Why a task went where it went, in one line for people."""
    title = strategy.replace("_", " ").capitalize()
    return f"{title}: {whom} (score: {sum(scores.values()):.2f})" if scores else f"{title}: {whom}"


def make_strategy(settings: PoolSettings) -> Strategy:
    """The strategy that the pool's settings name."""
    return STRATEGIES[settings.strategy](settings)
