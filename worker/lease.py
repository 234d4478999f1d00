"""One lease, as the agent sees it from its inbox entry to its completion."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from balancer.protocol import (
    BadEvent,
    Completion,
    InboxTask,
    Status,
    read_completion,
    read_inbox_task,
)
from worker.context import TaskContext

#: The end of a try that was given up. Only said if the same nonce is granted again.
INTERRUPTED = "interrupted: the lease had been taken back"


class Phase(Enum):
    """How far a lease is."""

    WAITING = auto()
    """Here, not begun."""
    RUNNING = auto()
    FINISHED = auto()
    """Its completion is not in the stream yet, as far as we know."""
    REPORTED = auto()
    GIVEN_UP = auto()
    """Revoked, fenced or another boot's: nothing more is said about it, unless it is released at a stop."""


@dataclass(eq=False)
class Lease:
    """A lease. `Leases` changes it, under its lock."""

    entry: str
    task: InboxTask
    context: TaskContext
    completion: Completion
    phase: Phase = Phase.WAITING
    began_s: float = 0.0
    deadline_s: float = float("inf")
    stop_coroutine: Callable[[], object] | None = None
    again_s: float = float("inf")
    """When to report it again if it is still in the inbox."""
    reports: int = 0
    is_cancelled: bool = False
    """The task is being cancelled: whatever ends the try but its success is a `cancelled`."""
    has_ended: bool = False
    """Its completion says how it ended."""

    @property
    def nonce(self) -> str:
        """What names the lease in heartbeats and in its completion."""
        return self.completion.lease

    def end(self, status: Status, result: str, error: str, now_s: float) -> None:
        """Fill in the completion; from here on it is to be reported."""
        if self.is_cancelled and status is not Status.COMPLETED:
            status, result, error = Status.CANCELLED, "", ""
        # Whoever clocks out of a lease that never began (no handler, unreadable) took no time.
        took_ms = max(0, round(1_000 * (now_s - self.began_s))) if self.began_s else 0
        ended = {"status": status, "result": result, "error": error, "duration_ms": took_ms}
        self.completion = self.completion.model_copy(update=ended)
        self.phase, self.has_ended = Phase.FINISHED, True

    def interrupt(self) -> None:
        """Tell whatever runs for it to stop. Threads can only be asked."""
        self.context.cancelled.set()
        if self.stop_coroutine is not None:
            self.stop_coroutine()


def read_lease(agent_id: str, entry: str, fields: Mapping[str, str], log: Any) -> Lease:
    """The lease in an inbox entry. One whose task cannot be read is FINISHED already: failed, with the reason.

    Raises:
        BadEvent: not even a completion for it could be written.
    """
    naming = {name: fields.get(name, "") for name in ("task", "attempt", "lease")}
    unended = {"agent": agent_id, "status": Status.FAILED.value, "error": INTERRUPTED}
    completion = read_completion(unended | naming)
    problem = ""
    try:
        task = read_inbox_task(fields)
    except BadEvent as error:
        problem = f"the inbox entry cannot be read: {error}"
        task = _unreadable(fields, completion)
    lease = Lease(
        entry=entry,
        task=task,
        context=TaskContext(
            id=task.task,
            category=task.category,
            role=task.role,
            priority=task.priority,
            attempt=task.attempt,
            lease=completion.lease,
            cost=task.cost,
            timeout_s=task.timeout_ms / 1_000,
            description=task.description,
            payload=task.payload,
            cancelled=threading.Event(),
            log=log.bind(task_id=task.task, attempt=task.attempt),
        ),
        completion=completion,
    )
    if problem:
        lease.end(Status.FAILED, "", problem[:500], 0.0)
    return lease


def _unreadable(fields: Mapping[str, str], completion: Completion) -> InboxTask:
    return InboxTask.model_construct(
        task=completion.task,
        attempt=completion.attempt,
        lease=completion.lease,
        boot=fields.get("boot", ""),
        role="",
        category="",
        priority="",
        cost=0,
        timeout_ms=0,
        estimate_ms=0,
    )
