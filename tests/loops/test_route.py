"""Finding the server: connections are led by what Sentinels and nodes say, and looked up anew when that was wrong.

What real Sentinels and a real Cluster do is tested in tests/ha.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError, MovedError, ReadOnlyError, RedisError

from balancer.embedded import EmbeddedRedis
from balancer.protocol import connect, route
from balancer.protocol.causes import Reaction, cause, is_unsent
from balancer.protocol.connect import connect_async
from tests.support.faulty import FaultyRedis
from tests.support.signpost import Signpost, line, master, slots

POOL = "p"
SLOT = key_slot(POOL.encode())
Ask = Callable[..., Any]


def port_of(server: EmbeddedRedis | FaultyRedis) -> int:
    return int(server.url.rpartition(":")[2].partition("/")[0])


@pytest.fixture(scope="module")
def servers() -> Iterator[list[EmbeddedRedis]]:
    """Two that are masters, each knowing its number."""
    with ExitStack() as stack:
        found = [stack.enter_context(EmbeddedRedis(tcp=True)) for _ in range(2)]
        for number, server in enumerate(found):
            with connect(server.url) as client:
                client.set("number", number)
        yield found


@pytest.fixture
def post(servers: list[EmbeddedRedis]) -> Iterator[Signpost]:
    """Names the first one as master."""
    with Signpost(master(port_of(servers[0]))) as signpost:
        yield signpost


@pytest.fixture
def cluster_post(servers: list[EmbeddedRedis]) -> Iterator[Signpost]:
    """Names the first one as the owner of all slots."""
    with Signpost(slots((0, 16_383, "127.0.0.1", port_of(servers[0])))) as signpost:
        yield signpost


@pytest.fixture(params=["blocking", "asyncio"])
def dial(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Ask]]:
    """Makes a client of an address; what comes back carries one command."""
    with ExitStack() as stack:
        if request.param == "blocking":

            def blocking(url: str) -> Ask:
                return stack.enter_context(connect(url, pool=POOL)).execute_command  # type: ignore[no-any-return]

            yield blocking
            return
        runner = stack.enter_context(asyncio.Runner())

        def awaited(url: str) -> Ask:
            client = connect_async(url, pool=POOL)
            stack.callback(lambda: runner.run(client.aclose()))

            async def carried(*words: Any) -> Any:
                return await client.execute_command(*words)

            return lambda *words: runner.run(carried(*words))

        yield awaited


def sentinel(*posts: Signpost | int) -> str:
    ports = (post if isinstance(post, int) else post.port for post in posts)
    return "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in ports) + "/main/0"


def cluster(*posts: Signpost | int) -> str:
    return sentinel(*posts).replace("sentinel", "cluster").removesuffix("/main/0")


# --- Sentinels ---


def test_the_master_that_a_sentinel_names(dial: Callable[[str], Ask], post: Signpost) -> None:
    ask = dial(sentinel(post))
    assert [ask("GET", "number") for _ in range(3)] == ["0"] * 3
    assert post.asked == 1


def test_the_next_sentinel_is_asked_when_one_is_away_or_knows_nothing(
    dial: Callable[[str], Ask], post: Signpost
) -> None:
    with Signpost(master(None)) as ignorant, Signpost(line("-ERR odd")) as odd:
        assert dial(sentinel(1, ignorant, odd, post))("GET", "number") == "0"
        assert (ignorant.asked, odd.asked, post.asked) == (1, 1, 1)


def test_who_was_wrong_is_asked_last_the_next_time(
    dial: Callable[[str], Ask], servers: list[EmbeddedRedis], post: Signpost
) -> None:
    with Signpost(master(1)) as cut_off:
        post.says = master(port_of(servers[1]))
        ask = dial(sentinel(cut_off, post))
        with pytest.raises(ConnectionError):
            ask("GET", "number")
        assert ask("GET", "number") == "1"
        assert (cut_off.asked, post.asked) == (1, 1)


def test_nobody_knows(dial: Callable[[str], Ask]) -> None:
    with Signpost(master(None)) as ignorant, pytest.raises(ConnectionError) as raised:
        dial(sentinel(1, ignorant))("GET", "number")
    assert "no Sentinel names the master of 'main'" in str(raised.value)
    assert f"127.0.0.1:{ignorant.port}: knows no service 'main'" in str(raised.value)
    assert "127.0.0.1:1: Error 111" in str(raised.value)
    assert is_unsent(raised.value)


def test_a_sentinel_that_refuses_us_is_no_outage(dial: Callable[[str], Ask]) -> None:
    with (
        Signpost(line("-NOAUTH Authentication required.")) as strict,
        pytest.raises(RedisError) as raised,
    ):
        dial(sentinel(strict))("GET", "number")
    assert cause(raised.value).reaction is Reaction.DENIED


def test_a_replica_that_is_named_as_master_is_not_believed(
    dial: Callable[[str], Ask], servers: list[EmbeddedRedis], post: Signpost
) -> None:
    with EmbeddedRedis(tcp=True, config={"replicaof": "127.0.0.1 1"}) as replica:
        post.says = master(port_of(replica))
        ask = dial(sentinel(post))
        with pytest.raises(ConnectionError, match="was named as master and says that it is a"):
            ask("GET", "number")
        post.says = master(port_of(servers[1]))
        assert ask("GET", "number") == "1"


def test_a_master_that_has_become_a_replica_is_left_at_the_next_call(
    dial: Callable[[str], Ask], servers: list[EmbeddedRedis], post: Signpost
) -> None:
    with EmbeddedRedis(tcp=True) as old:
        post.says = master(port_of(old))
        ask = dial(sentinel(post))
        ask("SET", "a", "1")
        ask("REPLICAOF", "127.0.0.1", "1")
        post.says = master(port_of(servers[1]))
        with pytest.raises(ReadOnlyError):
            ask("SET", "a", "2")
        assert ask("GET", "number") == "1"


def test_who_is_connected_asks_again_now_and_then(
    dial: Callable[[str], Ask],
    servers: list[EmbeddedRedis],
    post: Signpost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = dial(sentinel(post))
    assert ask("GET", "number") == "0"
    post.says = master(port_of(servers[1]))
    assert ask("GET", "number") == "0"
    monkeypatch.setattr(route.SentinelRoute, "recheck_s", 0.0)
    assert ask("GET", "number") == "1"
    post.says = line("-ERR odd")  # who is connected needs nobody to show the way
    assert ask("GET", "number") == "1"


def test_a_connection_that_breaks_is_a_reason_to_look_again(
    dial: Callable[[str], Ask], servers: list[EmbeddedRedis], post: Signpost
) -> None:
    with FaultyRedis(servers[0].url) as first:
        post.says = master(port_of(first))
        ask = dial(sentinel(post))
        assert ask("GET", "number") == "0"
        post.says = master(port_of(servers[1]))
        first.answer("DROP")
        with pytest.raises(ConnectionError):
            ask("GET", "number")
        assert ask("GET", "number") == "1"
        assert post.asked == 2


# --- Cluster ---


def test_the_node_that_owns_the_slot(
    dial: Callable[[str], Ask], servers: list[EmbeddedRedis], cluster_post: Signpost
) -> None:
    first, second = map(port_of, servers)
    cluster_post.says = slots(
        (0, SLOT - 1, "127.0.0.1", first),
        (SLOT, SLOT, "127.0.0.1", second),
        (SLOT + 1, 16_383, "127.0.0.1", first),
    )
    assert dial(cluster(cluster_post))("GET", "number") == "1"


@pytest.mark.parametrize("host", [None, "", "?"])
def test_a_node_without_an_address_is_the_one_that_was_asked(
    dial: Callable[[str], Ask],
    servers: list[EmbeddedRedis],
    cluster_post: Signpost,
    host: str | None,
) -> None:
    cluster_post.says = slots((0, 16_383, host, port_of(servers[1])))
    assert dial(cluster(cluster_post))("GET", "number") == "1"


def test_a_slot_that_nobody_serves(dial: Callable[[str], Ask], cluster_post: Signpost) -> None:
    cluster_post.says = slots((SLOT + 1, 16_383, "127.0.0.1", 1))
    with pytest.raises(ConnectionError, match=rf"no node serves slot {SLOT}"):
        dial(cluster(cluster_post))("GET", "number")


@pytest.mark.parametrize("is_told", [True, False])
def test_a_slot_that_has_moved_is_followed_where_the_node_says(
    dial: Callable[[str], Ask],
    servers: list[EmbeddedRedis],
    cluster_post: Signpost,
    is_told: bool,
) -> None:
    with FaultyRedis(servers[0].url) as first:
        cluster_post.says = slots((0, 16_383, "127.0.0.1", port_of(first)))
        ask = dial(cluster(cluster_post))
        assert ask("GET", "number") == "0"
        first.answer(f"MOVED {SLOT if is_told else SLOT + 1} 127.0.0.1:{port_of(servers[1])}")
        cluster_post.says = slots((0, 16_383, "127.0.0.1", port_of(servers[1])))
        with pytest.raises(MovedError):
            ask("GET", "number")
        assert ask("GET", "number") == "1"
        # About another slot it says nothing of ours: the nodes are asked.
        assert cluster_post.asked == (1 if is_told else 2)


def test_nodes_that_were_learnt_are_asked_when_the_first_are_gone(
    dial: Callable[[str], Ask], servers: list[EmbeddedRedis], cluster_post: Signpost
) -> None:
    owner = port_of(servers[1])
    with FaultyRedis(servers[0].url) as first, Signpost(b"") as other:
        other.says = slots((0, 16_383, "127.0.0.1", owner))
        cluster_post.says = slots(
            (SLOT, SLOT, "127.0.0.1", port_of(first)), (0, 0, "127.0.0.1", other.port)
        )
        ask = dial(cluster(cluster_post))
        assert ask("GET", "number") == "0"
        cluster_post.close()
        first.answer("DROP")
        with pytest.raises(ConnectionError):
            ask("GET", "number")
        first.answer("CLUSTERDOWN The cluster is down", on={"CLUSTER"})
        assert ask("GET", "number") == "1"
        assert other.asked == 1
