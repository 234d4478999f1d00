"""The asyncio door: the calls of the blocking one, on a real server."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from balancer import (
    AsyncBalancer,
    Balancer,
    Conflict,
    InvalidInput,
    Misconfigured,
    NotFound,
    PoolMissing,
    Unavailable,
    WaitTimeout,
)
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.ledger.cancel import cancel
from tests.support.factories import assign, beat, changes, complete, connections, make_task, submit
from tests.support.wait import wait_until


@pytest.fixture
def run(redis_server: EmbeddedRedis, pool: Pool) -> Callable[..., Any]:
    """Runs one coroutine function with a producer of the pool."""

    def once(use: Callable[[AsyncBalancer], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            async with AsyncBalancer(redis_server.url, pool.name) as producer:
                return await use(producer)

        return asyncio.run(main())

    return once


def _calls(door: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(door, inspect.isfunction)
        if not name.startswith("_") and name != "pool"
    }


def test_both_doors_have_the_same_calls() -> None:
    assert _calls(AsyncBalancer) == _calls(Balancer)
    assert all(
        inspect.iscoroutinefunction(getattr(AsyncBalancer, name)) for name in _calls(AsyncBalancer)
    )


def test_a_tasks_life(run: Callable[..., Any], pool: Pool) -> None:
    async def life(producer: AsyncBalancer) -> None:
        assert await producer.submit(id="t1", role="dev", payload={"a": 1}) == "t1"
        with changes(pool) as changed:
            assert await producer.submit(id="t1", role="dev", payload={"a": 1}) == "t1"
        assert changed.nothing
        with pytest.raises(Conflict, match="'t1'"):
            await producer.submit(id="t1", role="ops")
        answers = await producer.submit_many([make_task("t2"), make_task("t3")])
        assert [answer.outcome.value for answer in answers] == ["accepted"] * 2
        assert (await producer.status("t1")).body == {"payload": {"a": 1}}
        await producer.cancel("t3", "not needed")
        with pytest.raises(WaitTimeout, match="still pending"):
            await producer.wait("t1", 0.03)
        beat(pool)
        assign(pool, "t1")
        assert (await producer.agents())[0].used == 1
        complete(pool, result="42")
        assert (await producer.wait("t1", 5)).state == "completed"
        assert await producer.result("t1") == 42
        states = [s and s.state.value for s in await producer.statuses(["t1", "t2", "t3", "t4"])]
        assert states == ["completed", "pending", "cancelled", None]
        assert (await producer.why("t1")).code == "completed"
        assert (await producer.why("t2")).goes_to == "a1"
        assert (await producer.load_metrics()).queued_tasks == 1
        assert [(q.role, q.pending) for q in await producer.queues()] == [("dev", 1)]

    run(life)


def test_bad_input_stores_nothing(run: Callable[..., Any], pool: Pool) -> None:
    async def bad(producer: AsyncBalancer) -> None:
        with changes(pool) as changed:
            with pytest.raises(InvalidInput, match=r"role.*not a name"):
                await producer.submit(role="a:b")
            with pytest.raises(InvalidInput, match="timeout_s"):
                await producer.wait("t1", float("nan"))
            with pytest.raises(NotFound, match="'t1'"):
                await producer.status("t1")
            with pytest.raises(NotFound, match="'t1'"):
                await producer.why("t1")
        assert changed.nothing

    run(bad)


def test_scripts_that_the_server_lost_are_sent_again(run: Callable[..., Any], pool: Pool) -> None:
    async def flushed(producer: AsyncBalancer) -> None:
        pool.client.script_flush()
        answers = await producer.submit_many(make_task(f"t{n}") for n in range(401))
        assert {answer.outcome.value for answer in answers} == {"accepted"}

    run(flushed)


def test_a_call_that_is_cancelled_ends_at_whatever_moment_that_comes(
    run: Callable[..., Any],
) -> None:
    async def cancelled(producer: AsyncBalancer) -> None:
        await producer.submit(id="t1", role="dev")
        for steps in range(60):
            calls = [
                asyncio.create_task(producer.submit(role="dev")),
                asyncio.create_task(producer.wait("t1", 60)),
            ]
            for _ in range(steps):
                await asyncio.sleep(0)
            asked = [call for call in calls if call.cancel()]
            _, left = await asyncio.wait(calls, timeout=5)
            assert not left, f"cancelled after {steps} steps"
            assert [call.cancelled() for call in asked] == [True] * len(asked), steps
        assert await producer.submit(id="t2", role="dev") == "t2"

    run(cancelled)


def test_no_pool_no_redis_no_address(redis_server: EmbeddedRedis, pool: Pool) -> None:
    async def main() -> None:
        with pytest.raises(PoolMissing, match="'other'"):
            async with AsyncBalancer(redis_server.url, "other"):
                pass
        with pytest.raises(Unavailable):
            async with AsyncBalancer("redis://127.0.0.1:1", deadline_s=0.1):
                pass
        with pytest.raises(Misconfigured, match="redis_url: the scheme"):
            AsyncBalancer("http://localhost")
        with pytest.raises(InvalidInput, match="pool"):
            AsyncBalancer(redis_server.url, "a{b}")

    asyncio.run(main())


def test_a_pool_is_opened_by_the_first_call_and_once(
    redis_server: EmbeddedRedis, pool: Pool
) -> None:
    async def main() -> None:
        producer = AsyncBalancer(redis_server.url, pool.name)
        await asyncio.gather(*(producer.submit(id=f"t{n}", role="dev") for n in range(50)))
        assert await producer.pool() is await producer.pool()
        assert (await producer.load_metrics()).queued_tasks == 50
        await producer.close()

    asyncio.run(main())


def test_a_callback_that_is_due_when_a_producer_closes_may_still_call_it(
    run: Callable[..., Any], pool: Pool
) -> None:
    submit(pool, "t1")
    cancel(pool, ["t1"])

    async def closes(producer: AsyncBalancer) -> None:
        await producer.on_completion("t1", lambda status: producer.submit(id="t2", role="dev"))

    run(closes)
    assert pool.client.hget(pool.keys.task("t2"), "state") == "pending"


def test_a_producer_that_was_closed_takes_nothing(redis_server: EmbeddedRedis, pool: Pool) -> None:
    before = connections(pool.client)

    async def main() -> None:
        opened, never_opened = (AsyncBalancer(redis_server.url, pool.name) for _ in range(2))
        await opened.pool()
        for producer in (opened, never_opened):
            await producer.close()
            await producer.close()
            with changes(pool) as changed:
                for call in (
                    producer.submit(role="dev"),
                    producer.submit_many([make_task("t1")]),
                    producer.load_metrics(),
                ):
                    with pytest.raises(Unavailable, match="this client was closed"):
                        await call
            assert changed.nothing

    asyncio.run(main())
    wait_until(lambda: connections(pool.client) <= before, "no connection is left")
