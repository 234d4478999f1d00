"""A new life for dead tasks: the typed twin of retry.lua."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from balancer.ledger.exchange import Exchange, exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.script import Script

SCRIPT = Script("retry")
#: Tasks a call.
CAP = 200


class Outcome(StrEnum):
    """What became of one task to retry. `already`: it waits or runs. `dead_parent`: a parent of it is dead,
    cancelled or forgotten, and must be retried first. `too_many_children`: as many wait for one of its parents
    as may.
    """

    RETRIED = "retried"
    ALREADY = "already"
    FINISHED = "finished"
    UNKNOWN = "unknown"
    DEAD_PARENT = "dead_parent"
    TOO_MANY_CHILDREN = "too_many_children"


class Retried(NamedTuple):
    """The answer for one task, with the state it was in."""

    outcome: Outcome
    state: str


@exchange
def retry(pool: PoolRef, task_ids: Sequence[str]) -> Exchange[list[Retried]]:
    """Give dead tasks a new life, in one atomic call. At most CAP."""
    if not task_ids:
        return []
    [reply] = yield [pool.call(SCRIPT, list(task_ids))]
    return [Retried(Outcome(reply[2 * i]), reply[2 * i + 1]) for i in range(len(task_ids))]
