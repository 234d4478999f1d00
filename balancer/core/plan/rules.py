"""The hard rules: why an agent may not have a task, whatever a score says.

Some follow from the lane and the class alone, so each pair is judged once; the others look at the agent
as it is now.
"""

from __future__ import annotations

from enum import StrEnum

from balancer.core.fleet import Ladder
from balancer.core.lanes import AgentClass, Lane, feasible
from balancer.core.view import FreeAgent


class Rule(StrEnum):
    """Why an agent may not have a task. In the order in which they are judged."""

    ROLE = "role"  # it is of another role
    SKILL = "skill"  # it lacks a skill that the task requires, or is not good enough at it
    SIZE = "size"  # the task costs more units than the agent has in all
    HEALTH = "health"  # it has not been heard of for too long
    FAILING = "failing"  # nearly all of its tries fail, and others could have it
    TRIED = "tried"  # the task failed on it, and there are others who have not tried
    AVOIDED = "avoided"  # it gave the task back moments ago
    NOT_EMPTY = "not_empty"  # the task goes alone, and the agent holds something
    FULL = "full"  # it has not enough units left


def class_rule(lane: Lane, cls: AgentClass) -> Rule | None:
    """Why no agent of this class may have a task of this lane; None when those of it may."""
    if feasible(lane, cls):
        return None
    if lane.role != cls.role:
        return Rule.ROLE
    return Rule.SIZE if lane.cost > cls.max_concurrent else Rule.SKILL


def is_failing(ladder: Ladder, cls: AgentClass, agent: FreeAgent) -> bool:
    """Whether an agent of a class that may is shut out from the lane of this ladder, or has its one task."""
    return not ladder.serves(cls) or (ladder.probes(cls) and agent.used > 0)


def bars(lane: Lane, agent: FreeAgent, now_ms: int) -> Rule | None:
    """Why this agent of a class that may is out of the question for now, however many units it has."""
    if agent.id in lane.tried:
        return Rule.TRIED
    if now_ms < lane.avoid_until_ms and agent.id in lane.avoid:
        return Rule.AVOIDED
    return None


def room_rule(lane: Lane, agent: FreeAgent) -> Rule | None:
    """Why the task does not fit beside what the agent holds; None when it does."""
    if lane.alone:
        return Rule.NOT_EMPTY if agent.used else None
    return Rule.FULL if agent.used + lane.cost > agent.max_concurrent else None


def why_not(
    lane: Lane,
    cls: AgentClass,
    agent: FreeAgent,
    now_ms: int,
    least_health: float,
    *,
    failing: bool = False,
) -> Rule | None:
    """The first hard rule that keeps this agent, which accepts work, from a task of this lane; None
    when it may have it. A lane whose `tried` are void comes without them (see Fleet.void_tried); `failing`
    is what is_failing says.
    """
    return (
        class_rule(lane, cls)
        or (Rule.HEALTH if agent.health < least_health else None)
        or (Rule.FAILING if failing else None)
        or bars(lane, agent, now_ms)
        or room_rule(lane, agent)
    )
