"""Drives exchanges in virtual time: while a call waits, the pool goes on."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any

import structlog

from balancer.exchanges.awaiting import AsyncDriver
from balancer.exchanges.blocking import BlockingDriver
from balancer.exchanges.watching import Callback, Deliver, Ended, Watch
from balancer.ledger.exchange import Exchange, Pause, T, drive
from balancer.ledger.read_tasks import TaskStatus
from balancer.protocol.connect import TextRedis

log = structlog.get_logger("balancer")


class VirtualDriver(BlockingDriver):
    """Carries exchanges to a fake Redis of this process.

    Args:
        client: from `fake_redis`.
        now_s: the time of the pool, seconds.
        pause: lets the pool go on for so long, or until the signal is set.
    """

    def __init__(
        self, client: TextRedis, now_s: Callable[[], float], pause: Callable[[Pause], None]
    ) -> None:
        self.client, self._now_s, self._pause = client, now_s, pause
        self._closed = False
        self.watch = Watch(lambda _pool: None)  # the pool looks for itself after each of its steps

    def run(self, exchange: Exchange[T]) -> T:
        """The answer of an exchange. A fake Redis always answers: nothing is sent twice."""
        self.check_open()
        return drive(self.client, exchange, pause=self._paused)

    def _paused(self, step: Pause) -> float:
        self._pause(step)
        return self._now_s()

    def signal(self) -> threading.Event:
        """What a call waits for."""
        return threading.Event()

    def deliver_to(self, callback: Callback) -> Deliver:
        """What calls a callback at once; a coroutine is run to its end."""

        def deliver(ended: Ended) -> None:
            if not isinstance(ended, TaskStatus):
                log.warning("callback_dropped", text=str(ended)[:200])
                return
            try:
                answer = callback(ended)
                if inspect.iscoroutine(answer):
                    finished(answer)
            except Exception:
                log.exception("callback_failed", task_id=ended.id)

        return deliver

    def close(self) -> None:
        """Forget everything."""
        self.watch.close()
        self._closed = True
        self.client.close()


class AwaitedDriver(AsyncDriver):
    """The same for an AsyncBalancer: its calls end before they return to the event loop."""

    def __init__(self, driver: VirtualDriver) -> None:
        self._driver = driver
        self.client, self.watch = driver.client, driver.watch

    def signal(self) -> Any:
        """What a call waits for."""
        return self._driver.signal()

    def deliver_to(self, callback: Callback) -> Deliver:
        """What calls a callback at once."""
        return self._driver.deliver_to(callback)

    async def run(self, exchange: Exchange[T]) -> T:
        """The answer of an exchange."""
        return self._driver.run(exchange)

    async def close(self) -> None:
        """The pool itself stays."""


def finished(coroutine: Any) -> Any:
    """What a coroutine returns, run to its end here, whether or not an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(_outcome(coroutine)))
    thread.start()
    thread.join()
    (outcome,) = ended
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _outcome(coroutine: Any) -> Any:
    try:
        return asyncio.run(coroutine)
    except BaseException as error:
        return error
