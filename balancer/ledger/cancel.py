"""Cancelling tasks: the typed twin of cancel.lua."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from balancer.ledger.exchange import Exchange, exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.script import Script

SCRIPT = Script("cancel")
#: Tasks a call.
CAP = 200


class Outcome(StrEnum):
    """What became of one task to cancel. `cancel_sent`: an agent holds it and is asked to stop; the
    task is cancelled once the agent has reported, or is lost.
    """

    CANCELLED = "cancelled"
    CANCEL_SENT = "cancel_sent"
    ALREADY = "already"
    FINISHED = "finished"
    UNKNOWN = "unknown"


class Cancelled(NamedTuple):
    """The answer for one task, with the state it was in."""

    outcome: Outcome
    state: str


@exchange
def cancel(
    pool: PoolRef, task_ids: Sequence[str], reason: str = "cancelled"
) -> Exchange[list[Cancelled]]:
    """Cancel tasks that have not ended, in one atomic call. At most CAP."""
    if not task_ids:
        return []
    (reply,) = yield [pool.call(SCRIPT, [reason[:200], *task_ids])]
    return [Cancelled(Outcome(reply[2 * i]), reply[2 * i + 1]) for i in range(len(task_ids))]
