"""Arrivals: stretched or compressed by one factor until they make the load that is asked for, so that bursts stay."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from balancer.core.errors import InvalidInput
from balancer.simulate.fleet import Fleet
from balancer.simulate.trace import Trace


def blind_capacity(trace: Trace, fleet: Fleet) -> dict[str, float]:
    """By role: seconds of work (at speed 1) that its agents do in a second if each free slot takes whatever is next.

    A slot that takes categories in proportion to their work p does 1 / sum(p / speed): the harmonic mean.
    """
    work = _work(trace)
    capacity = {}
    for role, by_category in work.items():
        total = sum(by_category.values())
        capacity[role] = sum(
            agent.slots / sum(w / total / agent.speeds[c] for c, w in by_category.items())
            for agent in (fleet.agents[place] for place in fleet.by_role[role])
        )
    return capacity


def scaled_arrivals(trace: Trace, fleet: Fleet, load: float) -> list[float]:
    """When each task arrives so that the work of the busiest role is `load` times its blind capacity, seconds.

    Raises:
        InvalidInput: the load is not above 0, or all tasks arrive at once: then no factor makes a load.
    """
    if not load > 0:
        raise InvalidInput(f"load is {load}, must be: above 0")
    span = max(trace.arrival_s) - min(trace.arrival_s)
    if span <= 0:
        raise InvalidInput(f"{trace.name}: all tasks arrive at once, so there is no load to set")
    capacity = blind_capacity(trace, fleet)
    work = {role: sum(by_category.values()) for role, by_category in _work(trace).items()}
    factor = max(work[role] / (capacity[role] * load * span) for role in work)
    return [arrival * factor for arrival in trace.arrival_s]


def flattened(trace: Trace, blocks: int) -> Trace:
    """The trace with its time warped so that each of `blocks` equally long pieces brings equal work per second.

    Takes growth over years out; the order of tasks and the bursts within a piece stay.
    """
    first, last = trace.arrival_s[0], trace.arrival_s[-1]
    span = last - first
    if span <= 0:
        return trace
    done = list(accumulate(trace.size_s))
    edges = [first + span * block / blocks for block in range(blocks)] + [last]
    warped = [_between(edge, trace.arrival_s, done) / done[-1] * span for edge in edges]
    warped[0] = 0.0
    arrival_s = tuple(_between(arrival, edges, warped) for arrival in trace.arrival_s)
    return replace(trace, arrival_s=arrival_s)


def _between(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """The value at x of the line through the points (xs rise; of points at the same x the last counts)."""
    right = bisect_right(xs, x)
    if right == 0:
        return ys[0]
    if right == len(xs):
        return ys[-1]
    left = right - 1
    share = (x - xs[left]) / (xs[right] - xs[left])
    return ys[left] + share * (ys[right] - ys[left])


def _work(trace: Trace) -> dict[str, dict[int, float]]:
    """Seconds of work by role and category."""
    work: dict[str, dict[int, float]] = {}
    for role, category, size in zip(trace.role, trace.category, trace.size_s, strict=True):
        of = work.setdefault(role, {})
        of[category] = of.get(category, 0.0) + size
    return work
