"""What the threads of an agent share: repeat a step, back off when Redis is away, live on, say each change once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from balancer.protocol import backoff_s, cause
from worker.logs import say

#: How long to wait after a step that broke by a fault of ours, seconds.
BROKEN_S = 5.0


class Loop:
    """Runs `step()` in a daemon thread of its own; `step` returns the seconds to wait before the next, 0 for none."""

    def __init__(
        self, name: str, step: Callable[[], float], log: Any, at_end: Callable[[], object] = bool
    ) -> None:
        """`at_end` is called in the thread when it ends: a client is not closed under a thread that reads from it."""
        self._name = name
        self._step = step
        self._at_end = at_end
        self._log = log
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._failures, self._said = 0, ""
        self._thread = threading.Thread(target=self.run, name=f"agent-{name}", daemon=True)

    def start(self) -> None:
        """Begin, once."""
        self._thread.start()

    def wake(self) -> None:
        """Make the next step come now. A wake during a step is not lost."""
        self._wake.set()

    def stop(self) -> None:
        """Ask it to end after the step it is in. Never blocks."""
        self._stopping.set()
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Whether the thread ended within the time."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def run(self) -> None:
        """Step after step until `stop()`."""
        while not self._stopping.is_set():
            self._wake.clear()
            delay_s = self._once()
            if delay_s > 0:
                self._wake.wait(delay_s)
        with suppress(redis.RedisError, OSError):
            self._at_end()

    def _once(self) -> float:
        try:
            delay_s = self._step()
        except redis.RedisError as error:
            return self._failed(error)
        except Exception:
            # A bug here must not end the thread: a mute agent loses its leases and nobody reads why.
            say(self._log.exception, f"{self._name}_broke")
            return BROKEN_S
        if self._failures:
            say(self._log.info, f"{self._name}_recovered", failures=self._failures)
            self._failures, self._said = 0, ""
        return delay_s

    def _failed(self, error: redis.RedisError) -> float:
        if self._stopping.is_set():
            return 0.0
        self._failures += 1
        found = cause(error)
        # An outage goes through several kinds of errors; only what does not pass by itself is news then.
        if self._failures == 1 or (found.is_alarm and found.code != self._said):
            self._said = found.code
            reason = f"{type(error).__name__}: {error}"[:200]
            method = self._log.critical if found.is_alarm else self._log.warning
            say(method, f"{self._name}_failed", code=found.code, reason=reason)
        return backoff_s(self._failures, found.reaction)
