"""Forgetting finished tasks: the typed twin of gc.lua."""

from __future__ import annotations

from typing import NamedTuple

from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("gc")
#: Tasks a call.
CAP = 200


class Forgotten(NamedTuple):
    """How many tasks were forgotten, and whether more are due."""

    tasks: int
    more: bool


def gc(pool: Pool) -> Forgotten:
    """Forget at most CAP finished tasks that are older than the pool's retention_s, or beyond its
    retention_count: all that is stored of them, and their dedup keys.
    """
    settings = pool.settings
    retention_us = round(settings.retention_s * 1_000_000)
    tasks, more = pool.run(SCRIPT, [retention_us, settings.retention_count])
    return Forgotten(int(tasks), bool(more))
