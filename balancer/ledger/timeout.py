"""Ending tries that run too long: the typed twin of timeout.lua."""

from __future__ import annotations

from typing import NamedTuple

from balancer.ledger.backoff import backoff_args
from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("timeout")
#: How long after its run timeout a try is given to report the timeout itself, milliseconds.
GRACE_MS = 5_000


class TimedOut(NamedTuple):
    """How many tries ran too long: to be tried again, dead, of tasks that were being cancelled; and
    whether more are due.
    """

    retry: int
    dead: int
    cancelled: int
    more: bool


def timeout(pool: Pool, grace_ms: int = GRACE_MS, *, draw: int | None = None) -> TimedOut:
    """Fail at most 50 tries that ran past their run timeout. `draw`: as in settle."""
    args = [*backoff_args(pool.settings, draw), grace_ms, int(pool.settings.learning)]
    retry, dead, cancelled, more = pool.run(SCRIPT, args)
    return TimedOut(int(retry), int(dead), int(cancelled), bool(more))
