"""The connections of `connections`, for asyncio."""

from __future__ import annotations

from typing import Any

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import MovedError, RedisError

from balancer.protocol.address import Node
from balancer.protocol.causes import NotRoutedError, mark_unsent
from balancer.protocol.connections import NOT_ROUTED
from balancer.protocol.route import Lookup, Question, Route


class Marking:
    """Marks errors of connecting."""

    is_connected: bool

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect, unless it is."""
        if self.is_connected:
            return
        try:
            await super().connect_check_health(*args, **options)  # type: ignore[misc]
        except RedisError as error:
            mark_unsent(error)
            raise


class Alone(Marking):
    """To the one server of its address."""

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """The next reply."""
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except MovedError as error:
            raise NotRoutedError(f"{NOT_ROUTED} ({error})") from None


class Routed(Marking):
    """To wherever the route leads. See `connections.Routed`."""

    host: str
    port: int

    def __init__(self, *args: Any, route: Route, **options: Any) -> None:
        self._route, self._generation, self._role = route, -1, ""
        super().__init__(*args, **options)

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect, unless it is, and to the right one."""
        route = self._route
        if self.is_connected:
            if route.is_due():
                await self._recheck()
            if self._generation == route.generation:
                return
            await self.disconnect()  # type: ignore[attr-defined]
        self._generation = route.generation
        try:
            self.host, self.port = await self._carried(route.find())
            await super().connect_check_health(*args, **options)
        except RedisError as error:
            route.failed(error, self._generation)
            mark_unsent(error)
            raise

    async def on_connect_check_health(self, *args: Any, **options: Any) -> None:
        """Introduce itself, and see who is there."""
        self._role = ""
        await super().on_connect_check_health(*args, **options)  # type: ignore[misc]
        self._route.accept(Node(self.host, self.port), self._role)

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        """Send."""
        try:
            await super().send_packed_command(*args, **options)  # type: ignore[misc]
        except RedisError as error:
            self._route.failed(error, self._generation)
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """The next reply."""
        try:
            reply = await super().read_response(*args, **options)  # type: ignore[misc]
            if not self._role and isinstance(reply, dict):  # of HELLO, which this client forgets
                self._role = str(reply.get("role"))
            return reply
        except RedisError as error:
            self._route.failed(error, self._generation)
            raise

    async def _recheck(self) -> None:
        try:
            await self._carried(self._route.recheck())
        except RedisError:
            return  # as long as the connection serves, nobody has to know the way

    async def _carried(self, lookup: Lookup) -> Node:
        answer: Any = None
        while True:
            try:
                question = lookup.send(answer)
            except StopIteration as done:
                found: Node = done.value
                return found
            answer = await self._answer(question)

    async def _answer(self, question: Question) -> Any:
        kind: Any = SSLConnection if isinstance(self, SSLConnection) else Connection
        host, port = question.node
        asking = kind(host=host, port=port, **self._route.ask_options)
        try:
            await asking.connect()
            await asking.send_command(*question.command)
            return await asking.read_response()
        except RedisError as error:
            return error
        finally:
            await asking.disconnect()


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
