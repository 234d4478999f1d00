"""Who gets a task: one small class a strategy. To change the policy, read this file and add a
class.

A score is the sum of named components in two parts: what depends on the agent's live numbers alone,
and what depends on the lane and the class alone. The split keeps a plan cheap: within a class, the
order of agents is the same for every lane. Higher is better. Ties go to the agent whose last unit
came free longest ago.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from balancer.core.queue_order import Queue
from balancer.core.settings import STRATEGY_NAMES
from balancer.core.turns import Order

if TYPE_CHECKING:
    from balancer.core.lanes import AgentClass, Lane
    from balancer.core.settings import PoolSettings
    from balancer.core.view import FreeAgent

Scores = dict[str, float]


class Strategy(Protocol):
    """What the planner asks of a strategy. Your own is a class of this shape, made with the pool's
    settings and named in them as `package.module:Class`. With an attribute `queue` it says what its tasks
    are ordered by: "head_start" (of the priority; so without one) or "effort" (what they are expected to take).
    """

    name: str
    """Stored with each task that it decided; letters, digits, "." "_" "-", at most 64."""
    order: str
    """Which agents a view begins with: "load" (least loaded), "grant" (least recently granted) or
    "draw" (at random). The score decides among the agents in view, so it should not go against the
    order.
    """

    def agent_part(self, agent: FreeAgent) -> Scores:
        """Components that depend on the agent's health, load and turn."""
        ...

    def match_part(self, lane: Lane, cls: AgentClass) -> Scores:
        """Components that depend on how well the class suits the lane."""
        ...


class BestMatch:
    """Health, a bonus for a specialist, a bonus for a lower load."""

    name: str = "best_match"
    order: str = Order.LOAD
    queue: str = Queue.HEAD_START

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


class Fit:
    """The expected size of a task, the speed of an agent and the age of both their waits: no score of an agent
    by itself, so it is planned by a file of its own, core/plan/fit.py.
    """

    name: str = "fit"
    order: str = Order.LOAD
    queue: str = Queue.EFFORT

    def __init__(self, settings: PoolSettings) -> None:
        pass


class LeastLoaded:
    """The lowest used / max_concurrent."""

    name: str = "least_loaded"
    order: str = Order.LOAD
    queue: str = Queue.HEAD_START

    def __init__(self, settings: PoolSettings) -> None:
        pass

    def agent_part(self, agent: FreeAgent) -> Scores:
        """1 - load."""
        return {"load": 1 - agent.used / agent.max_concurrent}

    def match_part(self, lane: Lane, cls: AgentClass) -> Scores:
        """Nothing: only load counts."""
        return {}


class _ByTurn:
    """Whoever is next in turn, whatever its load and health (of those above min_health)."""

    name: str
    order: str
    queue: str = Queue.HEAD_START

    def __init__(self, settings: PoolSettings) -> None:
        pass

    def agent_part(self, agent: FreeAgent) -> Scores:
        """How near its turn is."""
        return {"turn": agent.turn}

    def match_part(self, lane: Lane, cls: AgentClass) -> Scores:
        """Nothing: only the turn counts."""
        return {}


class RoundRobin(_ByTurn):
    """The agent of the role that was granted a task least recently. The score is the seconds since."""

    name: str = "round_robin"
    order: str = Order.GRANT


class Random(_ByTurn):
    """Any agent of the role, each as likely as the others. The score is how near its draw is, 0 to 1."""

    name: str = "random"
    order: str = Order.DRAW


_OURS: tuple[Callable[[PoolSettings], Strategy | Fit], ...] = (
    *(Fit, BestMatch, LeastLoaded),
    *(RoundRobin, Random),
)
STRATEGIES = dict(zip(STRATEGY_NAMES, _OURS, strict=True))


def queue_of(strategy: Strategy | Fit) -> Queue:
    """What the tasks of a pool with this strategy are ordered by."""
    return Queue(getattr(strategy, "queue", Queue.HEAD_START))


def reason(strategy: str, whom: str, scores: Scores) -> str:
    """Why a task went where it went, in one line for people."""
    title = strategy.replace("_", " ").capitalize()
    return f"{title}: {whom} (score: {sum(scores.values()):.2f})" if scores else f"{title}: {whom}"


def make_strategy(settings: PoolSettings) -> Strategy | Fit:
    """The strategy that the pool's settings name: one of ours, or a class of the user's own.

    Raises:
        Misconfigured: the class cannot be imported, or is no strategy.
    """
    ours = STRATEGIES.get(settings.strategy)
    if ours:
        return ours(settings)
    from balancer.core.own_strategy import load_strategy  # which imports this module

    return load_strategy(settings)
