"""Waiting without polling: who is told, when, by whom, and what it costs. On a real server."""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from typing import Any, TypeVar

import pytest
import structlog

from balancer import (
    AsyncBalancer,
    Balancer,
    InvalidInput,
    NotFound,
    TaskStatus,
    Unavailable,
    WaitTimeout,
)
from balancer.embedded import EmbeddedRedis
from balancer.exchanges import waiting, watching
from balancer.ledger import Pool
from balancer.ledger import cancel as cancelling
from balancer.ledger.exchange import Exchange, Pause, Round, answered
from balancer.ledger.reclaim import reclaim
from balancer.ledger.release import release
from balancer.ledger.timeout import timeout
from balancer.protocol import connect
from tests.support.durable import KEPT
from tests.support.factories import Clock, assign, beat, complete, connections, make_task, submit
from tests.support.wait import async_wait_until, wait_until

T = TypeVar("T")


@pytest.fixture(autouse=True)
def short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader ends soon after its client was closed."""
    monkeypatch.setattr(watching, "BLOCK_S", 0.2)


@pytest.fixture
def no_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read again: only an event can tell."""
    monkeypatch.setattr(watching, "SWEEP_S", 1e6)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


@pytest.fixture
def producer(redis_server: EmbeddedRedis, pool: Pool) -> Iterator[Balancer]:
    with Balancer(redis_server.url, pool.name) as balancer:
        yield balancer
    wait_until(lambda: readers(pool) == 0, "its reader has ended")


def readers(pool: Pool) -> int:
    """Clients that sit in a blocking read of a stream."""
    return sum(
        client["cmd"] == "xread" and "b" in client["flags"] for client in pool.client.client_list()
    )


def listening(pool: Pool) -> bool:
    """Whether there is one."""
    return readers(pool) > 0


def calls(pool: Pool) -> dict[str, int]:
    """Commands that the server has run so far."""
    stats = pool.client.info("commandstats")
    return {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}


def waits(
    threads: ThreadPoolExecutor, producer: Balancer, *ids: str, timeout_s: float = 12
) -> list[Future[TaskStatus]]:
    """Threads that wait, once the reader of their client sits there."""
    futures = [threads.submit(producer.wait, id_, timeout_s) for id_ in ids]
    watch = producer._driver.watch
    wait_until(lambda: set(watch.waited_for()) >= set(ids), "all wait")
    wait_until(lambda: listening(producer.pool), "the reader reads")
    return futures


def outcome(future: Future[T]) -> T:
    """What a thread's wait came to, before it gave up: then it would have looked for itself."""
    wait_until(future.done, "the wait is over", 10)
    return future.result()


def completed(pool: Pool, _: Clock) -> None:
    complete(pool)


def failed(pool: Pool, _: Clock) -> None:
    complete(pool, status="failed")


def ran_too_long(pool: Pool, clock: Clock) -> None:
    clock.advance(60)
    timeout(pool)


def lost(pool: Pool, clock: Clock) -> None:
    clock.advance(60)
    beat(pool, "a2")
    reclaim(pool, "a1")


def cancelled(pool: Pool, _: Clock) -> None:
    cancelling.cancel(pool, ["t2"])


def parent_failed(pool: Pool, _: Clock) -> None:
    complete(pool, status="failed")
    release(pool)


