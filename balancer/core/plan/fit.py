"""The strategy `fit`: which of the waiting tasks goes next, to which of the free agents, and when it is
better to wait for a faster one.

With p = expected seconds of a task at speed 1, w = the weight of its priority, a = `ageing`,
s = speed of an agent in the task's category, S = the largest such speed of any agent that accepts work
and may have the task, r = the moment at which it became ready:

    index = r + p x (S / s) / (w x a)

The smallest index goes first, and each task is looked at with the fastest free agent that may have it.
So short and heavy tasks go before long and light ones, a task is worth more to an agent that suits it,
and as r is part of the index nothing waits for ever: one task is overtaken at most by those that become
ready within p x (S / s) / (w x a) after it. For the fastest agent the index is the order in which
lanes stand in Redis anyway; so the heads of the lanes are all that a plan has to see.

The guard keeps a task from a slow agent when a faster one will clearly have done it sooner. Better agents
are those more than 5 % faster. With U units on them all, their mean speed b, the role's mean time of
service m, and n tasks in the lane, this one counted, one of them will have done it in about

    g = m x (1 + n) / U  +  p / b

and an agent of speed s does not get it when p / s > slack x g. Better agents may be taken away, or kept
busy by others: once the task has waited since r for more than slack x g, it would be done by now if the
guard had been right, and the guard lets go of it.

Source: the generalised c-mu rule (Mandelbaum & Stolyar, "Scheduling flexible servers with convex delay
costs", Operations Research 52(6), 2004), here with p / w for the cost, made static in time by linear
ageing; the guard is the threshold of the slow server problem (Lin & Kumar, 1984) with the wait estimated.
"""

from __future__ import annotations

from balancer.core.fleet import Rung
from balancer.core.queue_order import MOST_DELAY_US, RANKS, Queue, QueueOrder
from balancer.core.settings import PoolSettings
from balancer.core.view import Head

#: How much of its speed an agent of health 0 would lose. Health is a gate, and beyond it a mild penalty: an
#: agent that is late with its heartbeats (0.8, 0.5) goes behind one that is 2 or 5 % slower. More than that cost 2 %
#: of mean flow in replays whose agents were late all the time and as fast as ever.
HEALTH_WORTH = 0.1


def kept_share(health: float) -> float:
    """The share of its speed that an agent of this health is taken to keep."""
    return 1.0 - HEALTH_WORTH * (1.0 - health)


def better_takes_s(estimate_s: float, rung: Rung, service_s: float, waiting: int) -> float:
    """In how many seconds one of the agents better than this rung will have done the first task of a lane in
    which so many wait: g above. `service_s`: how long tasks of the role take of late; 0 when unknown.
    """
    alone_s = estimate_s / rung.better_speed
    return (service_s or alone_s) * (1 + waiting) / rung.better_units + alone_s


class Formula:
    """The formulas above, with a pool's settings."""

    def __init__(self, settings: PoolSettings) -> None:
        self._slack = settings.guard_slack
        self._order = QueueOrder.of(settings, Queue.EFFORT)
        #: 1 / (w x a), by priority.
        self._worth = {
            priority: 1 / each for priority, each in zip(RANKS, self._order.each, strict=True)
        }

    def index_us(self, head: Head, rung: Rung) -> float:
        """A task's place in line when an agent of this rung would do it."""
        if not rung.lag:
            return head.order_us
        delay_us = min(1e6 * head.estimate_s * self._worth[head.priority], MOST_DELAY_US)
        return head.order_us + rung.lag * delay_us

    def ready_us(self, head: Head) -> float:
        """When a task became ready, by its place in line."""
        return head.order_us - self._order.delay_us(head.priority, round(1_000 * head.estimate_s))

    def holds_back(
        self, head: Head, rung: Rung, service_s: float, waiting: int, now_ms: int
    ) -> bool:
        """Whether the guard keeps the first of so many tasks from an agent of this rung."""
        if not rung.better_units:
            return False
        most_s = self._slack * better_takes_s(head.estimate_s, rung, service_s, waiting)
        if head.estimate_s <= most_s * rung.speed:
            return False
        return 1_000 * now_ms - self.ready_us(head) <= 1e6 * most_s
