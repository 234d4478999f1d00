"""The agent that a task would rather have: when it gets it though another one is better.

It has to be free, and near to the best: at most PREFERRED times slower with `fit`; with a strategy that scores
agents, behind by at most a third of the best score, which is the same for scores above 0. Strategies that go by turns
(`round_robin`, `random`, your own of such an order) do not look at it, or whose turn it is would not count.
"""

from __future__ import annotations

from balancer.core.queue_order import QueueOrder
from balancer.core.settings import PoolSettings
from balancer.core.strategies import Strategy, queue_of
from balancer.core.turns import Order
from balancer.core.view import Head

#: A preferred agent is taken when it is at most so many times slower than the best.
PREFERRED = 1.5


def bonus(best: float) -> float:
    """What a preference adds to a score, where this one is the best."""
    return (1 - 1 / PREFERRED) * abs(best)


class Preferences:
    """What a strategy that scores agents makes of them."""

    def __init__(self, strategy: Strategy, settings: PoolSettings) -> None:
        self._order = QueueOrder.of(settings, queue_of(strategy))
        self.heeded = strategy.order == Order.LOAD

    def wanted(self, head: Head, now_ms: int) -> str | None:
        """The agent that this task would rather have by now; None where it does not matter any more."""
        wish = head.preference
        if wish is None or not self.heeded:
            return None
        return wish.agent if 1_000 * (now_ms - wish.for_ms) <= self.ready_us(head) else None

    def ready_us(self, head: Head) -> float:
        """When a task became ready, by its place in line."""
        return head.order_us - self._order.delay_us(head.priority, round(1_000 * head.estimate_s))
