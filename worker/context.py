"""What a handler is given of its task."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, NoReturn

from worker.errors import Reject


@dataclass(frozen=True)
class TaskContext:
    """One try of one task. The task may have run before, here or elsewhere: handlers must bear a second run."""

    id: str
    """The task. The same in every try: the key for making a second run harmless."""
    category: str
    """What kind of work it is; chose the handler."""
    role: str
    """Whose work it is: the agent's role."""
    priority: str
    """critical, high, medium or low. Already taken into account."""
    attempt: int
    """Counts the grants of this task, from 1: lost tries count as well."""
    lease: str
    """Names the grant that this try runs under, 32 hex digits. A grant that is resumed after a restart keeps it."""
    cost: int
    """Units it takes of the agent's max_concurrent."""
    timeout_s: float
    """Run timeout, seconds from when the try began."""
    # A traceback with locals shows this object: what producers sent stays out of logs.
    description: str = field(repr=False)
    """Text from the producer; "" if there is none."""
    payload: Any = field(repr=False)
    """Any JSON value from the producer; None if there is none."""
    cancelled: threading.Event = field(repr=False)
    """Set when the task is cancelled, or the try no longer counts (run timeout, lease taken back, fenced): return
    soon. What is returned or raised from then on is dropped. A coroutine is cancelled as well."""
    log: Any = field(repr=False)
    """A structlog logger bound to agent_id, task_id and attempt."""

    def reject(self, why: str = "") -> NoReturn:
        """End the try: this agent will not do the task, another one should. See `Reject`.

        Raises:
            Reject: always; let it leave the handler.
        """
        raise Reject(why)
