"""When a plan will come to something by time alone: a guard lets go, a preference or a period of grace ends."""

from __future__ import annotations

import math

from balancer.core.planner import Planner
from balancer.core.view import View
from balancer.ledger.view import Viewer

#: So far ahead is looked, milliseconds (2 years): a power of two, as it is halved.
AHEAD_MS = 2**36
#: Pages of lanes that are looked at.
MOST_PAGES = 16


def next_plan_us(viewer: Viewer, planner: Planner) -> float:
    """At which moment the tasks that wait could be given to the agents that are free, though nothing else
    happens until then; infinity where that is never, or already now.
    """
    moments_ms: list[float] = []
    for page in range(MOST_PAGES):
        view = viewer.view(page)
        moments_ms.append(_next_plan_ms(view, planner))
        if not view.more:
            break
    return 1_000 * min(moments_ms)


def _next_plan_ms(view: View, planner: Planner) -> float:
    """What time alone allows is not forbidden again by it: so the first moment is found by halving."""

    def comes_to_something(in_ms: int) -> bool:
        return bool(planner.plan(view._replace(now_ms=view.now_ms + in_ms), most=1))

    too_early, early_enough = 0, AHEAD_MS
    if not view.roles or not comes_to_something(early_enough) or comes_to_something(too_early):
        return math.inf
    while early_enough - too_early > 1:
        middle = (too_early + early_enough) // 2
        if comes_to_something(middle):
            early_enough = middle
        else:
            too_early = middle
    return view.now_ms + early_enough
