"""Telling children that a parent ended: the typed twin of release.lua."""

from __future__ import annotations

from typing import NamedTuple

from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("release")


class Released(NamedTuple):
    """How many children became ready, how many died of their parent or were cancelled for it, and
    whether work is left.
    """

    ready: int
    dead: int
    skipped: int
    more: bool


def release(pool: Pool) -> Released:
    """Work off at most 200 children of finished parents."""
    ready, dead, skipped, more = pool.run(SCRIPT)
    return Released(int(ready), int(dead), int(skipped), bool(more))
