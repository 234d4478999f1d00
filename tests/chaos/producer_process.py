"""The producer: does the planned steps in their order. Killed and started again, it goes on after the last it logged.

What it had done and not logged yet it does a second time, which must change nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from balancer.client import Balancer
from balancer.core.errors import Conflict, WaitTimeout
from balancer.core.model import Task, TaskState
from balancer.demo.child import LineLog, arguments, whole_lines
from tests.chaos.roster import POOL

#: Waiting tasks beyond which it submits no more, and seconds until it looks again.
BACKLOG, LOOK_S = 800, 0.1
#: How long one call goes on trying, and how long it waits for a task to be where it shall be; seconds.
DEADLINE_S, PATIENCE_S = 60.0, 4.0
#: How long a role's queue is paused, seconds.
REST_S = 0.7
#: Answers that mean: not now.
LATER = {"queue_full", "unknown_parent"}

#: What a step brought: the task that it was about, the answer, and the task that answered.
Answers = list[tuple[str, str, str]]
Step = dict[str, Any]


def main() -> None:
    """Do what is left of the plan."""
    said = arguments()
    steps = [json.loads(line) for line in whole_lines(Path(said["plan"]))]
    lines = [json.loads(line) for line in whole_lines(Path(said["log"]))]
    began = {line["step"]: line["began_s"] for line in lines if "began_s" in line}
    log = LineLog(Path(said["log"]))
    with Balancer(said["url"], POOL, deadline_s=DEADLINE_S) as balancer:
        for number in range(sum("answers" in line for line in lines), len(steps)):
            until = time.monotonic() + PATIENCE_S
            while balancer.load_metrics().queued_tasks > BACKLOG and time.monotonic() < until:
                time.sleep(LOOK_S)
            if number not in began:
                began[number] = time.time()
                # Known before anything is sent: the same step means the same times, whoever does it.
                log.add(json.dumps({"step": number, "began_s": began[number]}))
            answers = take_step(balancer, steps[number], began[number])
            log.add(json.dumps({"step": number, "answers": answers}))


def take_step(balancer: Balancer, step: Step, began_s: float) -> Answers:
    """Do one step; doing it again changes nothing."""
    if step["do"] == "submit":
        return submit(balancer, [real(fields, began_s) for fields in step["tasks"]])
    return ACTIONS[step["do"]](balancer, step)


def real(fields: dict[str, Any], began_s: float) -> dict[str, Any]:
    """The fields of a task, its times counted from the beginning of the step."""
    out = {name: value for name, value in fields.items() if name != "in"}
    for name, in_s in fields.get("in", {}).items():
        out[name] = datetime.fromtimestamp(began_s + in_s, UTC)
    return out


def submit(balancer: Balancer, batch: list[dict[str, Any]]) -> Answers:
    """Submit until the pool has room for all of it. A child whose parent had no room is refused with it."""
    answers: dict[str, tuple[str, str]] = {}
    while left := [
        fields for fields in batch if answers.get(fields["id"], ("queue_full",))[0] in LATER
    ]:
        if answers:
            time.sleep(LOOK_S)
        given = balancer.submit_many(Task.model_validate(fields) for fields in left)
        for fields, answer in zip(left, given, strict=True):
            answers[fields["id"]] = answer.outcome.value, answer.task_id
    return [(task, *answer) for task, answer in answers.items()]


def cancel(balancer: Balancer, step: Step) -> Answers:
    """Whatever it does by now."""
    try:
        is_cancelled = balancer.cancel(step["task"])
    except Conflict as error:
        return [(step["task"], "refused", str(error))]
    return [(step["task"], "cancelled" if is_cancelled else "asked to stop", step["task"])]


def cancel_running(balancer: Balancer, step: Step) -> Answers:
    """As soon as an agent has it."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and balancer.status(step["task"]).state is TaskState.PENDING:
        time.sleep(LOOK_S)
    return cancel(balancer, step)


def retry(balancer: Balancer, step: Step) -> Answers:
    """Once it is dead."""
    with suppress(WaitTimeout):
        balancer.wait(step["task"], PATIENCE_S)
    (answer,) = balancer.retry([step["task"]])
    return [(step["task"], answer.outcome.value, step["task"])]


def reprioritise(balancer: Balancer, step: Step) -> Answers:
    """While it waits."""
    (answer,) = balancer.reprioritise([step["task"]], "critical")
    return [(step["task"], answer.outcome.value, step["task"])]


def rest_queue(balancer: Balancer, step: Step) -> Answers:
    """Nothing of this role is handed out for a while."""
    balancer.pause_queue(step["role"])
    time.sleep(REST_S)
    balancer.resume_queue(step["role"])
    return []


def rest_agent(balancer: Balancer, step: Step) -> Answers:
    """This agent gets nothing new for a while."""
    with suppress(Conflict):
        balancer.pause_agent(step["agent"])
        time.sleep(REST_S)
        balancer.resume_agent(step["agent"])
    return []


def retire_agent(balancer: Balancer, step: Step) -> Answers:
    """This process of the agent ends; another one will come."""
    balancer.retire_agent(step["agent"], step["deadline_s"])
    return []


ACTIONS: dict[str, Callable[[Balancer, Step], Answers]] = {
    action.__name__: action
    for action in (
        cancel,
        cancel_running,
        retry,
        reprioritise,
        rest_queue,
        rest_agent,
        retire_agent,
    )
}


if __name__ == "__main__":
    main()
