"""Producers and queues that take no more; queues that someone holds or empties."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from balancer import AsyncBalancer, Balancer, InvalidInput, NotFound, QueueFull, RedisFull, Refused
from balancer.core.model import Task
from balancer.core.settings import PoolSettings
from balancer.embedded import EmbeddedRedis
from balancer.exchanges.room import with_room
from balancer.inputs import stored
from balancer.ledger import Pool
from balancer.ledger import submit as submits
from balancer.ledger.cancel import cancel
from balancer.ledger.exchange import Exchange, Pause, Round, answered
from balancer.ledger.tick import Memory, tick
from tests.support.factories import beat, changes, drain, make_task, submit


@pytest.fixture
def small(redis_client: redis.Redis) -> Pool:
    """Two tasks of a role may wait, of a cost of at most 5."""
    return Pool.create(redis_client, "small", PoolSettings(max_pending=2, max_cost=5))


@pytest.fixture
def producer(redis_server: EmbeddedRedis, small: Pool) -> Iterator[Balancer]:
    with Balancer(redis_server.url, small.name) as balancer:
        yield balancer


def sent(pool: Pool, task: Task, block_s: float) -> Exchange[None]:
    """What `Balancer.submit` does, apart from how it is carried."""
    stored((yield from with_room(lambda: submits.submit.steps(pool, [task]), block_s)))


def never(_: int) -> None:
    pytest.fail("it waits")


def in_own_time(
    pool: Pool, exchange: Exchange[Any], meanwhile: Callable[[int], None]
) -> list[float]:
    """Carry an exchange on a clock that only its pauses move; the pauses. `meanwhile` is told of each."""
    now, pauses = 0.0, list[float]()
    reply: Any = None
    while True:
        try:
            ask = exchange.send(reply)
        except StopIteration:
            return pauses
        if isinstance(ask, Pause):
            now += ask.seconds
            if ask.seconds:
                pauses.append(ask.seconds)
                meanwhile(len(pauses))
            reply = now
        else:
            reply = answered(pool.client, Round(ask))


def test_full_queue_says_how_full_and_for_how_long(producer: Balancer, small: Pool) -> None:
    submit(small, "t1", "t2")

    with changes(small) as seen, pytest.raises(QueueFull) as caught:
        producer.submit(id="t3", role="dev")

    full = caught.value
    assert seen.nothing
    assert (full.depth, full.limit, full.code, full.retryable) == (2, 2, "queue_full", True)
    assert 0 <= full.oldest_s < 60
    assert 0.1 <= full.retry_after_s < 60
    assert str(full).startswith("task 't3': its role's queue is full: 2 tasks wait (max_pending 2)")
    assert isinstance(full, Refused)


def test_nobody_is_called_for_what_was_refused(producer: Balancer, small: Pool) -> None:
    submit(small, "t1", "t2")

    with changes(small) as seen, pytest.raises(QueueFull):
        producer.submit(id="t3", role="dev", on_completion=print)

    assert seen.nothing
    assert producer._driver.watch.waited_for() == []


def test_submit_waits_for_room_and_takes_it(small: Pool) -> None:
    submit(small, "t1", "t2")

    def meanwhile(count: int) -> None:
        if count == 3:
            cancel(small, ["t1"])

    pauses = in_own_time(small, sent(small, make_task("t3"), 60), meanwhile)

    assert len(pauses) == 3
    assert small.client.hget(small.keys.task("t3"), "state") == "pending"


def test_submit_waits_no_longer_than_it_may(small: Pool) -> None:
    submit(small, "t1", "t2")
    pauses: list[float] = []

    with changes(small) as seen, pytest.raises(QueueFull):
        in_own_time(small, sent(small, make_task("t3"), 1.0), lambda _: pauses.append(1))

    assert seen.nothing
    assert 2 <= len(pauses) <= 10  # of 0.1 to 0.15 s each, and the rest of the second


def test_submit_comes_back_when_it_was_told_to_but_not_all_at_once(small: Pool) -> None:
    submit(small, "t1", "t2")
    small.client.zadd(small.keys.pending("dev"), {"t1": 0})  # it has waited for ever
    told_s = 60.0

    def first() -> float:
        steps = sent(small, make_task("t3"), 86_400)
        ask = next(steps)
        while not (isinstance(ask, Pause) and ask.seconds):
            ask = steps.send(0.0 if isinstance(ask, Pause) else answered(small.client, Round(ask)))
        return ask.seconds

    pauses = [first() for _ in range(20)]
    small.client.zadd(
        small.keys.pending("dev"), {"t1": small.client.hget(small.keys.task("t1"), "ready_us")}
    )

    assert all(told_s <= pause <= 1.5 * told_s for pause in pauses)
    assert len({round(pause, 3) for pause in pauses}) > 10


def test_what_waiting_would_not_help_is_said_at_once(small: Pool) -> None:
    with pytest.raises(Refused, match="max_cost of 5"):
        in_own_time(small, sent(small, make_task(cost=6), 60), never)


def test_submit_waits_for_memory_too(small: Pool) -> None:
    tick(small, memory=Memory(9, 10))

    def meanwhile(count: int) -> None:
        if count == 2:
            tick(small)

    assert len(in_own_time(small, sent(small, make_task(), 60), meanwhile)) == 2
    tick(small, memory=Memory(9, 10))
    with pytest.raises(RedisFull, match="memory is nearly full"):
        in_own_time(small, sent(small, make_task("t2"), 0), never)


@pytest.mark.parametrize("block_s", [math.inf, math.nan, -0.1, 86_401, True, "5"])
def test_wait_for_room_has_an_end(producer: Balancer, small: Pool, block_s: Any) -> None:
    with changes(small) as seen, pytest.raises(InvalidInput, match="block_s: "):
        producer.submit(role="dev", block_s=block_s)
    assert seen.nothing


def test_dedup_key_of_a_known_task_gives_its_id(producer: Balancer, small: Pool) -> None:
    first = producer.submit(role="dev", dedup_key="k")

    assert producer.submit(role="dev", dedup_key="k", payload=1) == first
    assert producer.submit(role="dev", dedup_key="k", block_s=1) == first


def test_queue_is_paused_resumed_and_purged(producer: Balancer, small: Pool) -> None:
    producer.submit(id="t1", role="dev")
    beat(small)
    for _ in range(2):
        producer.pause_queue("dev")
    assert producer.queues()[0].paused
    assert drain(small) == {}
    for _ in range(2):
        producer.resume_queue("dev")
    assert drain(small) == {"t1": "a1"}
    producer.submit(id="t2", role="dev")
    assert [producer.purge_queue("dev") for _ in range(2)] == [1, 0]
    assert producer.status("t2").reason == "purged"
    for call in (producer.pause_queue, producer.resume_queue, producer.purge_queue):
        with pytest.raises(NotFound, match="role 'ops'"):
            call("ops")
        with pytest.raises(InvalidInput, match="role: 'a:b'"):
            call("a:b")


def test_asyncio_door_has_the_same_rooms(redis_server: EmbeddedRedis, small: Pool) -> None:
    async def use() -> None:
        async with AsyncBalancer(redis_server.url, small.name) as producer:
            await producer.submit(id="t1", role="dev")
            await producer.submit(id="t2", role="dev", not_before="2150-01-01T00:00:00Z")
            with pytest.raises(QueueFull):
                await producer.submit(id="t3", role="dev", block_s=0.05)
            await producer.pause_queue("dev")
            (queue,) = await producer.queues()
            found = (queue.paused, queue.pending, queue.scheduled, queue.waiting, queue.max_pending)
            assert found == (True, 1, 1, 2, 2)
            await producer.resume_queue("dev")
            assert await producer.purge_queue("dev") == 2

    asyncio.run(use())
