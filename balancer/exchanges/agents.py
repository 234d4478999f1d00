"""What an operator says about agents."""

from __future__ import annotations

from balancer.core.errors import Conflict, InvalidInput, NotFound
from balancer.inputs import check_ids, check_seconds
from balancer.ledger.agent_set import MOST_DEADLINE_S, Outcome, Verb, agent_set
from balancer.ledger.exchange import Exchange
from balancer.ledger.pool import PoolRef


def pause(pool: PoolRef, agent_id: str) -> Exchange[int]:
    """It keeps what it holds and gets nothing new; how many leases it holds."""
    return (yield from _say(pool, agent_id, Verb.PAUSE, 0.0))


def resume(pool: PoolRef, agent_id: str) -> Exchange[int]:
    """It may be given work again; how many leases it holds."""
    return (yield from _say(pool, agent_id, Verb.RESUME, 0.0))


def retire(pool: PoolRef, agent_id: str, deadline_s: float) -> Exchange[int]:
    """It gets nothing new and is gone at the deadline; how many leases it holds."""
    check_seconds("deadline_s", deadline_s)
    if not 0 <= deadline_s <= MOST_DEADLINE_S:
        raise InvalidInput(f"deadline_s: {deadline_s!r:.80} is not from 0 to {MOST_DEADLINE_S}")
    return (yield from _say(pool, agent_id, Verb.RETIRE, deadline_s))


def _say(pool: PoolRef, agent_id: str, verb: Verb, deadline_s: float) -> Exchange[int]:
    check_ids([agent_id], "agent id")
    outcome, held = yield from agent_set.steps(pool, agent_id, verb, deadline_s)
    if outcome is Outcome.UNKNOWN:
        raise NotFound(f"agent {agent_id!r}: there is no such agent in pool {pool.name!r}")
    if outcome is Outcome.REFUSED:
        raise Conflict(f"agent {agent_id!r} is retiring; `resume` takes that back")
    return held
