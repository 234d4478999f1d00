"""What the progress view shows, read from Redis a few times a second."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from balancer.ledger import read_fleet, read_tasks
from balancer.ledger.pool import Pool
from balancer.ledger.read_fleet import RoleQueue

#: Throughput is taken over this many seconds, and waits over this many of the tasks that completed last.
WINDOW_S, RECENT = 3.0, 50
#: Seconds between two looks at the waits.
WAITS_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The demo at one moment."""

    elapsed_s: float
    queues: tuple[RoleQueue, ...]
    #: Waiting for parents, waiting for the next try, being worked on.
    blocked: int
    failed: int
    leases: int
    accepted: int
    ended: int
    reclaimed: int
    failed_attempts: int
    #: Completions not yet settled, and parents whose children are not told yet.
    unsettled: int
    tasks_per_s: float
    #: Of the tasks that completed lately: median and 95th percentile of the wait, seconds. None: none did.
    wait_s: tuple[float, float] | None

    @property
    def open(self) -> int:
        """Tasks that have not ended, as the pool's collections hold them, and what is still to take effect."""
        pending = sum(row.pending for row in self.queues)
        return pending + self.blocked + self.failed + self.leases + self.unsettled


class Sampler:
    """Takes samples of one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._began_at = time.monotonic()
        self._ends: deque[tuple[float, int]] = deque()
        self._wait_s: tuple[float, float] | None = None
        self._waits_at = 0.0

    def take(self) -> Sample:
        """Look now."""
        keys, now = self._pool.keys, time.monotonic()
        pipe = self._pool.client.pipeline(transaction=False)
        for key in (
            keys.blocked,
            keys.failed,
            keys.leases,
            keys.completed,
            keys.dead,
            keys.cancelled,
        ):
            pipe.zcard(key)
        pipe.zcard(keys.release)
        pipe.xlen(keys.completions)
        pipe.hgetall(keys.pool)
        blocked, failed, leases, *ended, release, unsettled, counters = pipe.execute()
        if now - self._waits_at >= WAITS_EVERY_S:
            self._waits_at, self._wait_s = now, self._recent_waits()
        return Sample(
            elapsed_s=now - self._began_at,
            queues=tuple(read_fleet.queues(self._pool)),
            blocked=blocked,
            failed=failed,
            leases=leases,
            accepted=int(counters.get("accepted", 0)),
            ended=sum(ended),
            reclaimed=int(counters.get("reclaimed", 0)),
            failed_attempts=int(counters.get("failed_attempts", 0)),
            unsettled=unsettled + release,
            tasks_per_s=self._throughput(now, sum(ended)),
            wait_s=self._wait_s,
        )

    def _throughput(self, now: float, ended: int) -> float:
        self._ends.append((now, ended))
        while now - self._ends[0][0] > WINDOW_S:
            self._ends.popleft()
        (first_at, first), (last_at, last) = self._ends[0], self._ends[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else 0.0

    def _recent_waits(self) -> tuple[float, float] | None:
        ids = self._pool.client.zrevrange(self._pool.keys.completed, 0, RECENT - 1)
        waits = [
            status.granted_at - status.ready_at
            for status in (read_tasks.task_statuses(self._pool, ids) if ids else [])
            if status and status.granted_at is not None
        ]
        return (percentile(waits, 50), percentile(waits, 95)) if waits else None


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` % of all do not exceed; 0 when there are none."""
    if not values:
        return 0.0
    rank = max(1, -(-len(values) * percent // 100))
    return sorted(values)[int(rank) - 1]
