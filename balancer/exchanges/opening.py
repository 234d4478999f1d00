"""Finding the pool, and going on asking while Redis cannot answer."""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.exceptions import RedisError

from balancer.inputs import check_ids
from balancer.ledger.exchange import Asks, Call, Exchange, Pause, T, Wire, spoken, wired
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


def patient(exchange: Exchange[T], deadline_s: float, wait_replicas: int = 0) -> Wire[T]:
    """An exchange whose round trips are sent again while Redis cannot answer, each for at most
    deadline_s. What runs a script counts as answered when so many replicas have what it wrote.

    Raises:
        Unavailable: no answer within the deadline. Whether the last sending took effect is unknown.
    """

    def answer(asks: Asks) -> Wire[list[Any]]:
        patience = Patience(deadline_s)
        while True:
            try:
                if wait_replicas and any(isinstance(ask, Call) for ask in asks):
                    return (yield from _replicated(asks, wait_replicas))
                return (yield from spoken(asks))
            except RedisError as error:
                delay_s = patience.after(error)
            yield Pause(delay_s)

    return wired(exchange, answer)


def _replicated(asks: Asks, wait_replicas: int) -> Wire[list[Any]]:
    """In the same round trip, because WAIT is about its own connection. Sent again after a script that
    has nothing more to write, it waits for what was written before.
    """
    *replies, reached = yield from spoken([*asks, ("WAIT", wait_replicas, WAIT_MS)])
    if reached < wait_replicas:
        raise UnreplicatedError(f"{reached} of {wait_replicas} replicas have it")
    return replies
