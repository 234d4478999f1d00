"""Judging silence and taking work back: the typed twin of reclaim.lua."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("reclaim")


class Outcome(StrEnum):
    """What was found about an agent."""

    LOST = "lost"
    GONE = "gone"
    REBOOTED = "rebooted"
    ALIVE = "alive"
    IN_GRACE = "in_grace"
    MUST_RETIRE = "must_retire"
    UNKNOWN = "unknown"


class Reclaimed(NamedTuple):
    """The verdict, how many tasks went back into the queue, how many ended (lost too often, or being
    cancelled), and whether leases are left.
    """

    outcome: Outcome
    requeued: int
    ended: int
    more: bool


def reclaim(pool: Pool, agent_id: str) -> Reclaimed:
    """Take back what an agent can no longer answer for: all when it is lost or stopped, an earlier
    boot's leases otherwise.

    Safe to call at any time: the script judges for itself. At most 150 leases a call. An agent that
    must retire is left to `retire`, which counts nothing against its tasks.
    """
    outcome, requeued, ended, more = pool.run(SCRIPT, [agent_id, pool.settings.max_losses])
    return Reclaimed(Outcome(outcome), int(requeued), int(ended), bool(more))
