"""The proxy that cuts replies: what was asked is done all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from balancer.embedded import EmbeddedRedis
from balancer.protocol import connect
from tests.support.proxy import Proxy


@pytest.fixture
def proxy(redis_server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Proxy]:
    with Proxy(redis_server.url) as own:
        yield own
    redis_client.flushall()  # these are no keys of a pool


def test_it_passes_on_what_is_larger_than_one_read(proxy: Proxy) -> None:
    with connect(proxy.url) as client:
        client.set("a", "x" * 1_000_000)
        assert len(client.get("a")) == 1_000_000
    assert proxy.cuts == 0


def test_a_cut_reply_leaves_its_effect_and_the_next_call_works(proxy: Proxy) -> None:
    with connect(proxy.url) as client:
        client.ping()
        proxy.cut_replies(2, b"INCR")
        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                client.incr("a")
            client.ping()
        assert client.incr("a") == 3
    assert proxy.cuts == 2


def test_what_does_not_name_the_word_is_not_cut(proxy: Proxy) -> None:
    with connect(proxy.url) as client:
        proxy.cut_replies(1, b"INCR")
        client.set("a", "1")
        assert client.get("a") == "1"
        with pytest.raises(redis.ConnectionError):
            client.incr("a")


def test_closing_it_ends_every_connection(proxy: Proxy) -> None:
    with connect(proxy.url) as client:
        client.ping()
        proxy.close()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        with pytest.raises(redis.ConnectionError):
            client.ping()


def test_a_redis_that_is_away_is_a_closed_connection() -> None:
    with (
        Proxy("unix:///nowhere/redis.sock") as proxy,
        connect(proxy.url) as client,
        pytest.raises(redis.ConnectionError),
    ):
        client.ping()
