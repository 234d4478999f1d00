"""Sending an idempotent call again until it is answered or the deadline has passed. The only retry
there is.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    MaxConnectionsError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from balancer.core.errors import Unavailable

T = TypeVar("T")

_AGAIN = (
    ConnectionError,
    TimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    TryAgainError,
    OutOfMemoryError,
)
_AGAIN_WORDS = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "UNBLOCKED")


def answered(call: Callable[[], T], deadline_s: float) -> T:
    """The answer of `call`, sent again with back-off and jitter while Redis cannot answer.

    Args:
        call: safe to repeat; every script of the ledger is.
        deadline_s: how long to try; 0 sends once.

    Raises:
        Unavailable: no answer within the deadline. Whether the last sending took effect is unknown.
    """
    until, delay_s = time.monotonic() + deadline_s, 0.05
    while True:
        try:
            return call()
        except RedisError as error:
            if not _may_help(error) or time.monotonic() + delay_s > until:
                raise Unavailable(
                    f"no answer from Redis within {deadline_s:g} s: {type(error).__name__}: {error}"
                ) from error
            time.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(1.0, delay_s * 2)


def _may_help(error: RedisError) -> bool:
    if isinstance(error, AuthenticationError | MaxConnectionsError):
        return False
    return isinstance(error, _AGAIN) or (
        isinstance(error, ResponseError) and str(error).startswith(_AGAIN_WORDS)
    )
