"""One simulated agent of the demo: a real `worker.Agent` whose work is to wait as long as the trace says.

It logs the start and the end of every try itself, so that the demo need not believe the balancer's counters.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

from balancer.demo.child import LineLog, arguments
from worker import Agent, TaskContext

#: Between two heartbeats, and the silence after which an agent is lost; seconds.
INTERVAL_S, TTL_S = 0.75, 3.0


class WorkLog:
    """The agent's own account of its work, one JSON object a line."""

    def __init__(self, path: Path, units: int) -> None:
        self._log, self._units, self._lock = LineLog(path), units, threading.Lock()

    def add(self, event: str, context: TaskContext) -> None:
        """One event of one try. Lines stand in the order of their times."""
        with self._lock:
            record = {
                "event": event,
                "task": context.id,
                "attempt": context.attempt,
                "cost": context.payload.get("cost", 1),
                "units": self._units,
                "pid": os.getpid(),
                "monotonic_s": time.monotonic(),
                "wall_s": time.time(),
            }
            self._log.add(json.dumps(record))


class PlannedFailure(Exception):
    """The trace says that this work failed."""


def work(context: TaskContext, log: WorkLog) -> None:
    """Wait as long as the work takes, or until it no longer counts.

    A row that failed in the trace fails at attempt 1 only. An attempt is a grant: when the first one is lost with its
    agent, the row completes without having failed.
    """
    log.add("start", context)
    if context.cancelled.wait(context.payload["run_s"]):
        log.add("cancelled", context)
    elif context.payload["fail_first"] and context.attempt == 1:
        log.add("failed", context)
        raise PlannedFailure("as in the trace")
    else:
        log.add("completed", context)


def main() -> None:
    """Work until SIGTERM."""
    said = arguments()
    log = WorkLog(Path(said["log"]), said["max_concurrent"])
    agent = Agent(
        said["id"],
        role=said["role"],
        redis_url=said["url"],
        pool=said["pool"],
        max_concurrent=said["max_concurrent"],
        specializations=said["specializations"],
        interval_s=INTERVAL_S,
        ttl_s=TTL_S,
    )

    @agent.task("*")
    def wait(context: TaskContext) -> None:
        work(context, log)

    agent.run()


if __name__ == "__main__":
    main()
