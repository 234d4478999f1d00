"""Reading open leases: who holds what, as Redis has it now."""

from __future__ import annotations

from typing import NamedTuple

from balancer.ledger.exchange import Exchange, exchange
from balancer.ledger.pool import PoolRef


class OpenLease(NamedTuple):
    """One task on one agent. `entry`: its place in the agent's inbox, in the order of the grants."""

    task: str
    agent: str
    attempt: int
    nonce: str
    entry: str


@exchange
def leases_of(pool: PoolRef, agent_id: str) -> Exchange[list[OpenLease]]:
    """The open leases of an agent, oldest first; at most 1,000, the most that one may hold."""
    (held,) = yield [("HGETALL", pool.keys.held(agent_id))]
    found = []
    for nonce, record in held.items():
        task, _, attempt, entry, *_ = record.split(" ")
        found.append(OpenLease(task, agent_id, int(attempt), nonce, entry))
    return sorted(found, key=lambda lease: tuple(map(int, lease.entry.split("-"))))
