"""How every process connects. The client's own defaults re-send writes and cut long blocking reads;
these do neither.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

#: A client made by connect(). It answers text; its own annotations know only text-or-bytes, so they
#: are not used.
TextRedis: TypeAlias = Any

#: Deadline of an ordinary call, seconds.
CALL_TIMEOUT_S = 5.0
#: What a blocking read may take beyond its own block time, seconds.
BLOCK_MARGIN_S = 5.0


def connect(url: str, *, block_s: float = 0.0, max_connections: int = 64) -> TextRedis:
    """A client for one Redis (redis://, rediss://, unix://).

    Nothing is retried below the caller: a reply that was cut leaves the outcome unknown, and only
    the caller knows whether sending again is safe.

    Args:
        url: where Redis is.
        block_s: longest blocking read that this client will make; give blocking loops a client of
        their own.
        max_connections: most sockets open at once; one more raises a connection error.

    Raises:
        ValueError: the address is not a Redis URL.
    """
    return redis.Redis.from_url(url, max_connections=max_connections, **_options(url, block_s))


def connect_async(url: str, *, block_s: float = 0.0, max_connections: int = 64) -> TextRedis:
    """The same for asyncio. It belongs to the event loop that first uses it."""
    # Loaded for those who use it: it takes as long as the rest of the client.
    from redis import asyncio as aio
    from redis.asyncio.retry import Retry as AsyncRetry

    options = _options(url, block_s) | {"retry": AsyncRetry(NoBackoff(), 0)}
    return aio.Redis.from_url(url, max_connections=max_connections, **options)


def _options(url: str, block_s: float) -> dict[str, Any]:
    # A unix socket has no keepalive to set, and the client refuses the word.
    tcp = (
        {}
        if url.startswith("unix:")
        else {"socket_keepalive": True, "socket_connect_timeout": CALL_TIMEOUT_S}
    )
    return {
        "decode_responses": True,
        "encoding_errors": "replace",  # what an agent wrote may be no text: to be set aside, not to raise
        "protocol": 3,
        "legacy_responses": False,
        "socket_timeout": block_s + BLOCK_MARGIN_S if block_s else CALL_TIMEOUT_S,
        "health_check_interval": 30,
        "retry": Retry(NoBackoff(), 0),
        "client_name": "workload-balancer",
        **tcp,
    }
