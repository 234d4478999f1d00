"""What a producer does to a task's life: a new one, another place, a look back; by either door."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from balancer import AsyncBalancer, Balancer
from balancer.core.errors import InvalidInput, NotFound
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.ledger.release import release
from tests.support.factories import assign, beat, complete, make_task, submit


@pytest.fixture
def producer(redis_server: EmbeddedRedis, pool: Pool) -> Iterator[Balancer]:
    with Balancer(redis_server.url, pool.name) as client:
        yield client


def die(pool: Pool, *names: str, role: str = "dev") -> None:
    """These tasks of the role fail for good; they are submitted where they are not there yet."""
    submit(pool, *(make_task(name, role, max_failures=1) for name in names))
    beat(pool, f"{role}-1", role=role, max_concurrent=1_000)
    for name in names:
        assign(pool, name, f"{role}-1")
        complete(pool, name, "failed")


def states(producer: Balancer, *names: str) -> list[str]:
    return [status.state.value for status in producer.statuses(names) if status]


def test_retry_and_what_it_answers(producer: Balancer, pool: Pool) -> None:
    die(pool, "t1")
    submit(pool, "t2")
    answers = producer.retry(["t1", "t2", "nobody"])
    assert [(one.outcome.value, one.state) for one in answers] == [
        ("retried", "dead"), ("already", "pending"), ("unknown", ""),
    ]  # fmt: skip
    status = producer.status("t1")
    assert (status.state, status.failures, status.reason) == ("pending", 0, "")
    [tried] = producer.history("t1")
    assert (tried.agent, tried.how) == ("dev-1", "failed")
    assert tried.granted_at <= tried.ended_at


def test_retry_of_all_that_is_dead_goes_beyond_a_page(producer: Balancer, pool: Pool) -> None:
    names = [f"t{n}" for n in range(450)]
    die(pool, *names)
    die(pool, "o1", "o2", role="ops")

    assert producer.retry_dead(role="ops", reason="lost") == 0
    assert producer.retry_dead(role="ops") == 2
    assert producer.retry_dead(reason="failed") == 450
    assert producer.retry_dead() == 0
    assert set(states(producer, *names)) == {"pending"}


def test_retry_of_all_that_is_dead_comes_to_children_after_their_parents(
    producer: Balancer, pool: Pool
) -> None:
    """The child died first, of another parent."""
    submit(pool, make_task("a", max_failures=1), make_task("b", max_failures=1))
    submit(pool, make_task("child", depends_on=("a", "b")))
    die(pool, "a")
    release(pool)
    die(pool, "b")

    assert producer.retry_dead(reason="parent_failed") == 0
    assert producer.retry_dead() == 3
    assert states(producer, "a", "b", "child") == ["pending", "pending", "blocked"]


def test_retry_passes_over_those_that_are_not_wanted(producer: Balancer, pool: Pool) -> None:
    """The unwanted ones fill more than a page before the first that is wanted."""
    die(pool, *(f"t{n}" for n in range(250)))
    die(pool, "o1", role="ops")
    die(pool, *(f"u{n}" for n in range(250)))

    assert producer.retry_dead(role="ops") == 1
    assert states(producer, "t0", "o1", "u249") == ["dead", "pending", "dead"]


def test_the_queue_tells_how_many_are_dead_now(producer: Balancer, pool: Pool) -> None:
    die(pool, "t1", "t2")
    producer.retry(["t1"])
    assert [(queue.role, queue.dead) for queue in producer.queues()] == [("dev", 1)]


def test_reprioritise(producer: Balancer, pool: Pool) -> None:
    submit(pool, "t1", "t2")
    assert [one.outcome.value for one in producer.reprioritise(["t2", "t1"], "high")] == [
        "moved"
    ] * 2
    assert producer.status("t2").priority == "high"
    with pytest.raises(InvalidInput, match="priority: 'urgent' is none of critical, high"):
        producer.reprioritise(["t1"], "urgent")


def test_nothing_known_and_nothing_asked(producer: Balancer) -> None:
    with pytest.raises(NotFound):
        producer.history("nobody")
    with pytest.raises(InvalidInput, match="task id"):
        producer.retry(["a*"])
    with pytest.raises(InvalidInput, match="role"):
        producer.retry_dead(role="a*")
    assert producer.retry([]) == []
    assert producer.reprioritise([], "low") == []


def test_by_the_asyncio_door(redis_server: EmbeddedRedis, pool: Pool) -> None:
    die(pool, "t1", "t2")
    submit(pool, "t3")
    beat(pool, "a1")
    assign(pool, "t3", "a1")

    async def talk() -> list[Any]:
        async with AsyncBalancer(redis_server.url, pool.name) as door:
            retried = await door.retry(["t1"])
            return [
                retried[0].outcome.value,
                await door.retry_dead(),
                (await door.reprioritise(["t1"], "low"))[0].outcome.value,
                (await door.history("t1"))[0].how,
                await door.cancel("t3"),
                (await door.status("t3")).cancelling,
            ]

    assert asyncio.run(talk()) == ["retried", 1, "moved", "failed", False, True]
