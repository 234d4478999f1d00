"""What a producer holds: submit work, ask about it, wait for it, take it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from balancer.core.explain.answer import Why
from balancer.core.model import Priority, Task
from balancer.exchanges import explaining, lives, submitting, tasks, waiting
from balancer.exchanges.blocking import BlockingDriver
from balancer.exchanges.opening import DEADLINE_S, address, opened
from balancer.exchanges.watching import Callback
from balancer.ledger.pool import Pool
from balancer.ledger.read_tasks import TaskStatus, Try
from balancer.ledger.reprioritise import Moved
from balancer.ledger.retry import Retried
from balancer.ledger.submit import Submitted
from balancer.operating import Operating
from balancer.protocol.connect import is_cluster


class Balancer(Operating):
    """A producer's door to one pool. Safe to share between threads; every call is safe to repeat.

    Args:
        redis_url: where Redis is; default: $BALANCER_REDIS_URL, else redis://127.0.0.1:6379/0.
        pool: the pool's name; default: $BALANCER_POOL, else "default".
        deadline_s: how long a call goes on trying while Redis cannot answer.

    Raises:
        Misconfigured: the address breaks a rule.
        Denied: user, password or rights are not enough.
        PoolMissing: no balancer has ever served this pool.
        Unavailable: Redis did not answer within the deadline.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        pool: str | None = None,
        *,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        url, name = address(redis_url, pool)
        self._driver = BlockingDriver(url, name, deadline_s)
        client = self._driver.client
        try:
            found = self._ask(opened(name, is_cluster(client)))
        except BaseException:
            self.close()
            raise
        self._pool = Pool(
            client, name, found.genesis, found.settings, settings_ver=found.settings_ver
        )

    def submit(
        self,
        task: Task | Mapping[str, Any] | None = None,
        /,
        *,
        block_s: float | None = None,
        on_completion: Callback | None = None,
        **fields: Any,
    ) -> str:
        """Submit one task and return its id. Submitting the same task again changes nothing.

        Give a Task, a mapping, or the fields of a Task as keywords. Where its dedup_key was known
        already, the id is that of the task which was submitted under it first.

        Args:
            task: a Task or a mapping.
            block_s: how long to wait for room in a full queue, seconds, 0 to 86,400; default: not.
            on_completion: see the method of this name.
            fields: of a Task; they go before those of the mapping.

        Raises:
            InvalidInput: a field breaks its rule.
            Conflict: the id names another task.
            QueueFull, RedisFull: there is no room (and was none for block_s); not stored.
            Refused: an unknown parent, a cost above the role's max_cost, a bound of the pool
            reached. Unavailable: no answer; submit the same task (with the same id) again.
        """
        return self._ask(
            submitting.submit(
                self._pool, self._driver, task, fields, block_s=block_s, on_completion=on_completion
            )
        )

    def submit_many(
        self,
        tasks: Iterable[Task | Mapping[str, Any]],
        *,
        on_completion: Callback | None = None,
    ) -> list[Submitted]:
        """Submit tasks in this order, in one round trip; each is answered for itself. Parents stand
        before their children.

        Raises:
            InvalidInput: a field breaks its rule, or the parents form a cycle; nothing was stored.
            Unavailable: no answer; submit the same tasks again.
        """
        return self._ask(submitting.submit_many(self._pool, self._driver, tasks, on_completion))

    def status(self, task_id: str) -> TaskStatus:
        """What the pool knows of a task.

        Raises:
            NotFound: no such task.
        """
        return self._ask(tasks.status(self._pool, task_id))

    def statuses(self, task_ids: Sequence[str]) -> list[TaskStatus | None]:
        """Many at once, None for unknown ones."""
        return self._ask(tasks.statuses(self._pool, task_ids))

    def result(self, task_id: str) -> Any:
        """The result of a completed task.

        Raises:
            NotFound: no such task.
            Conflict: it has not completed; the text says what became of it.
        """
        return self._ask(tasks.result(self._pool, task_id))

    def wait(self, task_id: str, timeout_s: float) -> TaskStatus:
        """Wait until a task has ended. Costs Redis nothing while nothing happens.

        Raises:
            InvalidInput: timeout_s is not a number.
            NotFound: no such task, or it is not kept any more.
            WaitTimeout: it has not ended within timeout_s.
        """
        return self._ask(waiting.wait(self._pool, self._driver, task_id, timeout_s))

    def wait_many(self, task_ids: Sequence[str], timeout_s: float) -> list[TaskStatus]:
        """Wait until all of these have ended; their statuses in this order.

        Raises:
            As `wait`; the first error ends the wait for all.
        """
        return self._ask(waiting.wait_many(self._pool, self._driver, task_ids, timeout_s))

    def on_completion(self, task_ids: str | Iterable[str], callback: Callback) -> None:
        """Have `callback(status)` called once for each task when it has ended: completed, dead or
        cancelled. At once for those that have ended already.

        It is called in a thread of this client, one call after the other; what it raises is logged.
        It lives as long as this client: what must happen even if this process dies is a task that
        depends on this one.

        Raises:
            InvalidInput: the callback cannot be called.
            NotFound: there is no such task; no callback was taken.
        """
        self._ask(waiting.on_completion(self._pool, self._driver, task_ids, callback))

    def cancel(self, task_id: str, reason: str = "cancelled") -> bool:
        """Cancel a task. Cancelling it again changes nothing.

        Returns:
            True when it is cancelled now. False when an agent holds it and was asked to stop: the task
            is cancelled once that has reported, however its try ended, or is lost.

        Raises:
            InvalidInput: the reason is no text.
            NotFound: no such task.
            Conflict: it has ended otherwise.
        """
        return self._ask(lives.cancel(self._pool, task_id, reason))

    def retry(self, task_ids: Sequence[str]) -> list[Retried]:
        """Give dead tasks a new life: no failures, no losses, a new place in the queue; their history
        stays. An answer each; those that are not dead are left alone.
        """
        return self._ask(lives.retry(self._pool, task_ids))

    def retry_dead(self, role: str | None = None, reason: str | None = None) -> int:
        """Give every dead task a new life, or those of a role and with a reason (failed, timeout, lost,
        expired, parent_failed); how many there were.

        Raises:
            InvalidInput: nothing dies of that.
        """
        return self._ask(lives.retry_dead(self._pool, role, reason))

    def reprioritise(self, task_ids: Sequence[str], priority: Priority | str) -> list[Moved]:
        """Give waiting tasks another priority, and the place in the queue that goes with it. An answer
        each; those that run or have ended are left alone.

        Raises:
            InvalidInput: there is no such priority.
        """
        return self._ask(lives.reprioritise(self._pool, task_ids, priority))

    def history(self, task_id: str) -> list[Try]:
        """The last ten tries of a task that did not complete, oldest first: by which agent, and how they
        ended.

        Raises:
            NotFound: no such task.
        """
        return self._ask(lives.history(self._pool, task_id))

    def why(self, task_id: str) -> Why:
        """Why a task is where it is: one reason with what stands behind it, its place in line, when it should
        start and end, and the agents that may have it as they are now. Plain reads, a handful of round trips.

        Raises:
            NotFound: no such task.
            Misconfigured: the pool's strategy is a class of its own that this process cannot import.
        """
        return self._ask(explaining.why(self._pool, task_id))

    @property
    def pool(self) -> Pool:
        """The opened pool, for what the methods above do not cover."""
        return self._pool

    def close(self) -> None:
        """Give the connections back. Who still waits gets an error; callbacks that are due are called,
        those of tasks that have not ended never are. Calls that come later are refused: Unavailable.
        """
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
