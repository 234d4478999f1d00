"""An address that asks for replicas: what was submitted counts when they have it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from balancer import AsyncBalancer, Balancer, Unconfirmed
from balancer.embedded import EmbeddedRedis
from balancer.exchanges import opening
from balancer.ledger import Pool
from balancer.protocol import TextRedis, connect
from tests.support.wait import wait_until

POOL = "p"


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedRedis]:
    """A server that others may follow."""
    monkeypatch.setattr(opening, "WAIT_MS", 20)
    config = {"repl-diskless-sync": "yes", "repl-diskless-sync-delay": "0"}
    with EmbeddedRedis(tcp=True, config=config) as server:
        with connect(server.url) as client:
            Pool.create(client, POOL)
        yield server


@pytest.fixture
def replica(master: EmbeddedRedis) -> Iterator[EmbeddedRedis]:
    """One that follows it."""
    port = master.url.rpartition(":")[2].partition("/")[0]
    with (
        EmbeddedRedis(config={"replicaof": f"127.0.0.1 {port}"}) as server,
        connect(server.url) as client,
    ):
        wait_until(lambda: _is_up(client), "the replica follows")
        yield server


def _is_up(client: TextRedis) -> bool:
    return str(client.info("replication")["master_link_status"]) == "up"


def submit(url: str, how: str, deadline_s: float) -> str:
    """One task, with a producer of its own."""
    if how == "blocking":
        with Balancer(url, POOL, deadline_s=deadline_s) as producer:
            return producer.submit(id="t1", role="dev")

    async def main() -> str:
        async with AsyncBalancer(url, POOL, deadline_s=deadline_s) as producer:
            return await producer.submit(id="t1", role="dev")

    return asyncio.run(main())


@pytest.mark.parametrize("how", ["blocking", "asyncio"])
def test_a_submit_waits_for_its_replica(
    master: EmbeddedRedis, replica: EmbeddedRedis, how: str
) -> None:
    url = f"{master.url}?wait_replicas=1"
    assert submit(url, how, 10) == "t1"
    with connect(replica.url) as client, connect(master.url) as own:
        assert client.hget(f"wb:{{{POOL}}}:task:t1", "state") == "pending"
        client.execute_command("REPLICAOF", "NO", "ONE")
        wait_until(lambda: own.info("replication")["connected_slaves"] == 0, "nobody follows")
        for _ in range(2):  # it is stored, and nobody else has it: that is not an answer
            with pytest.raises(Unconfirmed, match="0 of 1 replicas"):
                submit(url, how, 0.1)
        assert submit(master.url, how, 10) == "t1"
        assert own.zcard(f"wb:{{{POOL}}}:pending:dev") == 1
