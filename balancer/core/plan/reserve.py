"""Units kept free for a task that needs more of them at once than any agent has.

Small costs would take each unit as it comes free, and a large one would wait for ever. So the first task
in line that agents could hold, but no free one can, has the agent that is nearest to it kept out of the
plan: one a role. No plan remembers that. Every plan keeps the same agent, as it only gets emptier, or
another one that is as near.
"""

from __future__ import annotations

from collections.abc import Iterable

from balancer.core.lanes import Lane
from balancer.core.plan.free import Ranked
from balancer.core.plan.rules import bars


def reserve(lane: Lane, classes: Iterable[Ranked], now_ms: int) -> str | None:
    """Keep the agent that is nearest to holding a task of this lane; its id, None when none comes near.

    Nearest is the one with the most units free, for a task that must be alone the one that holds
    least; among equals the one whose last unit came free longest ago.
    """
    found = [
        ((agent.used - (0 if lane.alone else agent.max_concurrent), agent.freed_us, agent.id), ranked, at)
        for ranked in classes
        for at, (_, _, _, agent, _) in enumerate(ranked.entries)
        if not bars(lane, agent, now_ms)
    ]  # fmt: skip
    if not found:
        return None
    (_, _, agent_id), ranked, at = min(found, key=lambda each: each[0])
    ranked.keep(at)
    return agent_id
