"""Waiting for tasks to end, and having something called when they do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from balancer.core.errors import BalancerError, WaitTimeout
from balancer.exchanges import tasks
from balancer.exchanges.watching import Callback, Deliver, Driver, Ended, Watch, missing
from balancer.inputs import check_callback, check_ids, check_seconds, listed
from balancer.ledger.exchange import Exchange, Pause, Signal
from balancer.ledger.pool import PoolRef
from balancer.ledger.read_tasks import TaskStatus

#: Longest single wait for a signal, seconds: a thread cannot wait for ever at once.
_LONGEST_S = 3_600.0


def follow(pool: PoolRef, watch: Watch, delivers: Mapping[str, Deliver]) -> Exchange[None]:
    """Have each called once, when the task of that id has ended; at once when it has already.

    Raises:
        NotFound: there is no such task; nothing is followed then.
    """
    found = yield from tasks.statuses(pool, list(delivers))
    for task_id, status in zip(delivers, found, strict=True):
        if status is None:
            raise missing(pool, task_id)
    doubtful = []
    try:
        for (task_id, deliver), status in zip(delivers.items(), found, strict=True):
            if status and status.state.is_final:
                deliver(status)
            elif watch.add(pool, task_id, deliver):
                doubtful.append(task_id)
        yield from watch.look(pool, doubtful)
    except BaseException:
        unfollow(watch, delivers)
        raise


def unfollow(watch: Watch, delivers: Mapping[str, Deliver]) -> None:
    """Call none of these any more."""
    for task_id, deliver in delivers.items():
        watch.drop(task_id, deliver)


def wait(pool: PoolRef, driver: Driver, task_id: str, timeout_s: float) -> Exchange[TaskStatus]:
    """The status of a task once it has ended, or WaitTimeout."""
    (ended,) = yield from wait_many(pool, driver, [task_id], timeout_s)
    return ended


def wait_many(
    pool: PoolRef, driver: Driver, task_ids: Sequence[str], timeout_s: float
) -> Exchange[list[TaskStatus]]:
    """The statuses of tasks once all have ended, or WaitTimeout."""
    check_seconds("timeout_s", timeout_s)
    check_ids(task_ids)
    signal, watch = driver.signal(), driver.watch
    ends = _Ends(task_ids, signal)
    delivers = {task_id: ends.deliver_of(task_id) for task_id in ends.found}
    now = yield Pause()
    until = now + timeout_s
    try:
        yield from follow(pool, watch, delivers)
        while now < until and ends.open and not signal.is_set():
            now = yield Pause(min(until - now, _LONGEST_S), signal)
    finally:
        unfollow(watch, delivers)
    for error in ends.found.values():
        if isinstance(error, BalancerError):
            raise error
    # What was not told in time is asked for: how it stands now, or that Redis cannot be asked.
    late = yield from tasks.statuses(pool, ends.open)
    for task_id, status in zip(ends.open, late, strict=True):
        if status is None:
            raise missing(pool, task_id)
        if not status.state.is_final:
            raise WaitTimeout(
                f"task {task_id!r} is still {status.state.value} after {timeout_s:g} s"
            )
        ends.found[task_id] = status
    return [ended for ended in map(ends.found.get, task_ids) if isinstance(ended, TaskStatus)]


def on_completion(
    pool: PoolRef, driver: Driver, task_ids: str | Iterable[str], callback: Callback
) -> Exchange[None]:
    """Have the callback called once for each task, with its final status."""
    check_callback(callback)
    ids = [task_ids] if isinstance(task_ids, str) else listed("task ids", task_ids)
    check_ids(ids)
    yield from follow(pool, driver.watch, {id_: driver.deliver_to(callback) for id_ in ids})


class _Ends:
    """Gathers the ends of some tasks, and sets a signal at the last of them, or at the first error."""

    def __init__(self, task_ids: Sequence[str], signal: Signal) -> None:
        self.found: dict[str, Ended | None] = dict.fromkeys(task_ids)
        self._signal = signal

    def deliver_of(self, task_id: str) -> Deliver:
        """What takes the end of one task."""

        def deliver(ended: Ended) -> None:
            self.found[task_id] = ended
            if isinstance(ended, BalancerError) or not self.open:
                self._signal.set()

        return deliver

    @property
    def open(self) -> list[str]:
        """Tasks whose end is not known."""
        return [task_id for task_id, ended in self.found.items() if ended is None]
