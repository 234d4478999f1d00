"""Connections that find their server, and say of an error whether anything had been sent.

The blocking ones; `connections_async` has the same for asyncio.
"""

from __future__ import annotations

from typing import Any

from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import MovedError, RedisError

from balancer.protocol.address import Node
from balancer.protocol.causes import NotRoutedError, mark_unsent
from balancer.protocol.route import Lookup, Question, Route

#: Told to whoever gave a plain address of a node.
NOT_ROUTED = "this Redis is a node of a Cluster: give redis+cluster://host:port"


class Marking:
    """Marks errors of connecting."""

    _sock: Any

    def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect, unless it is."""
        if self._sock:
            return
        try:
            super().connect_check_health(*args, **options)  # type: ignore[misc]
        except RedisError as error:
            mark_unsent(error)
            raise


class Alone(Marking):
    """To the one server of its address."""

    def read_response(self, *args: Any, **options: Any) -> Any:
        """The next reply."""
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except MovedError as error:
            raise NotRoutedError(f"{NOT_ROUTED} ({error})") from None


class Routed(Marking):
    """To wherever the route leads.

    Args:
        route: shared by all connections of the client.
    """

    host: str
    port: int
    handshake_metadata: Any

    def __init__(self, *args: Any, route: Route, **options: Any) -> None:
        self._route, self._generation = route, -1
        super().__init__(*args, **options)

    def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect, unless it is, and to the right one."""
        route = self._route
        if self._sock:
            if route.is_due():
                self._recheck()
            if self._generation == route.generation:
                return
            self.disconnect()  # type: ignore[attr-defined]
        self._generation = route.generation
        try:
            self.host, self.port = self._carried(route.find())
            super().connect_check_health(*args, **options)
        except RedisError as error:
            route.failed(error, self._generation)
            mark_unsent(error)
            raise

    def on_connect_check_health(self, *args: Any, **options: Any) -> None:
        """Introduce itself, and see who is there."""
        super().on_connect_check_health(*args, **options)  # type: ignore[misc]
        role = str(self.handshake_metadata.get("role"))
        self._route.accept(Node(self.host, self.port), role)

    def send_packed_command(self, *args: Any, **options: Any) -> None:
        """Send."""
        try:
            super().send_packed_command(*args, **options)  # type: ignore[misc]
        except RedisError as error:
            self._route.failed(error, self._generation)
            raise

    def read_response(self, *args: Any, **options: Any) -> Any:
        """The next reply."""
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except RedisError as error:
            self._route.failed(error, self._generation)
            raise

    def _recheck(self) -> None:
        try:
            self._carried(self._route.recheck())
        except RedisError:
            return  # as long as the connection serves, nobody has to know the way

    def _carried(self, lookup: Lookup) -> Node:
        answer: Any = None
        while True:
            try:
                question = lookup.send(answer)
            except StopIteration as done:
                found: Node = done.value
                return found
            answer = self._answer(question)

    def _answer(self, question: Question) -> Any:
        kind: Any = SSLConnection if isinstance(self, SSLConnection) else Connection
        host, port = question.node
        asking = kind(host=host, port=port, **self._route.ask_options)
        try:
            asking.connect()
            asking.send_command(*question.command)
            return asking.read_response()
        except RedisError as error:
            return error
        finally:
            asking.disconnect()


class AloneConnection(Alone, Connection):
    """One server."""


class AloneSSLConnection(Alone, SSLConnection):
    """One server, over TLS."""


class AloneUnixConnection(Alone, UnixDomainSocketConnection):
    """One server, over a unix socket."""


class RoutedConnection(Routed, Connection):
    """Sentinel or Cluster."""


class RoutedSSLConnection(Routed, SSLConnection):
    """Sentinel or Cluster, over TLS."""
