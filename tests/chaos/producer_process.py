"""The producer: does the planned steps in their order. Killed and started again, it goes on after the last it logged.

What it had done and not logged yet it does a second time, which must change nothing.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from balancer.client import Balancer
from balancer.core.errors import Conflict
from balancer.core.model import Task
from balancer.demo.child import LineLog, arguments, whole_lines
from tests.chaos.roster import POOL

#: Waiting tasks beyond which it submits no more, and seconds until it looks again.
BACKLOG, LOOK_S = 800, 0.1
#: How long one call goes on trying, seconds.
DEADLINE_S = 60.0

#: What a step brought: a task and what was answered for it.
Answers = list[tuple[str, str]]


def main() -> None:
    """Do what is left of the plan."""
    said = arguments()
    steps = [json.loads(line) for line in whole_lines(Path(said["plan"]))]
    log = LineLog(Path(said["log"]))
    done = len(whole_lines(Path(said["log"])))
    with Balancer(said["url"], POOL, deadline_s=DEADLINE_S) as balancer:
        for number in range(done, len(steps)):
            while balancer.load_metrics().queued_tasks > BACKLOG:
                time.sleep(LOOK_S)
            answers = take_step(balancer, steps[number])
            log.add(json.dumps({"step": number, "answers": answers}))


def take_step(balancer: Balancer, step: dict[str, Any]) -> Answers:
    """Do one step; doing it again changes nothing."""
    if step["do"] == "submit":
        answers = balancer.submit_many(Task.model_validate(fields) for fields in step["tasks"])
        return [(answer.task_id, answer.outcome.value) for answer in answers]
    assert step["do"] == "cancel", step
    try:
        balancer.cancel(step["task"])
    except Conflict as error:
        return [(step["task"], f"refused: {error}")]
    return [(step["task"], "cancelled")]


if __name__ == "__main__":
    main()
