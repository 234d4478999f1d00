"""Finding the pool, and going on asking while Redis cannot answer."""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.exceptions import RedisError

from balancer.inputs import check_ids
from balancer.ledger.exchange import Asks, Exchange, Pause, T, Wire, spoken, wired
from balancer.ledger.pool import PoolRef, opening
from balancer.protocol import place
from balancer.retry import Patience

#: How long a call goes on trying while Redis cannot answer, seconds.
DEADLINE_S = 10.0


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


def patient(exchange: Exchange[T], deadline_s: float) -> Wire[T]:
    """An exchange whose round trips are sent again while Redis cannot answer, each for at most
    deadline_s.

    Raises:
        Unavailable: no answer within the deadline. Whether the last sending took effect is unknown.
    """

    def answer(asks: Asks) -> Wire[list[Any]]:
        patience = Patience(deadline_s)
        while True:
            try:
                return (yield from spoken(asks))
            except RedisError as error:
                delay_s = patience.after(error)
            yield Pause(delay_s)

    return wired(exchange, answer)
