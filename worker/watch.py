"""What time alone demands: run timeouts, and the fence: nothing runs once the balancer may give it to others."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from worker.leases import Leases
from worker.logs import say

#: Longest wait without anything running, seconds.
IDLE_S = 60.0
#: How long before the TTL is over everything must have been told to stop, seconds; a quarter of a short TTL.
MARGIN_S = 2.0


def margin_s(ttl_s: float) -> float:
    """Seconds between the fence and the end of the TTL."""
    return min(MARGIN_S, ttl_s / 4)


class Watch:
    """`step()` ends what ran too long. A call to Redis that hangs does not hold it up: it makes none."""

    def __init__(
        self,
        leases: Leases,
        *,
        grace_s: float,
        on_over: Callable[[], None],
        on_fenced: Callable[[int], None],
        log: Any,
    ) -> None:
        """See the arguments.

        Args:
            leases: what is held.
            grace_s: how long what was fenced may take to stop.
            on_over: called when completions are due, or when something was fenced.
            on_fenced: called with the number of tries that did not stop in time. The process has to end.
            log: structlog logger.
        """
        self._leases = leases
        self._grace_s = grace_s
        self._on_over = on_over
        self._on_fenced = on_fenced
        self._log = log
        self._die_at_s: float | None = None

    def step(self) -> float:
        """Look once; returns how long nothing can become due."""
        now_s = time.monotonic()
        over = self._leases.overdue(now_s)
        for lease in over:
            say(lease.context.log.warning, "task_timed_out", timeout_ms=lease.task.timeout_ms)
        if over:
            self._on_over()
        self.fence(now_s)
        if not (self._leases.is_fenced and (stubborn := self._leases.stubborn())):
            self._die_at_s = None
            return min(IDLE_S, max(0.0, self._leases.next_deadline_s() - now_s))
        if self._die_at_s is None:
            self._die_at_s = now_s + self._grace_s
        if now_s >= self._die_at_s:
            self._on_fenced(stubborn)
            return IDLE_S
        return self._die_at_s - now_s

    def fence(self, now_s: float) -> bool:
        """Give everything up if no heartbeat was accepted for too long. Whether it did. Any thread may call it."""
        given_up = self._leases.fence(now_s)
        if not given_up:
            return False
        say(self._log.error, "leases_fenced", given_up=len(given_up))
        self._on_over()
        return True
