"""A pool behind real Sentinels: a planned failover, and a master that is killed."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError

from balancer import AsyncBalancer, Balancer
from balancer.core.errors import Unavailable
from balancer.ledger import Pool
from balancer.protocol import connect
from balancer.protocol.route import RECHECK_S
from tests.ha.fleet import fleet
from tests.ha.sentinels import SERVICE, Trio, client_of, port_of
from tests.support.wait import wait_until
from worker import leases

POOL = "p"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A completion that the new master never got is sent again within the patience of a test."""
    monkeypatch.setattr(leases, "REPORT_AGAIN_S", 2.0)


def test_a_fleet_works_on_through_a_planned_failover(sentinels: Trio) -> None:
    old = sentinels.master()
    with fleet(f"{sentinels.url}?wait_replicas=1", POOL) as running:
        running.begin()
        running.more(20)
        sentinels.fail_over()
        wait_until(lambda: sentinels.master() is not old, "there is another master", 20)
        running.more(50)
        running.end()
        with client_of(old) as client:
            assert client.role()[0] == "slave"
    assert set(running.runs) == set(running.accepted)


def test_a_fleet_works_on_when_its_master_is_killed(sentinels: Trio) -> None:
    old = sentinels.master()
    with fleet(f"{sentinels.url}?wait_replicas=1", POOL) as running:
        running.begin()
        running.more(20)
        old.kill()
        wait_until(lambda: sentinels.master() is not old, "there is another master", 20)
        old.restart()
        running.more(50)
        running.end()

        async def awaited() -> None:
            async with AsyncBalancer(sentinels.url, POOL) as producer:
                task = await producer.submit(role="dev")
                assert (await producer.wait(task, 20)).state.value == "completed"

        asyncio.run(awaited())
    assert set(running.runs) >= set(running.accepted)


def test_a_client_leaves_the_old_master_before_that_knows(sentinels: Trio) -> None:
    """After a planned failover the old one is a master for seconds yet, and what it is told is lost."""
    old = sentinels.master()
    other = next(server for server in sentinels.servers if server is not old)
    with connect(sentinels.url, pool=POOL) as client:
        assert client.info("server")["tcp_port"] == port_of(old)
        with client_of(old) as admin, client_of(other) as promoted:
            sentinels.fail_over()
            wait_until(lambda: promoted.role()[0] == "master", "the other one is a master", 20)
            wait_until(
                lambda: client.info("server")["tcp_port"] == port_of(other),
                "the client has followed",
                RECHECK_S + 8,
            )
            assert admin.ping()


def test_a_service_nobody_knows_and_sentinels_that_are_away(sentinels: Trio) -> None:
    unknown = sentinels.url.replace(SERVICE, "others")
    with pytest.raises(Unavailable, match="knows no service 'others'"):
        Balancer(unknown, POOL, deadline_s=0.1)
    for one in sentinels.sentinels[:2]:
        one.close()
    with connect(sentinels.url, pool=POOL) as client:  # one is enough to be told
        Pool.create(client, POOL)
        sentinels.sentinels[2].close()
        assert client.ping()  # who is connected needs nobody to show the way
    with (
        connect(sentinels.url, pool=POOL) as client,
        pytest.raises(ConnectionError, match="no Sentinel names"),
    ):
        client.ping()
