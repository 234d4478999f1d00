"""What a producer holds in an asyncio program: the calls of `balancer.client`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from balancer.core.explain.answer import Why
from balancer.core.model import Agent, LoadMetrics, Priority, Task
from balancer.core.settings import PoolSettings
from balancer.exchanges import (
    agents,
    configuring,
    explaining,
    fleet,
    lives,
    queues,
    submitting,
    tasks,
    waiting,
)
from balancer.exchanges.awaiting import AsyncDriver
from balancer.exchanges.opening import DEADLINE_S, address, opened
from balancer.exchanges.watching import Callback
from balancer.ledger import read, read_fleet
from balancer.ledger.pool import PoolRef
from balancer.ledger.read_fleet import RoleQueue
from balancer.ledger.read_tasks import TaskStatus, Try
from balancer.ledger.reprioritise import Moved
from balancer.ledger.retry import Retried
from balancer.ledger.submit import Submitted
from balancer.protocol.connect import is_cluster


class AsyncBalancer:
    """A producer's door to one pool, for one event loop. Any number of tasks of that loop may share
    it. Each method does what the method of this name of `Balancer` does.

    The pool is looked for with the first call; `async with` makes that one of its own.

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
        url, self._name = address(redis_url, pool)
        self._driver = AsyncDriver(url, self._name, deadline_s)
        self._ask = self._driver.run
        self._pool: PoolRef | None = None
        self._opening = asyncio.Lock()

    async def submit(
        self,
        task: Task | Mapping[str, Any] | None = None,
        /,
        *,
        block_s: float | None = None,
        on_completion: Callback | None = None,
        **fields: Any,
    ) -> str:
        """Submit one task and return its id. See Balancer.submit."""
        pool = await self.pool()
        return await self._ask(
            submitting.submit(
                pool, self._driver, task, fields, block_s=block_s, on_completion=on_completion
            )
        )

    async def submit_many(
        self,
        tasks: Iterable[Task | Mapping[str, Any]],
        *,
        on_completion: Callback | None = None,
    ) -> list[Submitted]:
        """Submit tasks in this order, in one round trip. See Balancer.submit_many."""
        pool = await self.pool()
        return await self._ask(submitting.submit_many(pool, self._driver, tasks, on_completion))

    async def status(self, task_id: str) -> TaskStatus:
        """What the pool knows of a task. See Balancer.status."""
        return await self._ask(tasks.status(await self.pool(), task_id))

    async def statuses(self, task_ids: Sequence[str]) -> list[TaskStatus | None]:
        """Many at once, None for unknown ones."""
        return await self._ask(tasks.statuses(await self.pool(), task_ids))

    async def result(self, task_id: str) -> Any:
        """The result of a completed task. See Balancer.result."""
        return await self._ask(tasks.result(await self.pool(), task_id))

    async def wait(self, task_id: str, timeout_s: float) -> TaskStatus:
        """Wait until a task has ended. See Balancer.wait."""
        return await self._ask(waiting.wait(await self.pool(), self._driver, task_id, timeout_s))

    async def wait_many(self, task_ids: Sequence[str], timeout_s: float) -> list[TaskStatus]:
        """Wait until all of these have ended. See Balancer.wait_many."""
        pool = await self.pool()
        return await self._ask(waiting.wait_many(pool, self._driver, task_ids, timeout_s))

    async def on_completion(self, task_ids: str | Iterable[str], callback: Callback) -> None:
        """Have a callback called once for each task when it has ended. See Balancer.on_completion.

        It is called in this event loop, in a task of its own; what it returns is awaited if it can be.
        """
        pool = await self.pool()
        await self._ask(waiting.on_completion(pool, self._driver, task_ids, callback))

    async def cancel(self, task_id: str, reason: str = "cancelled") -> bool:
        """Cancel a task, or ask its agent to stop. See Balancer.cancel."""
        return await self._ask(lives.cancel(await self.pool(), task_id, reason))

    async def retry(self, task_ids: Sequence[str]) -> list[Retried]:
        """Give dead tasks a new life. See Balancer.retry."""
        return await self._ask(lives.retry(await self.pool(), task_ids))

    async def retry_dead(self, role: str | None = None, reason: str | None = None) -> int:
        """Give every dead task a new life. See Balancer.retry_dead."""
        return await self._ask(lives.retry_dead(await self.pool(), role, reason))

    async def reprioritise(self, task_ids: Sequence[str], priority: Priority | str) -> list[Moved]:
        """Give waiting tasks another priority. See Balancer.reprioritise."""
        return await self._ask(lives.reprioritise(await self.pool(), task_ids, priority))

    async def history(self, task_id: str) -> list[Try]:
        """The last tries of a task that did not complete. See Balancer.history."""
        return await self._ask(lives.history(await self.pool(), task_id))

    async def why(self, task_id: str) -> Why:
        """Why a task is where it is. See Balancer.why."""
        return await self._ask(explaining.why(await self.pool(), task_id))

    async def pause_queue(self, role: str) -> None:
        """Hand out none of a role's work. See Balancer.pause_queue."""
        await self._ask(queues.pause(await self.pool(), role))

    async def resume_queue(self, role: str) -> None:
        """Hand out a role's work again. See Balancer.resume_queue."""
        await self._ask(queues.resume(await self.pool(), role))

    async def purge_queue(self, role: str) -> int:
        """Cancel every task of a role that waits now. See Balancer.purge_queue."""
        return await self._ask(queues.purge(await self.pool(), role))

    async def load_metrics(self) -> LoadMetrics:
        """How busy the pool is."""
        return await self._ask(read_fleet.load_metrics.steps(await self.pool()))

    async def agents(self, limit: int = read.MOST) -> list[Agent]:
        """Known agents, live ones first; at most `limit`, and 1,000."""
        return await self._ask(fleet.known(await self.pool(), limit))

    async def queues(self) -> list[RoleQueue]:
        """Depth, age and capacity of every role, and what in its queue no agent could have."""
        return await self._ask(queues.listed(await self.pool()))

    async def pause_agent(self, agent_id: str) -> int:
        """Give an agent nothing new. See Balancer.pause_agent."""
        return await self._ask(agents.pause(await self.pool(), agent_id))

    async def resume_agent(self, agent_id: str) -> int:
        """Take back a pause or a retirement. See Balancer.resume_agent."""
        return await self._ask(agents.resume(await self.pool(), agent_id))

    async def retire_agent(self, agent_id: str, deadline_s: float) -> int:
        """Let an agent go. See Balancer.retire_agent."""
        return await self._ask(agents.retire(await self.pool(), agent_id, deadline_s))

    async def configure(self, **changes: Any) -> PoolSettings:
        """Change what decides in the pool, while it works. See Balancer.configure."""
        return await self._ask(configuring.configure(await self.pool(), changes))

    async def pool(self) -> PoolRef:
        """The opened pool; looked for once."""
        async with self._opening:
            if self._pool is None:
                self._pool = await self._ask(opened(self._name, is_cluster(self._driver.client)))
        return self._pool

    async def close(self) -> None:
        """Give the connections back. See Balancer.close."""
        await self._driver.close()

    async def __aenter__(self) -> Self:
        try:
            await self.pool()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
