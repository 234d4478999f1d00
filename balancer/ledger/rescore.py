"""Giving what waits the place that the settings of today give it: the typed twin of rescore.lua."""

from __future__ import annotations

from typing import NamedTuple

from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("rescore")


class Rescored(NamedTuple):
    """What a page did. `role` is empty when nothing was left to do."""

    role: str
    looked: int
    more: bool


def rescore(pool: Pool) -> Rescored:
    """Score one page of at most 200 waiting tasks again. Any number of replicas may."""
    role, looked, more = pool.run(SCRIPT)
    return Rescored(role, looked, bool(more))
