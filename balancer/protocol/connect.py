"""How every process connects. The client's own defaults re-send writes and cut long blocking reads;
these do neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from balancer.core.errors import Misconfigured
from balancer.protocol import connections
from balancer.protocol.address import Address, Topology, parse_address
from balancer.protocol.route import ASK_TIMEOUT_S, ClusterRoute, Route, SentinelRoute

#: A client made by connect(). It answers text; its own annotations know only text-or-bytes, so they
#: are not used.
TextRedis: TypeAlias = Any

#: Deadline of an ordinary call, seconds.
CALL_TIMEOUT_S = 5.0
#: What a blocking read may take beyond its own block time, seconds.
BLOCK_MARGIN_S = 5.0
CLIENT_NAME = "workload-balancer"


def connect(
    url: str | Address, *, pool: str = "", block_s: float = 0.0, max_connections: int = 64
) -> TextRedis:
    """A client for the Redis that keeps the pool: of the one server (redis://, rediss://, unix://), of
    the master behind Sentinels, of the node of a Cluster that owns the pool's slot.

    Nothing is retried below the caller: a reply that was cut leaves the outcome unknown, and only
    the caller knows whether sending again is safe. After an error that says that the pool may be
    elsewhere, the next call looks up where.

    Args:
        url: where Redis is; see docs/configuration.md.
        pool: name of the pool; a Cluster is asked for the node that owns it.
        block_s: longest blocking read that this client will make; give blocking loops a client of
        their own.
        max_connections: most sockets open at once; one more raises a connection error.

    Raises:
        Misconfigured: the address breaks a rule, or names a Cluster and no pool is given.
    """
    address = _parsed(url)
    options = _options(address, pool, block_s) | {"retry": Retry(NoBackoff(), 0)}
    kind = _kind(address, connections)
    return redis.Redis.from_pool(
        redis.ConnectionPool(connection_class=kind, max_connections=max_connections, **options)
    )


def connect_async(
    url: str | Address, *, pool: str = "", block_s: float = 0.0, max_connections: int = 64
) -> TextRedis:
    """The same for asyncio. It belongs to the event loop that first uses it; a call that finds all
    connections in use waits for one.
    """
    # Loaded for those who use it: it takes as long as the rest of the client.
    from redis import asyncio as aio
    from redis.asyncio.retry import Retry as AsyncRetry

    from balancer.protocol import connections_async

    address = _parsed(url)
    options = _options(address, pool, block_s) | {"retry": AsyncRetry(NoBackoff(), 0)}
    kind: Any = _kind(address, connections_async)
    return aio.Redis.from_pool(
        aio.BlockingConnectionPool(
            connection_class=kind,
            max_connections=max_connections,
            timeout=round(CALL_TIMEOUT_S),
            **options,
        )
    )


def execute(client: TextRedis, command: Sequence[str | int]) -> Any:
    """The reply to one command. What `client.execute_command` does for a client of connect(), without what
    it prepares for retries, which there are none of, and for its telemetry: they cost as much as sending.

    Raises:
        redis.RedisError: as the connection raised it; one that may not be used again has closed itself.
    """
    connections = client.connection_pool
    connection = connections.get_connection()
    try:
        connection.send_command(*command)
        return client.parse_response(connection, command[0])
    finally:
        connections.release(connection)


def is_cluster(client: TextRedis) -> bool:
    """Whether a client of connect() or connect_async() speaks to a Cluster."""
    return isinstance(client.connection_pool.connection_kwargs.get("route"), ClusterRoute)


def _parsed(url: str | Address) -> Address:
    return url if isinstance(url, Address) else parse_address(url)


def _kind(address: Address, module: Any) -> Any:
    """The class of connection, of one of the two modules."""
    if address.topology is Topology.UNIX:
        return module.AloneUnixConnection
    if address.topology is Topology.ONE:
        return module.AloneConnection if address.tls is None else module.AloneSSLConnection
    return module.RoutedConnection if address.tls is None else module.RoutedSSLConnection


def _options(address: Address, pool: str, block_s: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "db": address.db,
        "username": address.username,
        "password": address.password,
        "decode_responses": True,
        "encoding_errors": "replace",  # what an agent wrote may be no text: to be set aside, not to raise
        "protocol": 3,
        "legacy_responses": False,
        "socket_timeout": block_s + BLOCK_MARGIN_S if block_s else CALL_TIMEOUT_S,
        "socket_connect_timeout": CALL_TIMEOUT_S,
        "health_check_interval": 30,
        "client_name": CLIENT_NAME,
        # Neither is worth a right of its own, nor a round trip whenever a connection is made.
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if address.topology is Topology.UNIX:
        return options | {"path": address.path}
    options |= dict(address.tls or {}) | {"socket_keepalive": True}
    if address.topology is Topology.ONE:
        return options | {"host": address.nodes[0].host, "port": address.nodes[0].port}
    return options | {"route": _route(address, pool)}


def _route(address: Address, pool: str) -> Route:
    if address.topology is Topology.SENTINEL:
        return SentinelRoute(address, _ask_options(address))
    if not pool:
        raise Misconfigured("redis_url: on a Cluster the name of a pool has to be given, too")
    return ClusterRoute(address, _ask_options(address), pool)


def _ask_options(address: Address) -> dict[str, Any]:
    """Of the short connections that ask where the pool is."""
    is_sentinel = address.topology is Topology.SENTINEL
    return dict(address.tls or {}) | {
        "username": address.sentinel_username if is_sentinel else address.username,
        "password": address.sentinel_password if is_sentinel else address.password,
        "decode_responses": True,
        "protocol": 2,
        "legacy_responses": False,
        "socket_timeout": ASK_TIMEOUT_S,
        "socket_connect_timeout": ASK_TIMEOUT_S,
        "driver_info": None,
    }