@pytest.mark.usefixtures("no_sweeps")
@pytest.mark.parametrize(
    ("end", "task", "state"),
    [
        (completed, "t1", "completed"),
        (failed, "t1", "dead"),
        (ran_too_long, "t1", "dead"),
        (lost, "t1", "dead"),
        (cancelled, "t2", "cancelled"),
        (parent_failed, "t2", "dead"),
    ],
)
def test_every_end_of_a_task_wakes_who_waits(
    redis_server: EmbeddedRedis,
    virtual_pool: Pool,
    clock: Clock,
    threads: ThreadPoolExecutor,
    *,
    end: Callable[[Pool, Clock], None],
    task: str,
    state: str,
) -> None:
    submit(
        virtual_pool,
        make_task("t1", max_failures=1, run_timeout_s=1.0),
        make_task("t2", depends_on=("t1",)),
    )
    beat(virtual_pool)
    assign(virtual_pool)
    virtual_pool.client.hset(virtual_pool.keys.task("t1"), "losses", 2)  # its last life
    with Balancer(redis_server.url, virtual_pool.name) as producer:
        (future,) = waits(threads, producer, task)
        end(virtual_pool, clock)
        assert outcome(future).state == state
    wait_until(lambda: readers(virtual_pool) == 0, "its reader has ended")


def test_a_lost_event_costs_a_sweep(
    producer: Balancer,
    pool: Pool,
    threads: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "SWEEP_S", 0.2)
    submit(pool, "t1")
    (future,) = waits(threads, producer, "t1")
    # The event is written and trimmed in one transaction: no reader ever sees it.
    pipe = pool.client.pipeline(transaction=True)
    call = pool.call(cancelling.SCRIPT, ["gone", "t1"])
    pipe.execute_command(*call)
    pipe.xtrim(pool.keys.events, maxlen=0)
    pool.client.script_load(call.script.text)
    pipe.execute()
    assert pool.client.xlen(pool.keys.events) == 0
    assert outcome(future).reason == "gone"


@pytest.mark.usefixtures("no_sweeps")
def test_waiting_costs_nothing_while_nothing_happens(
    producer: Balancer, pool: Pool, threads: ThreadPoolExecutor
) -> None:
    submit(pool, *(f"t{n}" for n in range(8)))
    futures = waits(threads, producer, *(f"t{n}" for n in range(8)))
    own = {"info", "client|list", "client", "xread"}  # of this test, and the reader's

    def costs_nothing() -> bool:
        before = calls(pool)
        wait_until(lambda: calls(pool)["xread"] >= before["xread"] + 2, "the reader has read twice")
        after = calls(pool)
        return all(n == before.get(k) for k, n in after.items() if k not in own)

    # Each looks once for itself when it begins to wait, some of them a moment late.
    wait_until(costs_nothing, "nothing is asked but what the reader reads")
    after = calls(pool)
    cancelling.cancel(pool, [f"t{n}" for n in range(8)])
    assert {outcome(future).state.value for future in futures} == {"cancelled"}
    # One round trip for all: eight states, then the eight tasks.
    assert calls(pool)["hget"] == after.get("hget", 0) + 8


def test_one_who_waits_for_what_has_ended_starts_no_reader(producer: Balancer, pool: Pool) -> None:
    submit(pool, "t1")
    cancelling.cancel(pool, ["t1"])
    assert producer.wait("t1", 0).state == "cancelled"
    assert not producer._driver.watch._listened


@pytest.mark.usefixtures("no_sweeps")
def test_who_comes_later_shares_the_reader_and_it_ends_after_the_last(
    producer: Balancer,
    pool: Pool,
    threads: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "LINGER_S", 0.02)
    submit(pool, "t1", "t2", "t3")
    (first,) = waits(threads, producer, "t1")
    (second,) = waits(threads, producer, "t2")
    wait_until(lambda: readers(pool) == 1, "one reads for both")
    cancelling.cancel(pool, ["t1", "t2"])
    assert (outcome(first).id, outcome(second).id) == ("t1", "t2")
    wait_until(lambda: not producer._driver.watch._listened, "the reader has ended")
    (third,) = waits(threads, producer, "t3")
    cancelling.cancel(pool, ["t3"])
    assert outcome(third).id == "t3"


