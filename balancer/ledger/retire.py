"""Taking back, uncounted, what a retiring agent holds: the typed twin of retire.lua."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("retire")


class Outcome(StrEnum):
    """What was found about an agent."""

    RETIRED = "retired"
    NOT_DUE = "not_due"
    UNKNOWN = "unknown"


class Retired(NamedTuple):
    """The verdict, how many tasks went back to their places in the queue, and whether leases are left."""

    outcome: Outcome
    requeued: int
    more: bool


def retire(pool: Pool, agent_id: str) -> Retired:
    """Let an agent go whose deadline has come, or that stopped on its way out. At most 150 leases a
    call.

    Safe to call at any time: the script judges for itself.
    """
    outcome, requeued, more = pool.run(SCRIPT, [agent_id])
    return Retired(Outcome(outcome), int(requeued), bool(more))
