"""Another priority for waiting tasks: the typed twin of reprioritise.lua."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from balancer.core.model import Priority
from balancer.ledger.exchange import Exchange, exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.script import Script

SCRIPT = Script("reprioritise")
#: Tasks a call.
CAP = 200


class Outcome(StrEnum):
    """What became of one task to move. `already`: it has this priority."""

    MOVED = "moved"
    ALREADY = "already"
    ASSIGNED = "assigned"
    FINISHED = "finished"
    UNKNOWN = "unknown"


class Moved(NamedTuple):
    """The answer for one task, with the state it is in."""

    outcome: Outcome
    state: str


@exchange
def reprioritise(
    pool: PoolRef, task_ids: Sequence[str], priority: Priority
) -> Exchange[list[Moved]]:
    """Give waiting tasks another priority, and the place in the queue that goes with it, in one
    atomic call. At most CAP.
    """
    if not task_ids:
        return []
    delay_us = pool.delay_us[priority]
    [reply] = yield [pool.call(SCRIPT, [priority.value, delay_us, *task_ids])]
    return [Moved(Outcome(reply[2 * i]), reply[2 * i + 1]) for i in range(len(task_ids))]
