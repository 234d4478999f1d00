"""Drives exchanges with asyncio: a call suspends the task that made it. One task reads for all who
wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog
from redis.exceptions import RedisError

from balancer.exchanges.opening import PatientRound
from balancer.exchanges.watching import BLOCK_S, CLOSE_S, Callback, Deliver, Ended, Watch, closed
from balancer.inputs import check_seconds
from balancer.ledger.exchange import Asks, Command, Exchange, Pause, Round, T
from balancer.ledger.pool import PoolRef
from balancer.ledger.read_tasks import TaskStatus
from balancer.protocol.address import parse_address
from balancer.protocol.connect import TextRedis, connect_async

log = structlog.get_logger("balancer")


class AsyncDriver:
    """Carries exchanges to one Redis, for one event loop.

    Args:
        url: where Redis is.
        pool: name of the pool; a Cluster is asked for the node that owns it.
        deadline_s: how long a round trip is tried while Redis cannot answer.

    Raises:
        Misconfigured: the address breaks a rule.
    """

    def __init__(self, url: str, pool: str, deadline_s: float) -> None:
        check_seconds("deadline_s", deadline_s)
        self._url, self._name, self._deadline_s = url, pool, deadline_s
        self._wait_replicas = parse_address(url).wait_replicas
        self.client = connect_async(url, pool=pool)
        self.watch = Watch(self._start)
        #: The reader that reads, and all that have not given their connection back yet.
        self._listening: asyncio.Task[None] | None = None
        self._readers: set[asyncio.Task[None]] = set()
        self._called: set[asyncio.Task[None]] = set()
        self._closed = False

    async def run(self, exchange: Exchange[T]) -> T:
        """The answer of an exchange.

        Raises:
            Unavailable: it was closed.
        """
        if self._closed:
            raise closed()  # the client itself would connect anew
        return await drive(self.client, exchange, self._round)

    def signal(self) -> asyncio.Event:
        """What a call waits for."""
        return asyncio.Event()

    def deliver_to(self, callback: Callback) -> Deliver:
        """What calls a callback with the end of a task, in a task of its own."""

        def deliver(ended: Ended) -> None:
            if not isinstance(ended, TaskStatus):
                log.warning("callback_dropped", text=str(ended)[:200])
                return
            called = asyncio.create_task(_call(callback, ended))
            self._called.add(called)  # the loop itself keeps no hold of it
            called.add_done_callback(self._called.discard)

        return deliver

    async def close(self) -> None:
        """Give the connections back. Callbacks of tasks that have ended are called first."""
        self.watch.close()
        if self._listening:
            self._listening.cancel()
        if self._readers:
            await asyncio.wait(self._readers)
        due = self._called - {asyncio.current_task()}
        if due:
            await asyncio.wait(due, timeout=CLOSE_S)
        self._closed = True  # not before: callbacks that are due may ask something
        await self.client.aclose()

    def _round(self, asks: Asks) -> PatientRound:
        return PatientRound(asks, self._deadline_s, self._wait_replicas)

    def _start(self, pool: PoolRef) -> None:
        self._listening = asyncio.create_task(self._listen(pool), name="balancer-waits")
        self._readers.add(self._listening)
        self._listening.add_done_callback(self._readers.discard)

    async def _listen(self, pool: PoolRef) -> None:
        async with connect_async(self._url, pool=self._name, block_s=BLOCK_S) as reader:
            try:
                await drive(reader, self.watch.listen(pool))
            finally:
                # Whoever cancelled it while it gives its connection back would leave that open.
                self._listening = None


async def _call(callback: Callback, status: TaskStatus) -> None:
    try:
        answer = callback(status)
        if hasattr(answer, "__await__"):
            await answer
    except Exception:
        log.exception("callback_failed", task_id=status.id)


async def drive(
    client: TextRedis, exchange: Exchange[T], begin: Callable[[Asks], Round] = Round
) -> T:
    """Carry it over an asyncio client; the twin of `balancer.ledger.exchange.drive`."""
    reply: Any = None
    error: Exception | None = None
    try:
        while True:
            step = exchange.throw(error) if error else exchange.send(reply)
            error = None
            try:
                if isinstance(step, Pause):
                    reply = await _pause(step)
                else:
                    reply = await _answered(client, begin(step))
            except Exception as caught:
                error = caught
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        exchange.close()


async def _answered(client: TextRedis, trip: Round) -> list[Any]:
    while (delay_s := trip.heard(await _sent(client, trip.commands))) is not None:
        if delay_s:
            await asyncio.sleep(delay_s)
    return trip.answers


async def _pause(step: Pause) -> float:
    if isinstance(step.until, asyncio.Event):
        with suppress(TimeoutError):
            async with asyncio.timeout(step.seconds):
                await step.until.wait()
    elif step.seconds > 0:
        await asyncio.sleep(step.seconds)
    return time.monotonic()


async def _sent(client: TextRedis, commands: Sequence[Command]) -> list[Any]:
    """What came back; an error stands where its reply would."""
    task = asyncio.current_task()
    assert task is not None
    cancelled = task.cancelling()
    try:
        if len(commands) == 1:
            replies = [await client.execute_command(*commands[0])]
        else:
            pipe = client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            replies = await pipe.execute(raise_on_error=False)
    except (RedisError, UnicodeError) as error:
        replies = [error] * len(commands)
    # The client sends by wait_for, which before Python 3.12 forgets a cancellation that comes as it ends.
    if task.cancelling() > cancelled:
        raise asyncio.CancelledError
    return replies
