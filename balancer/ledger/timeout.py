"""Ending tries that run too long: the typed twin of timeout.lua."""

from __future__ import annotations

from typing import NamedTuple

from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("timeout")
#: How long after its run timeout a try is given to report the timeout itself, milliseconds.
GRACE_MS = 5_000


class TimedOut(NamedTuple):
    """How many tries ran too long: to be tried again, dead; and whether more are due."""

    retry: int
    dead: int
    more: bool


def timeout(pool: Pool, grace_ms: int = GRACE_MS) -> TimedOut:
    """Fail at most 100 tries that ran past their run timeout."""
    retry_delay_us = round(pool.settings.retry_delay_s * 1_000_000)
    retry, dead, more = pool.run(SCRIPT, [retry_delay_us, grace_ms])
    return TimedOut(int(retry), int(dead), bool(more))
