"""Who waits for which task to end, and the one reader that tells them.

The reader follows the pool's events stream. An event only says that something happened to a task: the
task itself is then read. All are read again now and then, so that a lost event costs a moment, no more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import structlog

from balancer.core.errors import BalancerError, NotFound, Unavailable
from balancer.core.model import TaskState
from balancer.ledger import read_tasks
from balancer.ledger.exchange import Exchange, Pause, Signal
from balancer.ledger.pool import PoolRef
from balancer.ledger.read_tasks import TaskStatus

log = structlog.get_logger("balancer")

#: Longest blocking read of the events stream, and how long the reader stays when nobody waits, seconds.
BLOCK_S, LINGER_S = 1.0, 1.0
#: How long `close` waits for callbacks that are due, seconds.
CLOSE_S = 5.0
#: All tasks that are waited for are read again this often, seconds; and at most so many a second.
SWEEP_S, SWEPT_A_S = 1.0, 1_000
#: Rest after a read in which nothing was waited for: a busy pool is read in batches.
REST_S = 0.005
#: Entries of the stream a read, and tasks a round trip.
ENTRIES, PAGE = 200, 500
#: Back-off while Redis cannot answer, seconds.
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.1, 2.0
#: Transitions after which a task always goes on.
_GOES_ON = {"submitted", "assigned", "ready"}

#: What became of a task: its last status, or why that cannot be known.
Ended: TypeAlias = TaskStatus | BalancerError
Deliver: TypeAlias = Callable[[Ended], None]
#: What a user has called with the final status of a task. With asyncio, what it returns is awaited
#: if it can be.
Callback: TypeAlias = Callable[[TaskStatus], object]


def closed() -> Unavailable:
    """The error for whoever asks something of a client that was closed."""
    return Unavailable("this client was closed")


class Driver(Protocol):
    """What exchanges that wait need of whoever carries them."""

    watch: Watch

    def signal(self) -> Signal:
        """A fresh one, of the kind that this driver can wait for."""
        ...

    def deliver_to(self, callback: Callback) -> Deliver:
        """What has a callback of the user called with the end of its task."""
        ...


class Watch:
    """The tasks that somebody in this process waits for. Safe to share between threads.

    Args:
        start: sets a reader to work that runs `listen(pool)` to its end; called while there is none.
    """

    def __init__(self, start: Callable[[PoolRef], None]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Deliver]] = {}
        # Whether there is a reader, and whether it reads from a place that it knows.
        self._listened = self._placed = self._closed = False
        self._process = os.getpid()

    def add(self, pool: PoolRef, task_id: str, deliver: Deliver) -> bool:
        """Have `deliver` called once, when the task has ended.

        Returns:
            Whether it may have ended just before: the caller then looks once, by `look`.
        """
        with self._lock:
            if self._closed:
                raise closed()
            if self._process != os.getpid():  # a fork takes neither the reader along nor who waits
                self._process, self._waiting = os.getpid(), {}
                self._listened = self._placed = False
            self._waiting.setdefault(task_id, []).append(deliver)
            if not self._listened:
                self._start(pool)
                self._listened = True
            return self._placed

    def drop(self, task_id: str, deliver: Deliver) -> None:
        """Wait no more."""
        with self._lock:
            rest = self._waiting.get(task_id, [])
            if deliver in rest:
                rest.remove(deliver)
            if not rest:
                self._waiting.pop(task_id, None)

    def close(self) -> None:
        """End the reader, and tell those who wait that they wait in vain."""
        with self._lock:
            self._closed = True
            left, self._waiting = self._waiting, {}
        for delivers in left.values():
            for deliver in delivers:
                deliver(closed())

    def listen(self, pool: PoolRef) -> Exchange[None]:
        """The reader: runs until nobody has waited for a while. Survives whatever Redis does."""
        delay_s = FIRST_BACKOFF_S
        while True:
            try:
                if (yield from self._follow(pool)):
                    return
            except GeneratorExit:  # its driver was cancelled
                with self._lock:
                    self._listened = self._placed = False
                raise
            except Exception as error:
                if self._ends(closed_only=True):
                    return
                delay_s = FIRST_BACKOFF_S if self._placed else delay_s
                # The first of a row: Redis is away, and will be for each try until it is back.
                level = log.warning if delay_s == FIRST_BACKOFF_S else log.debug
                level("listening_failed", error=type(error).__name__, text=str(error)[:200])
            self._placed = False
            yield Pause(delay_s)
            delay_s = min(LAST_BACKOFF_S, delay_s * 2)

    def _follow(self, pool: PoolRef) -> Exchange[bool]:
        (newest,) = yield [("XREVRANGE", pool.keys.events, "+", "-", "COUNT", 1)]
        place = newest[0][0] if newest else "0-0"
        with self._lock:
            # Who is added from here on looks for himself; all others are looked at now.
            self._placed = True
        yield from self.look(pool, self.waited_for())
        now = swept = waited = yield Pause()
        while True:
            block_ms = max(1, round(1_000 * min(BLOCK_S, swept + self._sweep_s() - now)))
            (reply,) = yield [
                ("XREAD", "COUNT", ENTRIES, "BLOCK", block_ms, "STREAMS", pool.keys.events, place)
            ]
            entries = next(iter(reply.values())) if reply else []
            touched = self._touched(entries)
            yield from self.look(pool, touched)
            rests = entries and not touched and len(entries) < ENTRIES
            now = yield Pause(REST_S if rests else 0)
            place = entries[-1][0] if entries else place
            if now >= swept + self._sweep_s():
                yield from self.look(pool, self.waited_for())
                swept = now
            waited = now if self._waiting else waited
            if (self._closed or now >= waited + LINGER_S) and self._ends():
                return True

    def look(self, pool: PoolRef, task_ids: Sequence[str]) -> Exchange[None]:
        """Read these tasks, in one round trip a page, and tell of those that have ended."""
        for start in range(0, len(task_ids), PAGE):
            page = task_ids[start : start + PAGE]
            # The states first: a task that goes on may carry a large body.
            states = yield [("HGET", pool.keys.task(task_id), "state") for task_id in page]
            ended = [
                task_id
                for task_id, state in zip(page, states, strict=True)
                if state is None or TaskState(state).is_final
            ]
            found = yield from read_tasks.task_statuses.steps(pool, ended)
            for task_id, status in zip(ended, found, strict=True):
                if status is None:
                    self._deliver(task_id, missing(pool, task_id))
                elif status.state.is_final:
                    self._deliver(task_id, status)

    def _deliver(self, task_id: str, ended: Ended) -> None:
        with self._lock:
            delivers = self._waiting.pop(task_id, [])
        for deliver in delivers:
            deliver(ended)

    def _touched(self, entries: Sequence[tuple[str, dict[str, str]]]) -> list[str]:
        """Tasks waited for that something happened to."""
        return [
            task_id for task_id in dict.fromkeys(_tasks_of(entries)) if task_id in self._waiting
        ]

    def waited_for(self) -> list[str]:
        """The tasks that somebody waits for."""
        with self._lock:
            return list(self._waiting)

    def _sweep_s(self) -> float:
        return max(SWEEP_S, len(self._waiting) / SWEPT_A_S)

    def _ends(self, closed_only: bool = False) -> bool:
        """Whether the reader is done. Decided under the lock: who is added later starts another."""
        with self._lock:
            if self._closed or not (closed_only or self._waiting):
                self._listened = self._placed = False
                return True
            return False


def _tasks_of(entries: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    for _, transitions in entries:
        for name, lines in transitions.items():
            if name not in _GOES_ON:
                yield from (line.split(" ", 1)[0] for line in lines.split("\n"))


def missing(pool: PoolRef, task_id: str) -> NotFound:
    """The error for a task that is not there."""
    return NotFound(f"task {task_id!r}: there is no such task in pool {pool.name!r}")
