"""Asking why a task is where it is."""

from __future__ import annotations

from balancer.core.explain.answer import Why
from balancer.exchanges.watching import missing
from balancer.inputs import check_ids
from balancer.ledger import read_why
from balancer.ledger.exchange import Exchange
from balancer.ledger.pool import PoolRef


def why(pool: PoolRef, task_id: str) -> Exchange[Why]:
    """Why a task is where it is, or NotFound."""
    check_ids([task_id])
    found = yield from read_why.why.steps(pool, task_id)
    if found is None:
        raise missing(pool, task_id)
    return found
