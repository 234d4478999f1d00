"""A pool on a real Redis Cluster: on each master, while its slot moves, and when its node is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
from redis.crc import key_slot

from balancer import AsyncBalancer, Balancer
from balancer.core.errors import Misconfigured
from balancer.ledger import Pool
from balancer.ledger.audit import audit
from balancer.ledger.due import due
from balancer.ledger.release import release
from balancer.ledger.tick import tick
from balancer.ledger.view import Viewer
from balancer.protocol import connect
from balancer.protocol.causes import cause
from tests.flow.test_acl import users
from tests.ha.cluster import Cluster, ClusterNode
from tests.ha.fleet import fleet
from tests.support.factories import beat, commit, proposal, submit
from tests.support.wait import wait_until


@pytest.mark.parametrize("master", [0, 1, 2])
def test_a_pool_lives_on_whichever_master_owns_its_slot(
    redis_cluster: Cluster, master: int
) -> None:
    pool = redis_cluster.pool_on(master)
    with fleet(redis_cluster.url, pool) as running:
        running.begin()
        running.more(20)

        async def awaited() -> None:
            async with AsyncBalancer(redis_cluster.url, pool) as producer:
                task = await producer.submit(role="dev")
                assert (await producer.wait(task, 20)).state.value == "completed"

        asyncio.run(awaited())
        running.end()
    assert set(running.runs.values()) == {1}
    keys = {
        node.port: redis_cluster.keys_of(node, key_slot(pool.encode()))
        for node in redis_cluster.masters
    }
    assert [port for port, found in keys.items() if found] == [redis_cluster.masters[master].port]


def test_a_plain_address_of_a_node_is_refused_with_what_to_write(redis_cluster: Cluster) -> None:
    pool = redis_cluster.pool_on(0)
    with connect(redis_cluster.url, pool=pool) as client:
        Pool.create(client, pool)
    with pytest.raises(Misconfigured, match=r"give redis\+cluster://"):
        Balancer(redis_cluster.masters[1].server.url, pool, deadline_s=20)


def test_the_rights_that_the_page_lists_are_enough_on_a_cluster(redis_cluster: Cluster) -> None:
    pool = redis_cluster.pool_on(1)
    rules = users("acl")["balancer"]
    for node in redis_cluster.nodes:
        own = [rule.replace("{builds}", f"{{{pool}}}") for rule in rules]
        node.client.execute_command("ACL SETUSER", "b", "reset", *own, "+wait", "+cluster|slots")
        node.client.execute_command("ACL LOG", "RESET")
    with fleet(redis_cluster.url.replace("//", "//b:SECRET-1@"), pool) as running:
        running.begin()
        running.more(20)
        running.end()
    assert [node.client.execute_command("ACL LOG") for node in redis_cluster.nodes] == [[]] * 4


# --- a slot that moves ---


@contextmanager
def moving(cluster: Cluster, pool: str, source: ClusterNode, target: ClusterNode) -> Iterator[int]:
    """The slot is on its way from here, and has arrived at the end."""
    slot = key_slot(pool.encode())
    cluster.begin_move(slot, source, target)
    yield slot
    while keys := cluster.keys_of(source, slot):
        cluster.move_keys(keys, source, target)
    cluster.end_move(slot, target)


def content(slot: int, *nodes: ClusterNode) -> dict[tuple[int, str], bytes]:
    """All keys of the slot on these nodes, as the servers would hand them over."""
    found = {}
    for node in nodes:
        keys = node.cluster("GETKEYSINSLOT", slot, 1_000)
        with redis.Redis(port=node.port) as client:
            pipe = client.pipeline(transaction=False)
            for key in keys:
                pipe.execute_command("ASKING")  # or the node that is to get the slot sends us away
                pipe.dump(key)
            for key, value in zip(keys, pipe.execute()[1::2], strict=True):
                found[node.port, key] = value
    return found


@pytest.mark.parametrize("what", ["the identity", "all but the identity", "every second key"])
def test_while_a_slot_moves_no_script_does_anything(redis_cluster: Cluster, what: str) -> None:
    """Some keys here, some there: a script that ran would see half a pool."""
    source, target = redis_cluster.masters[1], redis_cluster.masters[2]
    name = redis_cluster.pool_on(1)
    with connect(redis_cluster.url, pool=name) as client:
        client.flushall()
        pool = Pool.create(client, name)
        beat(pool, max_concurrent=5)
        submit(pool, *(f"t{number}" for number in range(4)))
        calls: list[Callable[[], object]] = [
            lambda: commit(pool, proposal("t0"), proposal("t1")),
            lambda: submit(pool, "t9"),
            lambda: Viewer(pool).view(),
            lambda: due(pool),
            lambda: release(pool),
            lambda: tick(pool),
        ]
        for call in calls[2:]:
            call()
        with moving(redis_cluster, name, source, target) as slot:
            keys = sorted(redis_cluster.keys_of(source, slot))
            others = [key for key in keys if key != pool.keys.meta]
            gone = {"the identity": [pool.keys.meta], "all but the identity": others}
            redis_cluster.move_keys(gone.get(what, keys[::2]), source, target)
            before = content(slot, source, target)
            for call in calls * 2:
                with pytest.raises(redis.RedisError) as raised:
                    call()
                assert cause(raised.value).code in ("ASK", "TRYAGAIN")
            assert content(slot, source, target) == before
        wait_until(lambda: passes(lambda: Viewer(pool).view()), "the pool works again")
        assert commit(pool, proposal("t0"), proposal("t1")) == ["assigned"] * 2
        assert not audit(pool).violations


def passes(call: Callable[[], object]) -> bool:
    """Whether Redis answers."""
    try:
        call()
    except redis.RedisError:
        return False
    return True


def test_a_fleet_works_on_when_its_slot_moves(redis_cluster: Cluster) -> None:
    source, target = redis_cluster.masters[2], redis_cluster.masters[1]
    pool = redis_cluster.pool_on(2)
    with fleet(redis_cluster.url, pool) as running:
        running.begin()
        running.more(20)
        with moving(redis_cluster, pool, source, target) as slot:
            keys = redis_cluster.keys_of(source, slot)
            redis_cluster.move_keys(keys[: len(keys) // 2], source, target)
        running.more(50)
        running.end()
    assert set(running.runs) == set(running.accepted)


# --- a node that dies ---


def test_a_fleet_works_on_when_its_node_is_killed(redis_cluster: Cluster) -> None:
    killed, replica = redis_cluster.masters[0], redis_cluster.replica
    pool = redis_cluster.pool_on(0)
    with fleet(f"{redis_cluster.url}?wait_replicas=1", pool) as running:
        running.begin()
        running.more(20)
        killed.server.kill()
        wait_until(lambda: replica.client.role()[0] == "master", "the replica takes over", 20)
        killed.server.restart()
        wait_until(lambda: killed.client.role()[0] == "slave", "the old master follows", 20)
        running.more(50)
        running.end()
    assert set(running.runs) == set(running.accepted)
