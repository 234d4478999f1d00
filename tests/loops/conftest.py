"""Loops in threads of their own, stopped when the test ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.loops.loop import Loop
from balancer.protocol import TextRedis, connect


@pytest.fixture
def reading(redis_server: EmbeddedRedis) -> Iterator[TextRedis]:
    """A client for blocking reads of up to a minute."""
    with connect(redis_server.url, block_s=60) as client:
        yield client


@pytest.fixture
def running(pool: Pool) -> Iterator[Callable[[Loop], None]]:
    """Start a loop's run() in a thread. At the end it is woken and has to stop within 5 s."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(loop: Loop) -> None:
        thread = threading.Thread(target=loop.run, args=(stop,), daemon=True)
        thread.start()
        threads.append(thread)

    yield start
    stop.set()
    for thread in threads:
        pool.client.rpush(pool.keys.wake, "1")
        thread.join(5)
    pool.client.delete(pool.keys.wake)
    assert not [thread for thread in threads if thread.is_alive()]
