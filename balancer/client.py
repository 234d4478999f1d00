"""What a producer holds: submit work, ask about it, wait for it, take it back."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from balancer.core.errors import Conflict, InvalidInput, NotFound, WaitTimeout
from balancer.core.model import Agent, LoadMetrics, Task, TaskState
from balancer.inputs import check_cycles, check_ids, check_seconds, check_text, made_task, stored
from balancer.ledger import cancel as cancelling
from balancer.ledger import read
from balancer.ledger import submit as submitting
from balancer.ledger.pool import Pool
from balancer.ledger.read import RoleQueue, TaskStatus
from balancer.ledger.submit import Submitted
from balancer.protocol.connect import connect
from balancer.retry import answered

#: Where Redis is when nothing says otherwise.
DEFAULT_URL = "redis://127.0.0.1:6379/0"
#: How long a call goes on trying while Redis cannot answer, seconds.
DEADLINE_S = 10.0

T = TypeVar("T")


class Balancer:
    """A producer's door to one pool. Safe to share between threads; every call is safe to repeat.

    Args:
        redis_url: where Redis is; default: $BALANCER_REDIS_URL, else redis://127.0.0.1:6379/0.
        pool: the pool's name; default: $BALANCER_POOL, else "default".
        deadline_s: how long a call goes on trying while Redis cannot answer.

    Raises:
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
        self._deadline_s = deadline_s
        url = redis_url or os.environ.get("BALANCER_REDIS_URL") or DEFAULT_URL
        name = pool or os.environ.get("BALANCER_POOL") or "default"
        try:
            self._client = connect(url)
        except ValueError as error:
            raise InvalidInput(f"redis_url: {error}") from None
        check_ids([name], "pool")
        try:
            self._pool = self._ask(lambda: Pool.open(self._client, name))
        except UnicodeError as error:  # of the host's name, or of a password
            raise InvalidInput(f"redis_url: {error}") from None

    def submit(self, task: Task | Mapping[str, Any] | None = None, /, **fields: Any) -> str:
        """Submit one task and return its id. Submitting the same task again changes nothing.

        Give a Task, a mapping, or the fields of a Task as keywords.

        Raises:
            InvalidInput: a field breaks its rule.
            Conflict: the id names another task.
            Refused: an unknown parent, a cost above the role's max_cost, a bound of the pool
            reached. Unavailable: no answer; submit the same task (with the same id) again.
        """
        made = made_task(task, fields)
        return stored(self.submit_many([made])[0]).task_id

    def submit_many(self, tasks: Iterable[Task | Mapping[str, Any]]) -> list[Submitted]:
        """Submit tasks in this order, in one round trip; each is answered for itself. Parents stand
        before their children.

        Raises:
            InvalidInput: a field breaks its rule, or the parents form a cycle; nothing was stored.
            Unavailable: no answer; submit the same tasks again.
        """
        made = []
        for at, task in enumerate(tasks):
            try:
                made.append(made_task(task, {}))
            except InvalidInput as error:
                raise InvalidInput(f"task {at}: {error}") from None
        check_cycles(made)
        try:
            return self._ask(lambda: submitting.submit(self._pool, made))
        except ValueError as error:
            raise InvalidInput(str(error)) from None

    def status(self, task_id: str) -> TaskStatus:
        """What the pool knows of a task.

        Raises:
            NotFound: no such task.
        """
        found = self.statuses([task_id])[0]
        if found is None:
            raise NotFound(f"task {task_id!r}: there is no such task in pool {self._pool.name!r}")
        return found

    def statuses(self, task_ids: Sequence[str]) -> list[TaskStatus | None]:
        """Many at once, None for unknown ones."""
        check_ids(task_ids)
        return self._ask(lambda: read.task_statuses(self._pool, task_ids))

    def result(self, task_id: str) -> Any:
        """The result of a completed task.

        Raises:
            NotFound: no such task.
            Conflict: it has not completed; the text says what became of it.
        """
        status = self.status(task_id)
        if status.state is not TaskState.COMPLETED:
            why = status.result.get("error") or status.reason
            raise Conflict(
                f"task {task_id!r} is {status.state.value}{f': {why}' if why else ''}; it has no result"
            )
        return status.result.get("result")

    def wait(self, task_id: str, timeout_s: float) -> TaskStatus:
        """Wait until a task has ended.

        Raises:
            InvalidInput: timeout_s is not a number.
            NotFound: no such task.
            WaitTimeout: it has not ended within timeout_s.
        """
        check_seconds("timeout_s", timeout_s)
        until, delay_s = time.monotonic() + timeout_s, 0.01
        while not (status := self.status(task_id)).state.is_final:
            if time.monotonic() + delay_s > until:
                raise WaitTimeout(
                    f"task {task_id!r} is still {status.state.value} after {timeout_s:g} s"
                )
            time.sleep(delay_s * random.uniform(0.8, 1.2))
            delay_s = min(0.25, delay_s * 1.5)
        return status

    def cancel(self, task_id: str, reason: str = "cancelled") -> None:
        """Cancel a task that no agent holds yet. Cancelling it again changes nothing.

        Raises:
            InvalidInput: the reason is no text.
            NotFound: no such task.
            Conflict: an agent holds it, or it has ended.
        """
        check_ids([task_id])
        check_text("reason", reason)
        outcome, state = self._ask(lambda: cancelling.cancel(self._pool, [task_id], reason))[0]
        if outcome is cancelling.Outcome.UNKNOWN:
            raise NotFound(f"task {task_id!r}: there is no such task in pool {self._pool.name!r}")
        if outcome not in (cancelling.Outcome.CANCELLED, cancelling.Outcome.ALREADY):
            raise Conflict(f"task {task_id!r} is {state}; only a waiting task can be cancelled")

    def load_metrics(self) -> LoadMetrics:
        """How busy the pool is."""
        return self._ask(lambda: read.load_metrics(self._pool))

    def agents(self, limit: int = read.MOST) -> list[Agent]:
        """Known agents, live ones first."""
        return self._ask(lambda: read.agents(self._pool, limit))

    def queues(self) -> list[RoleQueue]:
        """Depth, age and capacity of every role."""
        return self._ask(lambda: read.queues(self._pool))

    @property
    def pool(self) -> Pool:
        """The opened pool, for what the methods above do not cover."""
        return self._pool

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, call: Callable[[], T]) -> T:
        return answered(call, self._deadline_s)