@pytest.mark.usefixtures("no_sweeps")
def test_an_end_between_the_look_and_the_registration_is_seen(
    producer: Balancer, pool: Pool, threads: ThreadPoolExecutor
) -> None:
    submit(pool, "t1", "t2")
    (other,) = waits(threads, producer, "t2")
    seen: list[Any] = []
    exchange = waiting.follow(pool, producer._driver.watch, {"t1": seen.append})
    asks = next(exchange)
    assert not isinstance(asks, Pause)
    replies = answered(pool.client, Round(asks))  # it is pending
    cancelling.cancel(pool, ["t1"])
    cancelling.cancel(pool, ["t2"])
    outcome(other)  # the reader is past the event of t1, too

    def rest() -> Exchange[None]:
        with suppress(StopIteration):
            reply: Any = replies
            while True:
                reply = yield exchange.send(reply)

    pool.say(rest())
    assert [status.state.value for status in seen] == ["cancelled"]


def test_wait_many_answers_in_order_and_names_the_first_that_is_late(
    producer: Balancer, pool: Pool, threads: ThreadPoolExecutor
) -> None:
    submit(pool, "t1", "t2", "t3")
    future = threads.submit(producer.wait_many, ["t3", "t1", "t3"], 20)
    wait_until(lambda: listening(pool), "the reader reads")
    cancelling.cancel(pool, ["t1", "t3"])
    assert [status.id for status in outcome(future)] == ["t3", "t1", "t3"]
    with pytest.raises(WaitTimeout, match=r"'t2' is still pending after 0\.05 s"):
        producer.wait_many(["t1", "t2"], 0.05)
    with pytest.raises(NotFound, match="'nope'"):
        producer.wait_many(["t1", "nope"], 5)
    assert producer.wait_many([], 5) == []
    assert producer._driver.watch.waited_for() == []


