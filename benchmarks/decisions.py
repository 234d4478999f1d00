"""How long one decision takes: from a free unit to the grant, with 10,000 tasks waiting and 100 agents."""

from __future__ import annotations

import time
from collections import deque

from balancer.core.planner import Planner, Proposal
from balancer.core.settings import PoolSettings
from balancer.embedded import EmbeddedRedis
from balancer.ledger import commit
from balancer.ledger.pool import Pool
from balancer.ledger.view import Viewer
from balancer.protocol import connect
from benchmarks import fleet
from benchmarks.report import percentile

AGENTS, WAITING, DECISIONS = 100, 10_000, 1_000


def measure(strategy: str = "fit") -> float:
    """The 99th percentile, milliseconds: view, plan and commit, each time for one unit that came free."""
    with EmbeddedRedis() as server, connect(server.url) as client:
        pool = Pool.create(client, "decisions", PoolSettings(strategy=strategy))
        viewer, planner = Viewer(pool), Planner(pool.settings)
        fleet.join(pool, [fleet.heartbeat(number) for number in range(AGENTS)])
        fleet.fill(pool, WAITING)
        granted = deque(_decide(pool, viewer, planner)[1])
        while more := _decide(pool, viewer, planner)[1]:
            granted += more
        took_ms = []
        for _ in range(DECISIONS):
            fleet.finish(pool, [granted.popleft()])
            fleet.fill(pool, 1)
            took, more = _decide(pool, viewer, planner)
            took_ms.append(took)
            granted += more
        return percentile(took_ms, 0.99)


def _decide(pool: Pool, viewer: Viewer, planner: Planner) -> tuple[float, list[Proposal]]:
    start = time.perf_counter()
    proposals = planner.plan(viewer.view())
    commit.commit(pool, proposals)
    return 1000 * (time.perf_counter() - start), proposals
