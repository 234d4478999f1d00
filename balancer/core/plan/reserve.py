"""Units kept free for a task that needs more of them at once than any agent has.

Small costs would take each unit as it comes free, and a large one would wait for ever. So the first task
in line that agents could hold, but no free one can, has the agent that is nearest to it kept out of the
plan: one a role. No plan remembers that. Every plan keeps the same agent, as it only gets emptier, or
another one that should have room much sooner. By estimates that are far too small whoever was given work last
would always be that one, and nobody be kept for long: so they are taken as they hold of what runs now.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median_low
from typing import Any

from balancer.core.effort import OVERRUN, left_s
from balancer.core.lanes import Lane
from balancer.core.plan.free import Ranked
from balancer.core.plan.rules import bars
from balancer.core.view import EXACT, FreeAgent, Held

#: So many times sooner than the nearest must another agent be expected to have room to be kept instead. Where
#: estimates are wrong, an agent that has been emptied for a while would else be left for one that only looks better.
SOONER = 2.0
#: No task is taken to be estimated to take less, seconds.
LEAST_S = 0.001


def reserve(
    lane: Lane,
    classes: Iterable[Ranked],
    now_ms: int,
    held: Mapping[str, Sequence[Held]],
    longer: Mapping[int, float] = EXACT,
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
    known = [(place, ranked, at) for place, ranked, at in found if place[2] in held]
    (_, _, emptiest), ranked, at = nearest
    if known and emptiest in held:
        agent = ranked.entries[at][3]
        late = any(_is_late(one, now_ms, longer) for one in held[emptiest])

        def in_s(one: tuple[Any, Ranked, int]) -> float:
            return room_in_s(lane, one[1].entries[one[2]][3], held, now_ms, longer, doubted=late)

        soonest_s, _, soonest = min((in_s(one), one[0], one) for one in known)
        if SOONER * soonest_s < room_in_s(lane, agent, held, now_ms, longer):
            nearest = soonest
    (_, _, agent_id), ranked, at = nearest
    ranked.keep(at)
    return agent_id


def room_in_s(
    lane: Lane,
    agent: FreeAgent,
    held: Mapping[str, Sequence[Held]],
    now_ms: int,
    longer: Mapping[int, float] = EXACT,
    *,
    doubted: bool = False,
) -> float:
    """In how many seconds an agent that gets nothing more should have room for a task of this lane, when tasks of each
    size take so many times as long as estimated. `doubted`: what has run for long is not believed to end soon.
    """
    missing = agent.used - (0 if lane.alone else agent.max_concurrent - lane.cost)
    ends = sorted((_left_s(one, now_ms, longer, doubted), one.units) for one in held[agent.id])
    for in_s, units in ends:
        missing -= units
        if missing <= 0:
            return in_s
    return math.inf


def size(estimate_s: float) -> int:
    """Tasks of one size are estimated to take about as long: up to four times as long as one another."""
    return math.frexp(estimate_s)[1] // 2


def overruns(ran: Iterable[tuple[float, float]]) -> dict[int, float]:
    """By size how many times as long as estimated tasks take, at least 1: by what ran at some moment, each with its
    estimate and for how long it had run, seconds.

    At any moment tasks have run half of their time, on average: so twice what half of them have not run yet. A
    few that hang among many others do not move it.
    """
    shares: dict[int, list[float]] = {}
    for estimate_s, elapsed_s in ran:
        shares.setdefault(size(estimate_s), []).append(elapsed_s / max(estimate_s, LEAST_S))
    return {each: max(1.0, 2 * median_low(some)) for each, some in shares.items()}


def _expected_s(one: Held, longer: Mapping[int, float]) -> float:
    return longer.get(size(one.estimate_s), 1.0) * one.estimate_s


def _is_late(one: Held, now_ms: int, longer: Mapping[int, float]) -> bool:
    return now_ms - one.granted_ms > 1_000 * _expected_s(one, longer)


def _left_s(one: Held, now_ms: int, longer: Mapping[int, float], doubted: bool) -> float:
    elapsed_s = (now_ms - one.granted_ms) / 1_000
    left = left_s(elapsed_s, _expected_s(one, longer))
    return max(left, (OVERRUN - 1) * elapsed_s) if doubted else left