def test_a_task_that_is_forgotten_while_somebody_waits(
    producer: Balancer,
    pool: Pool,
    threads: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    request.applymarker(pytest.mark.damaged)
    monkeypatch.setattr(watching, "SWEEP_S", 0.1)
    submit(pool, "t1")
    (future,) = waits(threads, producer, "t1")
    pool.client.delete(pool.keys.task("t1"))
    with pytest.raises(NotFound, match="'t1'"):
        outcome(future)


def test_closing_the_client_ends_every_wait(
    producer: Balancer, pool: Pool, threads: ThreadPoolExecutor
) -> None:
    submit(pool, "t1")
    (future,) = waits(threads, producer, "t1")
    producer.close()
    with pytest.raises(Unavailable, match="closed"):
        outcome(future)
    wait_until(lambda: not listening(pool), "the reader has ended")


def test_waits_outlive_a_restart_of_redis(threads: ThreadPoolExecutor) -> None:
    with EmbeddedRedis(appendonly=True, config=KEPT) as server:
        pool = Pool.create(connect(server.url), "p")
        submit(pool, "t1", "t2")
        with (
            Balancer(server.url, "p") as producer,
            Balancer(server.url, "p", deadline_s=0.05) as hasty,
        ):
            (future,) = waits(threads, producer, "t1")
            (short,) = waits(threads, hasty, "t2", timeout_s=1)
            server.kill()
            # While Redis is away nobody can say how it stands.
            with pytest.raises(Unavailable):
                outcome(short)
            server.restart()
            cancelling.cancel(pool, ["t1"])
            assert outcome(future).state == "cancelled"


def _child(url: str, connection: Any, producer: Balancer) -> None:
    connection.send("up")
    connection.send(producer.wait("t2", 20).state.value)


@pytest.mark.usefixtures("no_sweeps")
def test_a_forked_process_has_a_reader_of_its_own(
    redis_server: EmbeddedRedis, producer: Balancer, pool: Pool, threads: ThreadPoolExecutor
) -> None:
    submit(pool, "t1", "t2")
    (future,) = waits(threads, producer, "t1")
    context = get_context("fork")
    here, there = context.Pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that forks and threads mix badly
        child = context.Process(target=_child, args=(redis_server.url, there, producer))
        child.start()
    assert here.recv() == "up"
    wait_until(lambda: readers(pool) == 2, "parent and child read")
    cancelling.cancel(pool, ["t1", "t2"])
    assert here.poll(10)
    assert here.recv() == "cancelled"
    child.join(10)
    assert outcome(future).id == "t1"


def test_callbacks_get_the_final_status_once_and_their_errors_stop_nothing(
    producer: Balancer, pool: Pool
) -> None:
    seen: list[tuple[str, TaskStatus]] = []

    def broken(status: TaskStatus) -> None:
        seen.append(("broken", status))
        raise ValueError("no")

    with structlog.testing.capture_logs() as logs:
        producer.submit(id="t1", role="dev", on_completion=broken)
        producer.submit_many([make_task("t2")], on_completion=lambda s: seen.append(("many", s)))
        producer.on_completion(["t1", "t2"], lambda s: seen.append(("both", s)))
        cancelling.cancel(pool, ["t1"])
        cancelling.cancel(pool, ["t2"])
        producer.on_completion("t2", lambda s: seen.append(("late", s)))
        wait_until(lambda: len(seen) >= 5, "all are called")
        producer.close()
    assert sorted((who, status.id, status.state.value) for who, status in seen) == [
        ("both", "t1", "cancelled"),
        ("both", "t2", "cancelled"),
        ("broken", "t1", "cancelled"),
        ("late", "t2", "cancelled"),
        ("many", "t2", "cancelled"),
    ]
    failed = [row for row in logs if row["event"] == "callback_failed"]
    assert [row["task_id"] for row in failed] == ["t1"]


def test_a_callback_that_exits_keeps_none_from_being_called(producer: Balancer, pool: Pool) -> None:
    seen: list[str] = []

    def exits(status: TaskStatus) -> None:
        seen.append(status.id)
        sys.exit("no")

    with structlog.testing.capture_logs() as logs:
        producer.submit_many([make_task("t1"), make_task("t2")])
        producer.on_completion(["t1", "t2"], exits)
        cancelling.cancel(pool, ["t1", "t2"])
        wait_until(lambda: len(seen) == 2, "both are called")
        producer.close()
    failed = [row for row in logs if row["event"] == "callback_failed"]
    assert [row["task_id"] for row in failed] == ["t1", "t2"]


def test_callbacks_that_cannot_be(producer: Balancer, pool: Pool) -> None:
    not_callable: Any = 5
    with pytest.raises(InvalidInput, match="on_completion: 5 cannot be called"):
        producer.submit(id="t1", role="dev", on_completion=not_callable)
    assert pool.client.exists(pool.keys.task("t1")) == 0
    with pytest.raises(NotFound, match="'t1'"):
        producer.on_completion("t1", print)
    assert producer._driver.watch.waited_for() == []


def test_closing_calls_what_is_due_and_says_what_it_drops(producer: Balancer, pool: Pool) -> None:
    seen: list[str] = []
    submit(pool, "t1", "t2")
    cancelling.cancel(pool, ["t1"])
    with structlog.testing.capture_logs() as logs:
        producer.on_completion(["t1", "t2"], lambda status: seen.append(status.id))
        producer.close()
    assert seen == ["t1"]
    assert [row["event"] for row in logs] == ["callback_dropped"]


@pytest.mark.usefixtures("no_sweeps")
def test_thousands_wait_in_one_event_loop(redis_server: EmbeddedRedis, pool: Pool) -> None:
    names = [f"t{n}" for n in range(1_000)]

    async def main() -> None:
        async with AsyncBalancer(redis_server.url, pool.name) as producer:
            await producer.submit_many({"id": name, "role": "dev"} for name in names)
            waits = [asyncio.ensure_future(producer.wait(name, 60)) for name in names]
            watch = producer._driver.watch
            await async_wait_until(lambda: len(watch.waited_for()) == len(names), "all wait", 30)
            await async_wait_until(lambda: readers(pool) == 1, "one reads for all")
            for start in range(0, len(names), 200):
                cancelling.cancel(pool, names[start : start + 200])
            assert [status.id for status in await asyncio.gather(*waits)] == names
            assert watch.waited_for() == []

    asyncio.run(main())


def test_a_cancelled_await_waits_no_more_and_harms_no_other(
    redis_server: EmbeddedRedis, pool: Pool
) -> None:
    async def main() -> None:
        async with AsyncBalancer(redis_server.url, pool.name) as producer:
            submit(pool, "t1", "t2")
            given_up = asyncio.ensure_future(producer.wait("t1", 30))
            kept = asyncio.ensure_future(producer.wait("t2", 30))
            watch = producer._driver.watch
            await async_wait_until(lambda: len(watch.waited_for()) == 2, "both wait")
            given_up.cancel()
            await asyncio.wait([given_up])
            assert watch.waited_for() == ["t2"]
            cancelling.cancel(pool, ["t1", "t2"])
            assert (await kept).id == "t2"

    asyncio.run(main())


@pytest.mark.usefixtures("no_sweeps")
def test_a_reader_that_was_cancelled_is_replaced(redis_server: EmbeddedRedis, pool: Pool) -> None:
    async def main() -> None:
        async with AsyncBalancer(redis_server.url, pool.name) as producer:
            submit(pool, "t1")
            for _ in range(2):
                given_up = asyncio.ensure_future(producer.wait("t1", 12))
                await async_wait_until(lambda: listening(pool), "the reader reads")
                if (reader := producer._driver._listening) and not given_up.done():
                    reader.cancel()
                    await asyncio.wait([reader])
                given_up.cancel()
                await asyncio.wait([given_up])
            last = asyncio.ensure_future(producer.wait("t1", 12))
            await async_wait_until(lambda: listening(pool), "the reader reads")
            cancelling.cancel(pool, ["t1"])
            assert (await asyncio.wait_for(last, 5)).state == "cancelled"

    asyncio.run(asyncio.wait_for(main(), 15))


@pytest.mark.usefixtures("no_sweeps")
def test_a_client_that_closes_as_its_reader_ends_leaves_no_connection_open(
    redis_server: EmbeddedRedis, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LINGER_S", 0.0)

    async def main() -> None:
        before = connections(pool.client)
        for turns in range(25):
            task = f"t{turns}"
            async with AsyncBalancer(redis_server.url, pool.name) as producer:
                submit(pool, task)
                wait = asyncio.ensure_future(producer.wait(task, 10))
                await async_wait_until(lambda: listening(pool), "the reader reads")
                cancelling.cancel(pool, [task])
                await wait
                for _ in range(turns):  # until the loop has come to this or that step of the end
                    await asyncio.sleep(0)
            await async_wait_until(
                lambda: connections(pool.client) <= before, f"all are closed ({turns})"
            )

    asyncio.run(main())


def test_asyncio_callbacks_may_be_functions_or_coroutines(
    redis_server: EmbeddedRedis, pool: Pool
) -> None:
    seen: list[tuple[str, str]] = []

    async def awaited(status: TaskStatus) -> None:
        await asyncio.sleep(0)
        seen.append(("awaited", status.id))

    async def broken(_: TaskStatus) -> None:
        raise ValueError("no")

    async def main() -> None:
        async with AsyncBalancer(redis_server.url, pool.name) as producer:
            await producer.submit(id="t1", role="dev", on_completion=broken)
            await producer.submit_many([make_task("t2")], on_completion=awaited)
            await producer.on_completion(["t1", "t2"], lambda s: seen.append(("plain", s.id)))
            await producer.cancel("t1")
            await producer.cancel("t2")
            await producer.wait_many(["t1", "t2"], 10)
            await async_wait_until(lambda: len(seen) >= 3, "all are called")

    with structlog.testing.capture_logs() as logs:
        asyncio.run(main())
    assert sorted(seen) == [("awaited", "t2"), ("plain", "t1"), ("plain", "t2")]
    assert [(row["event"], row["task_id"]) for row in logs] == [("callback_failed", "t1")]
