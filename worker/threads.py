"""What handlers run in: daemon threads for sync ones, one event loop for coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from queue import SimpleQueue

from worker.lease import Lease


class DaemonThreads:
    """Threads that are reused, grow as needed, and never keep the process from ending."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = self._all = 0

    def run(self, job: Callable[[], None]) -> None:
        """Run it in a thread now."""
        with self._lock:
            is_new = self._idle == 0
            self._idle -= not is_new
            self._all += is_new
        self._jobs.put(job)
        if is_new:
            threading.Thread(target=self._work, name="agent-task", daemon=True).start()

    def close(self) -> None:
        """End each thread once it is idle."""
        for _ in range(self._all):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            # What a job raises here could not even be logged; its end was reported, and the thread goes on.
            with suppress(Exception):
                job()
            del job  # an idle thread must not keep a task's payload alive
            with self._lock:
                self._idle += 1


class Coroutines:
    """One event loop in a daemon thread, started by the first coroutine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def run(
        self, lease: Lease, coroutine: Coroutine[None, None, None], done: Callable[[], None]
    ) -> None:
        """Run it; `done` is called when it has truly ended, cancelled or not."""
        loop = self._running_loop()

        def spawn() -> None:
            task = loop.create_task(coroutine)
            self._tasks.add(task)  # the loop itself holds tasks only weakly
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: done())
            lease.stop_coroutine = partial(_call_soon, loop, task.cancel)
            # Set first, asked second: an interrupt in between is seen by one of the two.
            if lease.context.cancelled.is_set():
                task.cancel()

        if not _call_soon(loop, spawn):
            coroutine.close()

    def close(self) -> None:
        """End the loop; coroutines that still run are left where they are."""
        if self._loop is not None:
            _call_soon(self._loop, self._loop.stop)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=_run_loop, args=(self._loop,), name="agent-asyncio", daemon=True
                ).start()
            return self._loop


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> bool:
    """Whether it was handed over: a loop that is closed takes nothing more."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return False
    return True
