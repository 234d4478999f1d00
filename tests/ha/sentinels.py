"""A real master with a replica, watched by three real Sentinels, on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis

from balancer.embedded import EmbeddedRedis, ServerMissing, find_server
from tests.support.wait import wait_until

SERVICE = "balancers"
#: Silence after which a Sentinel thinks that a server is down, milliseconds.
DOWN_AFTER_MS = 1_000


def port_of(server: EmbeddedRedis) -> int:
    """The port of a server that listens on TCP."""
    return int(server.url.rpartition(":")[2].partition("/")[0])


def client_of(server: EmbeddedRedis) -> Any:
    """A client for its administrator."""
    return redis.Redis(port=port_of(server), decode_responses=True, protocol=2)


class Trio:
    """Two servers, one of them the master, and three Sentinels."""

    def __init__(self, servers: list[EmbeddedRedis], sentinels: list[EmbeddedRedis]) -> None:
        self.servers, self.sentinels = servers, sentinels

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port_of(one)}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    def master(self) -> EmbeddedRedis:
        """Whom the first Sentinel names."""
        with client_of(self.sentinels[0]) as client:
            _, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(one for one in self.servers if port_of(one) == int(port))

    def fail_over(self) -> None:
        """A planned failover: the old master stays up, and learns of it late."""
        with client_of(self.sentinels[0]) as client:
            client.execute_command("SENTINEL", "FAILOVER", SERVICE)


@contextmanager
def trio() -> Iterator[Trio]:
    """A master that its replica follows, and Sentinels that know both and each other."""
    binary = find_server()
    if binary is None:
        raise ServerMissing("no redis-server or valkey-server was found")
    # A server that came back empty could be promoted before it has followed the new master.
    config = {"repl-diskless-sync": "yes", "repl-diskless-sync-delay": "0"}
    config |= {"appendfsync": "always"}
    with ExitStack() as stack:
        link = Path(stack.enter_context(TemporaryDirectory())) / "redis-sentinel"
        link.symlink_to(binary)  # the name makes it a Sentinel
        master = stack.enter_context(EmbeddedRedis(tcp=True, appendonly=True, config=config))
        replica = stack.enter_context(
            EmbeddedRedis(
                tcp=True,
                appendonly=True,
                config=config | {"replicaof": f"127.0.0.1 {port_of(master)}"},
            )
        )
        with client_of(replica) as client:
            wait_until(
                lambda: client.info("replication")["master_link_status"] == "up", "it follows", 20
            )
        lines = (
            f"monitor {SERVICE} 127.0.0.1 {port_of(master)} 2",
            f"down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"failover-timeout {SERVICE} 6000",
        )
        sentinels = [
            stack.enter_context(
                EmbeddedRedis(tcp=True, binary=link, config={"sentinel": "\nsentinel ".join(lines)})
            )
            for _ in range(3)
        ]
        for one in sentinels:
            with client_of(one) as client:
                wait_until(partial(_knows_all, client), "all know each other", 20)
        yield Trio([master, replica], sentinels)


def _knows_all(client: Any) -> bool:
    state = client.execute_command("SENTINEL", "MASTER", SERVICE)
    said = state if isinstance(state, dict) else dict(zip(state[::2], state[1::2], strict=True))
    return (int(said["num-slaves"]), int(said["num-other-sentinels"])) == (1, 2)
