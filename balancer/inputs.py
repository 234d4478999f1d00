"""What a producer gives, checked; what the pool answers, as errors that name field, value and rule."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from balancer.core.errors import Conflict, InvalidInput, Refused
from balancer.core.model import Task
from balancer.core.names import is_name
from balancer.ledger.submit import Outcome, Submitted

#: The rule for names, for people.
NAME_IN_WORDS = "is not a name (letters, digits, '.', '_', '-'; at most 64)"


def made_task(task: Task | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Task:
    """The task that a producer means: a Task, a mapping, or the fields of one.

    Raises:
        InvalidInput: a field breaks its rule.
    """
    if isinstance(task, Task):
        return task
    try:
        return Task(**{**(task or {}), **fields})
    except ValidationError as error:
        raise InvalidInput(broken_rules(error)) from None


def broken_rules(error: ValidationError) -> str:
    """Every broken rule, naming the field, the value and the rule."""
    return "; ".join(_rule(row) for row in error.errors(include_url=False))


def _rule(row: Any) -> str:
    place = ".".join(str(part) for part in row["loc"])
    value = (
        f" {str(row['input'])[:60]!r}"
        if place and row["type"] not in ("missing", "extra_forbidden")
        else ""
    )
    rule = NAME_IN_WORDS if row["type"] == "string_pattern_mismatch" else row["msg"]
    return f"{place or 'task'}:{value} {rule}"


def stored(answer: Submitted) -> Submitted:
    """The answer, when the pool has the task now.

    Raises:
        Conflict, Refused: it has not; the text says why.
    """
    if answer.outcome.is_stored:
        return answer
    what = f"task {answer.task_id!r}"
    if answer.outcome is Outcome.CONFLICT:
        raise Conflict(f"{what}: this id names another task already (it is {answer.detail})")
    rules = {
        Outcome.UNKNOWN_PARENT: f"depends_on: there is no task {answer.detail!r}",
        Outcome.COST_OVER_MAX: f"cost: above the role's max_cost of {answer.detail}",
        Outcome.TOO_MANY_LANES: f"category: the pool has {answer.detail} lanes already"
        " (combinations of role, category and cost)",
        Outcome.TOO_MANY_ROLES: f"role: the pool has {answer.detail} roles already",
        Outcome.TOO_MANY_CHILDREN: f"depends_on: {answer.detail!r} has the most children that a task may have",
    }
    raise Refused(f"{what}: {rules[answer.outcome]}")


def check_ids(task_ids: Sequence[str]) -> None:
    """Raises InvalidInput where one cannot be a task's id."""
    for task_id in task_ids:
        if not is_name(task_id):
            raise InvalidInput(f"task id: {str(task_id)[:80]!r} {NAME_IN_WORDS}")


def check_cycles(tasks: Sequence[Task]) -> None:
    """Raises InvalidInput for a cycle within one call; the script checks all else about parents."""
    graph = {task.id: task.depends_on for task in tasks if task.depends_on}
    if not graph:
        return
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise InvalidInput(f"depends_on: a cycle: {' -> '.join(error.args[1][:10])}") from None
