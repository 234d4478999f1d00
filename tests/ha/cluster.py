"""A real Redis Cluster on loopback: three masters and a replica for one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import redis
from redis.crc import key_slot

from balancer.embedded import EmbeddedRedis
from balancer.protocol.address import Node
from tests.support.wait import wait_until

SLOTS = 16_384
#: Silence after which a node counts as failed, milliseconds.
NODE_TIMEOUT_MS = 1_000


class ClusterNode:
    """One server of the Cluster, and a client for its administrator."""

    def __init__(self, server: EmbeddedRedis) -> None:
        self.server = server
        self.port = int(server.url.rpartition(":")[2].partition("/")[0])
        self.client: Any = redis.Redis(port=self.port, decode_responses=True)
        self.id: str = self.cluster("MYID")

    @property
    def node(self) -> Node:
        return Node("127.0.0.1", self.port)

    def cluster(self, *words: Any) -> Any:
        """One CLUSTER command."""
        return self.client.execute_command("CLUSTER", *words)

    def says(self, name: str) -> str:
        """One line of CLUSTER INFO."""
        return str(self.client.execute_command("CLUSTER INFO")[name])


class Cluster:
    """Masters 0 to 2 own a third of the slots each; the replica follows master 0."""

    def __init__(self, nodes: list[ClusterNode]) -> None:
        self.nodes, self.masters, self.replica = nodes, nodes[:3], nodes[3]
        self._numbers = count()

    @property
    def url(self) -> str:
        """Of the nodes, the last ones first: whoever asks has to be sent on."""
        return "redis+cluster://" + ",".join(str(node.node) for node in reversed(self.nodes[1:3]))

    def pool_on(self, master: int) -> str:
        """A name that no test had before, of a slot that this master owns from the beginning."""
        return next(
            name
            for name in (f"p{number}" for number in self._numbers)
            if key_slot(name.encode()) * 3 // SLOTS == master
        )

    def keys_of(self, node: ClusterNode, slot: int) -> list[str]:
        """At most 1,000 keys of a slot, on this node."""
        found: list[str] = node.cluster("GETKEYSINSLOT", slot, 1_000)
        return found

    def begin_move(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        """From here on both nodes know that the slot is on its way."""
        target.cluster("SETSLOT", slot, "IMPORTING", source.id)
        source.cluster("SETSLOT", slot, "MIGRATING", target.id)

    def move_keys(self, keys: list[str], source: ClusterNode, target: ClusterNode) -> None:
        """Some of the slot's keys, as a resharding tool moves them."""
        if keys:
            source.client.execute_command(
                "MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys
            )

    def end_move(self, slot: int, target: ClusterNode) -> None:
        """The slot is the target's."""
        for node in (target, *(other for other in self.masters if other is not target)):
            node.cluster("SETSLOT", slot, "NODE", target.id)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A Cluster that serves all its slots."""
    config = {
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-node-timeout": str(NODE_TIMEOUT_MS),
        "cluster-replica-validity-factor": "0",
        "repl-diskless-sync": "yes",
        "repl-diskless-sync-delay": "0",
    }
    with ExitStack() as stack:
        nodes = [
            ClusterNode(stack.enter_context(EmbeddedRedis(tcp=True, config=config)))
            for _ in range(4)
        ]
        for node in nodes:
            stack.callback(node.client.close)
        for at, master in enumerate(nodes[:3]):
            first, behind = -(-SLOTS * at // 3), -(-SLOTS * (at + 1) // 3)
            master.cluster("SET-CONFIG-EPOCH", at + 1)
            master.cluster("ADDSLOTS", *range(first, behind))
        for node in nodes[1:]:
            node.cluster("MEET", "127.0.0.1", nodes[0].port)
        wait_until(
            lambda: all(node.says("cluster_known_nodes") == "4" for node in nodes),
            "all nodes know each other",
            20,
        )
        nodes[3].cluster("REPLICATE", nodes[0].id)
        wait_until(
            lambda: all(node.says("cluster_state") == "ok" for node in nodes), "it serves", 20
        )
        wait_until(
            lambda: nodes[3].client.info("replication")["master_link_status"] == "up",
            "the replica follows",
            20,
        )
        yield Cluster(nodes)


def _all_say(nodes: list[ClusterNode], name: str, value: str) -> bool:
    return all(node.says(name) == value for node in nodes)
