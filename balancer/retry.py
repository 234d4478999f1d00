"""Sending an idempotent call again until it is answered or the deadline has passed. The only retry
there is.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from redis.exceptions import RedisError

from balancer.core.errors import (
    BalancerError,
    Denied,
    Misconfigured,
    RedisFull,
    SafeStop,
    Unavailable,
    Unconfirmed,
    UnexpectedReply,
)
from balancer.protocol.causes import Reaction, cause, is_unsent

T = TypeVar("T")

#: Reactions that no waiting changes, as what a producer is told.
_FINAL: dict[Reaction, tuple[type[BalancerError], str]] = {
    Reaction.FULL: (RedisFull, "Redis is out of memory"),
    Reaction.DENIED: (Denied, "Redis refuses this user"),
    Reaction.SETUP: (Misconfigured, "redis_url"),
    Reaction.BROKEN: (SafeStop, "what Redis holds or answers is not what it should be"),
    Reaction.OWN: (UnexpectedReply, "Redis answered"),
}
#: After these a sending may have taken effect, or may yet be lost.
_UNKNOWN = ("TIMEOUT", "CONNECTION", "UNREPLICATED")


class Patience:
    """How long one call goes on trying while Redis cannot answer, and how it waits in between.

    Args:
        deadline_s: 0 sends once.
        began_at: since when, by time.monotonic(); default: from now.
    """

    def __init__(self, deadline_s: float, began_at: float | None = None) -> None:
        self._deadline_s, self._delay_s = deadline_s, 0.05
        self._until = (time.monotonic() if began_at is None else began_at) + deadline_s
        self._is_unknown = False

    def after(self, error: RedisError) -> float:
        """Seconds to wait before the call is sent again; with back-off and jitter.

        Raises:
            RedisFull, Denied, Misconfigured, SafeStop, UnexpectedReply: trying on would not help, and
            nothing was written. Unavailable: not in time. Unconfirmed: the same, and a sending was
            never answered.
        """
        code, reaction = cause(error)
        self._is_unknown |= code in _UNKNOWN and not is_unsent(error)
        if reaction in _FINAL:
            kind, what = _FINAL[reaction]
            raise kind(f"{what}: {error}") from error
        if time.monotonic() + self._delay_s > self._until:
            kind = Unconfirmed if self._is_unknown else Unavailable
            raise kind(
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
        What Patience.after raises.
    """
    patience = Patience(deadline_s)
    while True:
        try:
            return call()
        except RedisError as error:
            delay_s = patience.after(error)
        time.sleep(delay_s)
