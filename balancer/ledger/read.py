"""What all plain reads share. Those of tasks stand in read_tasks.py, those of agents and queues in
read_fleet.py: no script, no decision, every list bounded.
"""

from __future__ import annotations

from balancer.ledger.exchange import Exchange, exchange
from balancer.ledger.pool import PoolRef

#: Largest page of any list.
MOST = 1_000


@exchange
def now_s(pool: PoolRef) -> Exchange[float]:
    """The pool's time: Redis', or the virtual clock's."""
    if pool.clock:
        return pool.clock() / 1e6
    ((seconds, micros),) = yield [("TIME",)]
    return float(seconds) + float(micros) / 1e6


def roles(pool: PoolRef) -> Exchange[list[str]]:
    """The roles that the pool has had a task or an agent of, by name."""
    (names,) = yield [("SMEMBERS", pool.keys.roles)]
    return sorted(names)
