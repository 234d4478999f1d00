"""What a plan consists of."""

from __future__ import annotations

from typing import NamedTuple

from balancer.core.strategies import Scores, reason

#: Most proposals of one plan.
MOST = 128


class Proposal(NamedTuple):
    """A wish: this task to this agent, under a lease of this nonce."""

    task: str
    agent: str
    nonce: str
    cost: int
    #: How long it should take on this agent.
    estimate_s: float
    scores: Scores
    #: What decided, and the type of the agent; they make the reason that people read.
    strategy: str
    agent_type: str = ""
    #: Where the grant puts the agent in a pool whose order is drawn.
    draw: int | None = None
    #: Id of the lane in which it was judged. What no plan judged names none: it goes to a named agent.
    lane: str = ""

    @property
    def reason(self) -> str:
        """One line for people."""
        return reason(self.strategy, self.agent_type or self.agent, self.scores)


class RolePlan(NamedTuple):
    """What is to happen in one role."""

    #: Each with its place in line, smallest first: microseconds, the same unit in every role.
    wishes: list[tuple[float, Proposal]]
    #: Whether the plan looked at all that waits on its page: nothing else there could be given to anybody.
    is_whole: bool
    #: The agent that gets nothing, as a task that needs more units than it has free waits for it.
    kept: str | None
    #: The task that it waits for, where this plan chose it.
    kept_for: str | None = None
