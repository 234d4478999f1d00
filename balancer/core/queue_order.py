"""What orders the tasks that wait: one number a task, that the scripts work out when a task becomes ready.

The number is the task's ready time in microseconds plus the delay that it can afford. Ageing is built
in: nothing is scored anew as time passes. waiting.lua has the twin of `delay_us`.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from balancer.core.model import Priority

if TYPE_CHECKING:
    from balancer.core.settings import PoolSettings

#: Longest delay that effort and weight can amount to: 10 years.
MOST_DELAY_US = 315_360_000_000_000
#: With strict priority each priority lies so far before the next lower one: 71 years.
STRICT_US = 2**51
#: How many lower priorities a priority goes before, whatever they are worth, where priority is strict.
RANKS = {Priority.CRITICAL: 3, Priority.HIGH: 2, Priority.MEDIUM: 1, Priority.LOW: 0}


class Queue(StrEnum):
    """By what a strategy wants its tasks ordered."""

    HEAD_START = "head_start"  # ready time less the head start of the priority
    EFFORT = "effort"  # ready time plus expected effort / (weight of the priority x ageing)


class QueueOrder(NamedTuple):
    """How a pool orders its tasks. `each` has a number a priority, most urgent first: by head start
    the microseconds of it; by effort what the effort is divided by.
    """

    queue: Queue
    strict: bool
    each: tuple[float, ...]

    @classmethod
    def of(cls, settings: PoolSettings, queue: Queue) -> QueueOrder:
        """What the settings say about this queue."""
        if queue is Queue.EFFORT:
            weights = [settings.priority_weight.of(priority) for priority in RANKS]
            each = tuple(weight * settings.ageing for weight in weights)
        else:
            each = tuple(
                round(settings.head_start_s.of(priority) * 1_000_000) for priority in RANKS
            )
        return cls(queue, settings.strict_priority, each)

    def packed(self) -> str:
        """As the pool keeps it: queue|strict (0, 1)|critical|high|medium|low. No digit is lost."""
        return "|".join([self.queue, str(int(self.strict)), *map(repr, self.each)])

    def delay_us(self, priority: Priority, estimate_ms: int) -> int:
        """What is added to the ready time. An estimate in milliseconds of work at normal speed."""
        rank = RANKS[priority]
        each = self.each[3 - rank]
        delay = -each
        if self.queue is Queue.EFFORT:
            delay = min(MOST_DELAY_US, math.floor(1000 * estimate_ms / each))
        return int(delay) - (STRICT_US * rank if self.strict else 0)
