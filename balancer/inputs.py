"""What a producer gives, checked; what the pool answers, as errors that name field, value and rule."""

from __future__ import annotations

import difflib
import graphlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from balancer.core.errors import Conflict, InvalidInput, QueueFull, RedisFull, Refused
from balancer.core.model import Task
from balancer.core.moments import TIME_RULE
from balancer.core.names import is_name
from balancer.core.payload import MAX_INT
from balancer.ledger.submit import Outcome, QueueState, Submitted

T = TypeVar("T")

#: The rule for names, for people.
NAME_IN_WORDS = "is not a name (letters, digits, '.', '_', '-'; at most 64)"
#: Longest wait for room in a full queue, seconds.
MAX_BLOCK_S = 86_400
NOT_UNICODE = "is not valid Unicode (a lone surrogate)"
#: What pydantic says of a text that is no time, or of a time without a zone.
_TIMES = ("timezone_aware", "datetime_parsing", "datetime_from_date_parsing", "datetime_type")
#: Rules that pydantic words for programmers.
_RULES = {
    "string_pattern_mismatch": NAME_IN_WORDS,
    "string_unicode": NOT_UNICODE,
    **dict.fromkeys(_TIMES, TIME_RULE),
}


def made_task(task: Task | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Task:
    """The task that a producer means: a Task, a mapping, or the fields of one.

    Raises:
        InvalidInput: a field breaks its rule.
    """
    if isinstance(task, Task):
        return task
    if task is not None:
        if not isinstance(task, Mapping):
            raise InvalidInput(f"task: {task!r:.80} is neither a Task nor a mapping of its fields")
        fields = {**task, **fields}
    try:
        return Task.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(broken_rules(error)) from None


def broken_rules(error: ValidationError, model: type[BaseModel] = Task) -> str:
    """Every broken rule of what should have been a `model`, naming the field, the value and the rule."""
    return "; ".join(_rule(row, model) for row in error.errors(include_url=False))


def _rule(row: Any, model: type[BaseModel]) -> str:
    path = row["loc"]
    if path and path[-1] == "[key]":  # the name itself is the value
        path = path[:-2]
    place = ".".join(str(part) for part in path)
    if row["type"] == "missing":
        return f"missing {place}"
    if row["type"] == "extra_forbidden":
        what = "field" if model is Task else "setting"
        near = difflib.get_close_matches(str(row["loc"][-1]), _known(row["loc"][:-1], model), 1)
        return f"{place}: unknown {what}{f', did you mean {near[0]!r}?' if near else ''}"
    value = f" {str(row['input'])[:60]!r}" if place else ""
    said = row["msg"].removeprefix("Value error, ").removeprefix(f"{row['input']!r} ")
    rule = _RULES.get(row["type"], said.replace("Input should be", "must be", 1))
    return f"{place or 'task'}:{value} {rule}"


def _known(path: Sequence[str | int], model: type[BaseModel]) -> list[str]:
    """The fields of the model that stands at a path within a model."""
    for part in path:
        field = model.model_fields.get(str(part))
        inner = (field.annotation, *get_args(field.annotation)) if field else ()
        model = next((t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)), model)
    return list(model.model_fields)


def check_text(name: str, value: object) -> None:
    """Raises InvalidInput where a text is none, or cannot be written as UTF-8."""
    if not isinstance(value, str):
        raise InvalidInput(f"{name}: {value!r:.80} is not a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        shown = value[error.start : error.start + 60]
        raise InvalidInput(f"{name}: {shown!r} {NOT_UNICODE}") from None


def listed(name: str, values: Iterable[T]) -> list[T]:
    """The values as a list; raises InvalidInput where there are none to go through."""
    if not isinstance(values, Iterable):
        raise InvalidInput(f"{name}: {values!r:.80} is not a list")
    return list(values)


def check_count(name: str, value: object, most: int) -> None:
    """Raises InvalidInput where it is no whole number from 1 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidInput(f"{name}: {value!r:.80} is not a whole number from 1 to {most}")


def check_seconds(name: str, value: object) -> None:
    """Raises InvalidInput where it is no number of seconds; infinity is one."""
    is_number = not isinstance(value, bool) and (
        (isinstance(value, int) and abs(value) <= MAX_INT)
        or (isinstance(value, float) and not math.isnan(value))
    )
    if not is_number:
        raise InvalidInput(f"{name}: {value!r:.80} is not a number of seconds")


def check_block(value: object) -> None:
    """Raises InvalidInput where it is no time to wait for room: it must have an end."""
    check_seconds("block_s", value)
    if not 0 <= value <= MAX_BLOCK_S:  # type: ignore[operator]
        raise InvalidInput(f"block_s: {value!r:.80} is not from 0 to {MAX_BLOCK_S} seconds")


def check_callback(value: object) -> None:
    """Raises InvalidInput where it cannot be called."""
    if not callable(value):
        raise InvalidInput(f"on_completion: {value!r:.80} cannot be called")


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
    if answer.queue:
        raise queue_full(what, answer.queue)
    if answer.outcome is Outcome.REDIS_FULL:
        raise RedisFull(
            f"{what}: Redis' memory is nearly full; new tasks are refused until it is not"
        )
    rules = {
        Outcome.UNKNOWN_PARENT: f"depends_on: there is no task {answer.detail!r}",
        Outcome.COST_OVER_MAX: f"cost: above the role's max_cost of {answer.detail}",
        Outcome.TOO_MANY_LANES: f"category: the pool has {answer.detail} lanes already"
        " (combinations of role, category and cost)",
        Outcome.TOO_MANY_ROLES: f"role: the pool has {answer.detail} roles already",
        Outcome.TOO_MANY_CHILDREN: f"depends_on: {answer.detail!r} has the most children that a task may have",
    }
    raise Refused(f"{what}: {rules[answer.outcome]}")


def queue_full(what: str, state: QueueState) -> QueueFull:
    """The error of a queue that takes no more."""
    return QueueFull(f"{what}: its role's queue is full: {state.in_words()}", *state)


def check_ids(names: Sequence[str], what: str = "task id") -> None:
    """Raises InvalidInput where one cannot be a task's id, or what else it should be."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InvalidInput(f"{what}s: {names!r:.80} is not a list of names")
    for name in names:
        if not is_name(name):
            raise InvalidInput(f"{what}: {str(name)[:80]!r} {NAME_IN_WORDS}")


def check_cycles(tasks: Sequence[Task]) -> None:
    """Raises InvalidInput for a cycle within one call; the script checks all else about parents."""
    graph = {task.id: task.depends_on for task in tasks if task.depends_on}
    if not graph:
        return
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise InvalidInput(f"depends_on: a cycle: {' -> '.join(error.args[1][:10])}") from None
