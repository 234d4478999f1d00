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


class Patience:
    """How long one call goes on trying while Redis cannot answer, and how it waits in between.

    Args:
        deadline_s: from now; 0 sends once.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s, self._delay_s = deadline_s, 0.05
        self._until = time.monotonic() + deadline_s

    def after(self, error: RedisError) -> float:
        """Seconds to wait before the call is sent again; with back-off and jitter.

        Raises:
            Unavailable: trying on would not help, or not in time.
        """
        if not _may_help(error) or time.monotonic() + self._delay_s > self._until:
            raise Unavailable(
                f"no answer from Redis within {self._deadline_s:g} s: {type(error).__name__}: {error}"
            ) from error
        delay_s = self._delay_s * random.uniform(0.5, 1.0)
        self._delay_s = min(1.0, self._delay_s * 2)
        return delay_s


def answered(call: Callable[[], T], deadline_s: float) -> T:
    """The answer of `call`, sent again with back-off and jitter while Redis cannot answer.

    Args:
        call: safe to repeat; every script of the ledger is.
        deadline_s: how long to try; 0 sends once.

    Raises:
        Unavailable: no answer within the deadline. Whether the last sending took effect is unknown.
    """
    patience = Patience(deadline_s)
    while True:
        try:
            return call()
        except RedisError as error:
            delay_s = patience.after(error)
        time.sleep(delay_s)


def _may_help(error: RedisError) -> bool:
    if isinstance(error, AuthenticationError | MaxConnectionsError):
        return False
    return isinstance(error, _AGAIN) or (
        isinstance(error, ResponseError) and str(error).startswith(_AGAIN_WORDS)
    )
