"""Waiting for what another process or thread does. The one place of the tests that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable

_FIRST_INTERVAL_S, _LONGEST_INTERVAL_S = 0.001, 0.05


def wait_until(predicate: Callable[[], object], description: str, timeout_s: float = 10.0) -> None:
    """Return as soon as `predicate()` is true; fail with `description` if that takes too long."""
    deadline = time.monotonic() + timeout_s
    interval_s = _FIRST_INTERVAL_S
    while not predicate():
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain until {description}")
        time.sleep(interval_s)
        interval_s = min(2 * interval_s, _LONGEST_INTERVAL_S)
