"""Finding the pool, and going on asking while Redis cannot answer."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from balancer.inputs import check_ids
from balancer.ledger.exchange import Asks, Call, Exchange, Round
from balancer.ledger.pool import PoolRef, opening
from balancer.protocol import place
from balancer.protocol.causes import UnreplicatedError
from balancer.retry import Patience

#: How long a call goes on trying while Redis cannot answer, seconds.
DEADLINE_S = 10.0
#: How long one sending waits for replicas, milliseconds; well below the deadline of a call.
WAIT_MS = 1_000


class Place(NamedTuple):
    """Where a pool is."""

    url: str
    pool: str


def address(redis_url: str | None, pool: str | None) -> Place:
    """What the caller says, else the environment, else the defaults.

    Raises:
        InvalidInput: the pool's name is none.
        Misconfigured: the environment is asked, and says nothing or two things.
    """
    name = place.pool_name(pool)
    check_ids([name], "pool")
    return Place(place.redis_url(redis_url), name)


def opened(name: str, in_cluster: bool) -> Exchange[PoolRef]:
    """The pool of this name.

    Raises:
        PoolMissing: no balancer has ever served this pool.
        SchemaMismatch: it needs a newer version.
    """
    return (yield from opening(name, in_cluster))


class PatientRound(Round):
    """A round trip that is sent again while Redis cannot answer.

    Args:
        asks: what is asked.
        deadline_s: how long to try.
        wait_replicas: what runs a script counts as answered when so many have what it wrote. They are
            asked in the same round trip, because WAIT is about its own connection. Sent again after a
            script that has nothing more to write, it waits for what was written before.
    """

    __slots__ = ("_began_at", "_deadline_s", "_patience", "_replicas")

    def __init__(self, asks: Asks, deadline_s: float, wait_replicas: int = 0) -> None:
        self._deadline_s, self._began_at, self._replicas = deadline_s, time.monotonic(), 0
        self._patience: Patience | None = None
        if wait_replicas and any(isinstance(ask, Call) for ask in asks):
            self._replicas = wait_replicas
            asks = [*asks, ("WAIT", wait_replicas, WAIT_MS)]
        super().__init__(asks)

    def heard(self, replies: list[Any]) -> float | None:
        """Judge the replies.

        Raises:
            Unavailable: no answer within the deadline. Whether the last sending took effect is unknown.
            Others: as `Patience.after`.
        """
        try:
            delay_s = super().heard(replies)
            if delay_s is None and self._replicas:
                self._replicated(*self.answers)
        except RedisError as error:
            self._patience = self._patience or Patience(self._deadline_s, self._began_at)
            delay_s = self._patience.after(error)
            self._forget()
        return delay_s

    def _replicated(self, *answers: Any) -> None:
        *self.answers, reached = answers
        if reached < self._replicas:
            raise UnreplicatedError(f"{reached} of {self._replicas} replicas have it")
