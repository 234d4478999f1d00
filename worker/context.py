"""What a handler is given of its task."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TaskContext:
    """One try of one task. The task may have run before, here or elsewhere: handlers must bear a second run."""

    id: str
    category: str
    role: str
    priority: str
    attempt: int
    """Counts the grants of this task, from 1."""
    # A traceback with locals shows this object: what producers sent stays out of logs.
    description: str = field(repr=False)
    payload: Any = field(repr=False)
    """Any JSON value."""
    cancelled: threading.Event = field(repr=False)
    """Set when the try no longer counts (run timeout, lease taken back, fenced): return soon. What is returned or
    raised from then on is dropped. A coroutine is cancelled as well."""
    log: Any = field(repr=False)
    """A structlog logger bound to agent_id, task_id and attempt."""
