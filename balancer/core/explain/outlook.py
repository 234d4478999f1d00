"""When a task should start and end: what runs and what stands before it, over the units that suit it.

Twice, once with the means of what is expected and once with what nine of ten do not exceed. Whatever comes
later and is more urgent, and whoever joins or leaves, is not foretold.
"""

from __future__ import annotations

from collections import defaultdict
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from balancer.core.effort import left_s
from balancer.core.explain.answer import Guard, Outlook, Span
from balancer.core.explain.judge import Judge
from balancer.core.explain.picture import Running, Seen
from balancer.core.lanes import feasible
from balancer.core.plan.rules import Rule, bars

#: Most units that are followed one by one.
MOST_UNITS = 4_096


def running_outlook(elapsed_s: float, estimate_s: float, p90_s: float) -> Outlook:
    """Of a task that an agent holds."""
    low_s = left_s(elapsed_s, estimate_s)
    high_s = max(low_s, left_s(elapsed_s, p90_s))
    return Outlook(starts_in=None, ends_in=Span(low_s=low_s, high_s=high_s))


def waiting_outlook(judge: Judge) -> tuple[Outlook | None, Guard | None]:
    """Of a task that is ready, and what the guard says by the same estimates. No outlook when no agent that accepts
    work could have it.

    A task that the guard holds back waits for the faster agents, and where none of them should have room before
    the guard lets go, it starts then, on one of those that have room.
    """
    hold = judge.hold()
    held = {seen.agent.id for seen in judge.suitable if hold and judge.is_guarded(seen)}
    serving = [
        seen
        for seen in judge.suitable
        if seen.agent.id not in held
        and seen.agent.health >= judge.settings.min_health
        and not judge.is_failing(seen)
        and _barred(judge, seen) is not Rule.TRIED
    ]
    if hold is None:
        outlook = _outlook(_served(judge, serving)) if serving else None
        return outlook, None
    mean, p90 = _served(judge, serving) if serving else (None, None)
    guard = Guard(
        **hold._asdict(),
        better_starts_in_s=mean.starts_s if mean else None,
        better_in_s=mean.ends_s if mean else None,
    )
    lapse_s = hold.lapses_in_s
    here_p90_s = hold.here_in_s * max(1.0, judge.picture.p90_s / judge.picture.head.estimate_s)
    if mean is None or mean.starts_s > lapse_s:
        mean = _Stay(lapse_s, lapse_s + hold.here_in_s)
    if p90 is None or p90.starts_s > lapse_s:
        p90 = _Stay(lapse_s, lapse_s + here_p90_s)
    return _outlook((mean, p90)), guard


def _barred(judge: Judge, seen: Seen) -> Rule | None:
    """What the past of the task has against this agent."""
    return bars(judge.lane, seen.agent, judge.now_ms)


class _Stay(NamedTuple):
    """When a task starts and ends, in seconds from now."""

    starts_s: float
    ends_s: float


def _outlook(stays: tuple[_Stay, _Stay]) -> Outlook:
    """By the means, and by what nine of ten do not exceed."""
    mean, p90 = stays
    return Outlook(
        starts_in=Span(low_s=mean.starts_s, high_s=max(mean.starts_s, p90.starts_s)),
        ends_in=Span(low_s=mean.ends_s, high_s=max(mean.ends_s, p90.ends_s)),
    )


def _served(judge: Judge, serving: list[Seen]) -> tuple[_Stay, _Stay]:
    """When these agents should do the task: by the means, and by what nine of ten do not exceed."""
    low_s = _starts_in_s(judge, serving, late=False)
    high_s = max(low_s, _starts_in_s(judge, serving, late=True))
    speed, estimate_s = _mean_speed(judge, serving), judge.picture.head.estimate_s
    late_s = max(estimate_s, judge.picture.p90_s)
    return _Stay(low_s, low_s + estimate_s / speed), _Stay(high_s, high_s + late_s / speed)


def _mean_speed(judge: Judge, serving: list[Seen]) -> float:
    rungs = [
        (rung.speed, seen.agent.max_concurrent)
        for seen in serving
        if (rung := judge.ladder.rung(seen.cls)) is not None
    ]
    return sum(speed * units for speed, units in rungs) / sum(units for _, units in rungs)


def _starts_in_s(judge: Judge, serving: list[Seen], *, late: bool) -> float:
    """When the first of these has room for the task, once those that stand before it have theirs.

    `late`: by what nine of ten tasks do not exceed, else by the means.
    """
    units = _Units(_busy_s(judge, serving, late=late))
    classes = {seen.cls for seen in serving}
    # Where only some of the agents were looked at, the others are taken to do their share of the work.
    share = max(1.0, judge.units() / units.count) if _is_part(judge) else 1.0
    speed = share * _mean_speed(judge, serving)
    known = [one for one in judge.picture.ahead if any(feasible(one.lane, cls) for cls in classes)]
    for one in sorted(known, key=lambda each: each.order_us):
        work_s = max(one.estimate_s, one.p90_s) if late else one.estimate_s
        units.run(one.lane.cost, work_s / speed)
    # What was not read is taken to be like what was, and to be spread evenly.
    unread = judge.picture.ahead_of - len(judge.picture.ahead)
    if unread > 0 and known:
        mean_s = units.given_s / len(known)
        units.delay_s = unread * len(known) / len(judge.picture.ahead) * mean_s / units.count
    return units.run(judge.lane.cost, 0.0)


def _is_part(judge: Judge) -> bool:
    examined = judge.picture.examined
    return examined.pool_agents < examined.pool_agents_of


def _busy_s(judge: Judge, serving: list[Seen], *, late: bool) -> list[float]:
    """When each unit of these agents comes free, in seconds from now."""
    leases: dict[str, list[Running]] = defaultdict(list)
    for lease in judge.picture.running:
        leases[lease.agent].append(lease)
    # Those that gave the task back are passed over for so long, whatever room they have.
    avoided_s = max(0.0, judge.lane.avoid_until_ms / 1e3 - judge.now_ms / 1e3)
    out: list[float] = []
    for seen in serving:
        agent, busy = seen.agent, list[float]()
        for lease in leases[agent.id]:
            expected_s = lease.p90_s if late else lease.estimate_s
            busy += [left_s(lease.elapsed_s, expected_s)] * lease.cost
        # Leases that were not read are taken to be fresh ones.
        busy += [judge.role.service_s] * (agent.used - len(busy))
        free = [*busy[: agent.max_concurrent], *[0.0] * (agent.max_concurrent - len(busy))]
        least_s = avoided_s if _barred(judge, seen) is Rule.AVOIDED else 0.0
        out += [max(least_s, at_s) for at_s in free]
        if len(out) >= MOST_UNITS:
            break
    return out


class _Units:
    """Units of agents, each with the moment at which it comes free."""

    def __init__(self, free_at_s: list[float]) -> None:
        heapify(free_at_s)
        self._free_at_s, self.count = free_at_s, max(1, len(free_at_s))
        #: Of units, by tasks that were given to them; and what all wait on top.
        self.given_s = self.delay_s = 0.0

    def run(self, cost: int, takes_s: float) -> float:
        """Give a task the units that come free first; when it starts."""
        taken = [heappop(self._free_at_s) for _ in range(min(cost, len(self._free_at_s)))]
        starts_s = max(taken, default=0.0)
        for _ in taken:
            heappush(self._free_at_s, starts_s + takes_s)
        self.given_s += cost * takes_s
        return starts_s + self.delay_s
