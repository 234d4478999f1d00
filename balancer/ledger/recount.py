"""Counting one agent's leases again: the typed twin of recount.lua."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("recount")


class Outcome(StrEnum):
    """What the count found."""

    EXACT = "exact"
    MENDED = "mended"
    UNKNOWN = "unknown"


class Recounted(NamedTuple):
    """Units and leases before and after."""

    outcome: Outcome
    used_before: int
    used: int
    n_before: int
    n: int


def recount(pool: Pool, agent_id: str) -> Recounted:
    """Set an agent's counters to the sum of its open leases. A difference is a bug somewhere: it is
    told, never hidden.
    """
    outcome, *numbers = pool.run(SCRIPT, [agent_id])
    return Recounted(Outcome(outcome), *(int(number) for number in numbers))
