"""The agents' own account of their work on disk, one JSON object a line: it survives whatever happens to them."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

from balancer.demo.child import LineLog, whole_lines


class Said(NamedTuple):
    """One line. `event` is start, or how the try ended: completed, failed, cancelled, rejected, released."""

    agent: str
    event: str
    task: str
    attempt: int
    lease: str
    pid: int
    monotonic_s: float
    wall_s: float


class WorkLog:
    """The log of one process, in a file of its own. Any thread may add."""

    def __init__(self, agent: str, directory: Path) -> None:
        self._agent, self._lock = agent, threading.Lock()
        self._log = LineLog(directory / f"{agent}.{os.getpid()}.work")

    def add(self, event: str, task: str, attempt: int, lease: str) -> None:
        """One event of one try."""
        with self._lock:
            said = Said(
                self._agent, event, task, attempt, lease, os.getpid(), time.monotonic(), time.time()
            )
            self._log.add(json.dumps(said._asdict()))


def read_worklogs(directory: Path) -> list[Said]:
    """All that the agents say, process by process."""
    paths = sorted(directory.glob("*.work"))
    return [Said(**json.loads(line)) for path in paths for line in whole_lines(path)]
