"""Waiting for what another process, thread or coroutine does. The one place of the tests that sleeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

_FIRST_INTERVAL_S, _LONGEST_INTERVAL_S = 0.001, 0.05
#: Long enough for a machine that does ten other things; only what fails takes so long.
PATIENCE_S = 30.0


def wait_until(
    predicate: Callable[[], object], description: str, timeout_s: float = PATIENCE_S
) -> None:
    """Return as soon as `predicate()` is true; fail with `description` if that takes too long."""
    for interval_s in _looks(predicate, description, timeout_s):
        time.sleep(interval_s)


async def async_wait_until(
    predicate: Callable[[], object], description: str, timeout_s: float = PATIENCE_S
) -> None:
    """The same for a coroutine: the others of its event loop go on meanwhile."""
    for interval_s in _looks(predicate, description, timeout_s):
        await asyncio.sleep(interval_s)


def _looks(predicate: Callable[[], object], description: str, timeout_s: float) -> Iterator[float]:
    """How long to sleep before each further look."""
    deadline = time.monotonic() + timeout_s
    interval_s = _FIRST_INTERVAL_S
    while not predicate():
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain until {description}")
        yield interval_s
        interval_s = min(2 * interval_s, _LONGEST_INTERVAL_S)
