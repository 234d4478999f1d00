"""Units kept free for a task that needs more of them at once than any agent has.

Small costs would take each unit as it comes free, and a large one would wait for ever. So the first task
in line that agents could hold, but no free one can, has the agent that is nearest to it kept out of the
plan: one a role. No plan remembers that. Every plan keeps the same agent, as it only gets emptier, or
another one that is as near.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from balancer.core.effort import left_s
from balancer.core.lanes import Lane
from balancer.core.plan.free import Ranked
from balancer.core.plan.rules import bars
from balancer.core.view import FreeAgent, Held

#: So many times sooner than the nearest must another agent be expected to have room to be kept instead. Where
#: estimates are wrong, an agent that has been emptied for a while would else be left for one that only looks better.
SOONER = 2.0


def reserve(
    lane: Lane,
    classes: Iterable[Ranked],
    now_ms: int,
    held: Mapping[str, Sequence[Held]],
) -> str | None:
    """Keep the agent that is nearest to holding a task of this lane; its id, None when none comes near.

    Nearest is the one with the most units free, for a task that must be alone the one that holds
    least; among equals the one whose last unit came free longest ago. But where another one should have
    room much sooner, by what both hold, it is that one.
    """
    found = [
        ((agent.used - (0 if lane.alone else agent.max_concurrent), agent.freed_us, agent.id), ranked, at)
        for ranked in classes
        for at, (_, _, _, agent, _) in enumerate(ranked.entries)
        if not bars(lane, agent, now_ms)
    ]  # fmt: skip
    if not found:
        return None
    nearest = min(found, key=lambda each: each[0])
    known = [
        (room_in_s(lane, ranked.entries[at][3], held, now_ms), (place, ranked, at))
        for place, ranked, at in found
        if place[2] in held
    ]
    if known and nearest[0][2] in held:
        soonest_s, soonest = min(known, key=lambda each: (each[0], each[1][0]))
        _, ranked, at = nearest
        if SOONER * soonest_s < room_in_s(lane, ranked.entries[at][3], held, now_ms):
            nearest = soonest
    (_, _, agent_id), ranked, at = nearest
    ranked.keep(at)
    return agent_id


def room_in_s(
    lane: Lane, agent: FreeAgent, held: Mapping[str, Sequence[Held]], now_ms: int
) -> float:
    """In how many seconds an agent that gets nothing more should have room for a task of this lane."""
    missing = agent.used - (0 if lane.alone else agent.max_concurrent - lane.cost)
    ends = sorted(
        (left_s((now_ms - one.granted_ms) / 1_000, one.estimate_s), one.units)
        for one in held[agent.id]
    )
    for in_s, units in ends:
        missing -= units
        if missing <= 0:
            return in_s
    return math.inf
