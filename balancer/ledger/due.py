"""Putting due retries back into the queue: the typed twin of due.lua."""

from __future__ import annotations

from typing import NamedTuple

from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("due")


class Due(NamedTuple):
    """How many tasks became pending, and whether more are due."""

    moved: int
    more: bool


def due(pool: Pool) -> Due:
    """Move at most 100 failed tasks whose retry time has come."""
    moved, more = pool.run(SCRIPT)
    return Due(int(moved), bool(more))
