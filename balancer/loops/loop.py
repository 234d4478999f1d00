"""What all loops share: repeat, back off when Redis is away, never die of it, say when the last
pass succeeded.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod

import structlog
from redis.exceptions import RedisError

from balancer.core.errors import BalancerError, Misconfigured, SafeStop, SchemaMismatch
from balancer.ledger.pool import Pool
from balancer.protocol.causes import Reaction, backoff_s, cause

log = structlog.get_logger("balancer")


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
        self._failures, self._said = 0, ""
        #: Whether the last pass failed for the settings of the pool, such as a strategy that is not here.
        self.is_misconfigured = False

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
        self.is_misconfigured = False
        if self._failures:
            log.info("loop_recovered", loop=self.name, failed_passes=self._failures)
            self._failures, self._said = 0, ""

    def _failed(self, error: Exception, stop: threading.Event) -> None:
        self._failures += 1
        self.is_misconfigured = isinstance(error, Misconfigured)
        code, reaction, is_alarm = _judged(error)
        if reaction is Reaction.BROKEN:
            self._refused = True
        # An outage goes through several kinds of errors; only what does not pass by itself is news then.
        if self._failures == 1 or (is_alarm and code != self._said):
            self._said = code
            (log.critical if is_alarm else log.warning)(
                "loop_failed",
                loop=self.name,
                error=type(error).__name__,
                code=code,
                text=str(error)[:200],
            )
        stop.wait(backoff_s(self._failures, reaction))


def _judged(error: Exception) -> tuple[str, Reaction, bool]:
    """Code, reaction, and whether somebody has to look at it."""
    if isinstance(error, RedisError):
        found = cause(error)
        return found.code, found.reaction, found.is_alarm
    if isinstance(error, SafeStop | SchemaMismatch):
        return error.code, Reaction.BROKEN, isinstance(error, SafeStop)
    return type(error).__name__, Reaction.OWN, False
