"""An agent as users write it: `worker.Agent` with a handler that waits, fails or ends as the payload says."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import structlog

from balancer.demo.child import arguments
from tests.chaos.roster import INTERVAL_S, POOL, TTL_S
from tests.chaos.worklog import WorkLog
from worker import Agent, TaskContext


class PlannedFailure(Exception):
    """The plan says that this try fails."""


def work(task: TaskContext, log: WorkLog) -> dict[str, object]:
    """Do what the payload says. The result names the lease that it was made under."""

    def tell(event: str) -> None:
        log.add(event, task.id, task.attempt, task.lease)

    tell("start")
    if task.payload.get("poison"):
        os.kill(os.getpid(), signal.SIGKILL)
    if task.cancelled.wait(task.payload["run_s"]):
        tell("cancelled")
        raise PlannedFailure("told to stop")
    if task.attempt <= task.payload.get("rejects", 0):
        tell("rejected")
        task.reject("as planned")
    if task.attempt <= task.payload.get("fails", 0):
        tell("failed")
        raise PlannedFailure("as planned")
    tell("completed")
    return {"lease": task.lease}


def main() -> None:
    """Work until SIGTERM."""
    said = arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    log = WorkLog(said["id"], Path(said["directory"]))
    agent = Agent(
        said["id"],
        role=said["role"],
        redis_url=said["url"],
        pool=POOL,
        max_concurrent=said["units"],
        interval_s=INTERVAL_S,
        ttl_s=TTL_S,
    )

    @agent.task("*")
    def handle(task: TaskContext) -> dict[str, object]:
        return work(task, log)

    agent.run()


if __name__ == "__main__":
    main()
