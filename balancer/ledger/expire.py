"""Ending tasks that have waited too long: the typed twin of expire.lua."""

from __future__ import annotations

from typing import NamedTuple

from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("expire")


class Expired(NamedTuple):
    """How many waiting tasks are dead now, and whether more are due."""

    expired: int
    more: bool


def expire(pool: Pool) -> Expired:
    """End at most 200 tasks whose time to start has passed."""
    expired, more = pool.run(SCRIPT)
    return Expired(int(expired), bool(more))
