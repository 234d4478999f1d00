"""The producer of the demo: submits the planned tasks when they are due. It may be killed and restarted at any time.

Its log holds one line for each task that the pool has answered for. Started again, it goes on after the last line; what
it had submitted but not yet logged is submitted a second time, which changes nothing.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from balancer.client import Balancer
from balancer.core.model import Task
from balancer.demo.child import LineLog, arguments, whole_lines

#: Tasks a call, and the shortest time between two calls, seconds.
BATCH, PAUSE_S = 100, 0.02
#: How long one call goes on trying, seconds.
DEADLINE_S = 60.0


def main() -> None:
    """Submit what is left of the plan."""
    said = arguments()
    planned = [json.loads(line) for line in whole_lines(Path(said["plan"]))]
    answered = len(whole_lines(Path(said["log"])))
    with Balancer(said["url"], said["pool"], deadline_s=DEADLINE_S) as balancer:
        submit(balancer, planned[answered:], LineLog(Path(said["log"])), said["start_at"])


def submit(
    balancer: Balancer, planned: list[dict[str, Any]], log: LineLog, start_at: float
) -> None:
    """Submit the tasks at their times after `start_at`, a moment of the monotonic clock."""
    done = 0
    while done < len(planned):
        wait_s = start_at + planned[done]["at_s"] - time.monotonic()
        if wait_s > 0:
            time.sleep(max(wait_s, PAUSE_S))
        until_s = time.monotonic() - start_at
        due = [item for item in planned[done : done + BATCH] if item["at_s"] <= until_s]
        answers = balancer.submit_many(Task.model_validate(item["task"]) for item in due)
        log.add(*(f"{answer.task_id} {answer.outcome}" for answer in answers))
        done += len(due)


if __name__ == "__main__":
    main()
