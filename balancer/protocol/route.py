"""Which server to speak to, where an address names several: behind Sentinels the master, of a Cluster the
node that owns the pool's slot.

Finding it is a generator that yields questions and receives answers, like every exchange: blocking and
asyncio connections drive the same one.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from redis.crc import key_slot
from redis.exceptions import ConnectionError, MovedError, RedisError

from balancer.protocol.address import MOST_NODES, Address, Node
from balancer.protocol.causes import Reaction, cause, mark_unsent

#: How long a Sentinel or a node may take to answer where the pool is, seconds.
ASK_TIMEOUT_S = 1.0
#: How often the Sentinels are asked whether the master is still the master, seconds. They demote the old
#: one many seconds after a planned failover; what is written to it until then is lost.
RECHECK_S = 1.0


class Question(NamedTuple):
    """What to ask whom. The reply is the server's, or the error in its place."""

    node: Node
    command: tuple[str, ...]


#: Looks a server up.
Lookup: TypeAlias = Generator[Question, Any, Node]


class Route(ABC):
    """What all connections of one client know of where the pool is. Safe to share between threads.

    Args:
        nodes: who to ask, in this order.
        ask_options: of the short connections that ask them.
    """

    #: Seconds after which the answer is asked for again although nothing has failed; None: never.
    recheck_s: float | None = None

    def __init__(self, nodes: Sequence[Node], ask_options: Mapping[str, Any]) -> None:
        self.ask_options = ask_options
        self._asked = list(nodes)
        self._lock = threading.Lock()
        self._node: Node | None = None
        self._checked_at = 0.0
        #: Connections that were made in an earlier generation are dropped when they are next used.
        self.generation = 0

    def find(self) -> Lookup:
        """The server, as it was found last, or looked up.

        Raises:
            redis.ConnectionError: nobody knows.
        """
        with self._lock:
            known, generation = self._node, self.generation
        if known:
            return known
        found = yield from self._looked_up()
        with self._lock:
            if generation == self.generation:
                self._node, self._checked_at = found, time.monotonic()
        return found

    def failed(self, error: RedisError, generation: int) -> None:
        """A connection of this generation got an error. Where it says that the pool may be elsewhere,
        all connections of that generation are done with, once.
        """
        code, reaction = cause(error)
        if reaction is not Reaction.ROUTE and code not in ("CONNECTION", "TIMEOUT", "CLUSTERDOWN"):
            return
        with self._lock:
            if generation != self.generation:
                return
            self.generation += 1
            self._node = self._told(error)
            # Another one first: this one may be cut off with what it believes.
            self._asked.append(self._asked.pop(0))

    def is_due(self) -> bool:
        """Whether to ask again; true for one caller each time."""
        if self.recheck_s is None or time.monotonic() < self._checked_at + self.recheck_s:
            return False
        with self._lock:
            if time.monotonic() < self._checked_at + self.recheck_s or not self._node:
                return False
            self._checked_at = time.monotonic()
            return True

    def recheck(self) -> Lookup:
        """Look the server up although one is known; the generation ends when it is another one.

        Raises:
            redis.ConnectionError: nobody knows. What is known stays.
        """
        found = yield from self._looked_up()
        with self._lock:
            if self._node and found != self._node:
                self._node = found
                self.generation += 1
        return found

    def _looked_up(self) -> Lookup:
        said = []
        for node in list(self._asked):
            answer = yield Question(node, self._question())
            found = answer if isinstance(answer, RedisError) else self._read(answer, node)
            if isinstance(found, Node):
                return found
            if isinstance(found, RedisError) and cause(found).reaction is Reaction.DENIED:
                raise found
            said.append(f"{node}: {found}")
        error = ConnectionError(f"{self._what()}; " + "; ".join(said[:3]))
        mark_unsent(error)
        raise error

    @staticmethod
    def accept(node: Node, role: str) -> None:
        """Judge what a server that was connected to says of itself.

        Raises:
            redis.ConnectionError: it is a replica: who named it knows nothing better yet.
        """
        if role != "master":
            raise ConnectionError(f"{node} was named as master and says that it is a {role}")

    def _told(self, error: RedisError) -> Node | None:
        """The new place, if the error names it."""
        return None

    @abstractmethod
    def _question(self) -> tuple[str, ...]: ...

    @abstractmethod
    def _read(self, answer: Any, asked: Node) -> Node | str:
        """The server that an answer names, or what is wrong with the answer."""

    @abstractmethod
    def _what(self) -> str:
        """What was not found."""


class SentinelRoute(Route):
    """The master of a service, as Sentinels know it."""

    recheck_s = RECHECK_S

    def __init__(self, address: Address, ask_options: Mapping[str, Any]) -> None:
        super().__init__(address.nodes, ask_options)
        self._service = address.service

    def _question(self) -> tuple[str, ...]:
        return ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)

    def _read(self, answer: Any, asked: Node) -> Node | str:
        match answer:
            case [str(host), str(port)] if port.isdecimal():
                return Node(host, int(port))
            case None:
                return f"knows no service {self._service!r}"
        return "answered something else"

    def _what(self) -> str:
        return f"no Sentinel names the master of {self._service!r}"


class ClusterRoute(Route):
    """The node of a Cluster that owns a pool's slot.

    Args:
        address: of some nodes.
        ask_options: of the short connections that ask them.
        pool: its name is the hash tag of all its keys.
    """

    def __init__(self, address: Address, ask_options: Mapping[str, Any], pool: str) -> None:
        super().__init__(address.nodes, ask_options)
        self._pool, self._slot = pool, key_slot(pool.encode())

    def _told(self, error: RedisError) -> Node | None:
        if isinstance(error, MovedError) and error.slot_id == self._slot and error.host:
            return Node(error.host, error.port)
        return None

    def _question(self) -> tuple[str, ...]:
        return ("CLUSTER", "SLOTS")

    def _read(self, answer: Any, asked: Node) -> Node | str:
        owner: Node | None = None
        nodes = []
        for row in answer if isinstance(answer, list) else ():
            match row:
                case [int(low), int(high), *rows]:
                    found = [_node(row, asked) for row in rows]
                    nodes += [node for node in found if node]
                    if low <= self._slot <= high and found:
                        owner = found[0]
        self._learn(nodes)
        return owner or f"no node serves slot {self._slot}"

    def _learn(self, nodes: Sequence[Node]) -> None:
        # The address may name nodes that have left; those that are there can be asked as well.
        with self._lock:
            fresh = [node for node in dict.fromkeys(nodes) if node not in self._asked]
            self._asked += fresh[: max(0, MOST_NODES - len(self._asked))]

    def _what(self) -> str:
        return f"no node of the Cluster names the owner of slot {self._slot} (pool {self._pool!r})"


def _node(row: Any, asked: Node) -> Node | None:
    """A node of CLUSTER SLOTS; one without an address is the one that was asked."""
    match row:
        case [host, int(port), *_]:
            return Node(
                host if isinstance(host, str) and host not in ("", "?") else asked.host, port
            )
    return None
