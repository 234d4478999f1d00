"""What all loops share: repeat, back off when Redis is away, never die of it, say when the last
pass succeeded.
"""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod

import structlog
from redis.exceptions import RedisError

from balancer.core.errors import BalancerError, SafeStop, SchemaMismatch
from balancer.ledger.pool import Pool

log = structlog.get_logger("balancer")

#: Back-off after a failed pass, seconds: doubles from the first to the last.
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.1, 5.0


class Loop(ABC):
    """One loop in one thread. Liveness is the age of the last successful pass, not a ping.

    Args:
        pool: the pool that the loop works on.
    """

    name: str

    def __init__(self, pool: Pool | None = None) -> None:
        # Once a script has refused the pool, its identity is looked at before each pass: what lies in
        # the streams of another pool is not ours to read.
        self._pool_of_loop, self._refused = pool, False
        self._last_success = time.monotonic()
        self._failures = 0

    @abstractmethod
    def step(self) -> object:
        """One pass; returns what it did."""

    @abstractmethod
    def wait(self, stop: threading.Event) -> None:
        """Wait for the next reason to look: an event, or the tick that makes up for a lost one."""

    @property
    def silent_s(self) -> float:
        """Seconds since the last pass that succeeded."""
        return time.monotonic() - self._last_success

    def run(self, stop: threading.Event) -> None:
        """Pass after pass until `stop` is set."""
        while not stop.is_set():
            try:
                if self._refused and self._pool_of_loop:
                    self._pool_of_loop.verify()
                    self._refused = False
                self.wait(stop)
                if stop.is_set():
                    return
                self.step()
            except (RedisError, BalancerError) as error:
                self._failed(error, stop)
            except Exception as error:
                # A bug. Dying of it would stop the pool; the log has its place in the code.
                log.exception("loop_broke", loop=self.name)
                self._failed(error, stop)
            else:
                self._succeeded()

    def _succeeded(self) -> None:
        self._last_success = time.monotonic()
        if self._failures:
            log.info("loop_recovered", loop=self.name, failed_passes=self._failures)
            self._failures = 0

    def _failed(self, error: Exception, stop: threading.Event) -> None:
        self._failures += 1
        if isinstance(error, SafeStop | SchemaMismatch):
            self._refused = True
        if self._failures == 1:
            level = log.critical if isinstance(error, SafeStop) else log.warning
            level("loop_failed", loop=self.name, error=type(error).__name__, text=str(error)[:200])
        delay_s = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(self._failures - 1, 10))
        stop.wait(delay_s * random.uniform(0.5, 1.0))
