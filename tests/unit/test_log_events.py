"""Every log call of the code: what happened is said in the past tense, ids and numbers are fields, secrets are none."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("balancer/**/*.py"), *ROOT.glob("worker/**/*.py")])
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
#: Participles and past tenses that do not end with -ed.
IRREGULAR = {
    *("begun", "broke", "broken", "done", "found", "given", "gone", "held", "kept", "left", "lost", "made"),
    *("read", "said", "seen", "sent", "set", "shut", "stuck", "swept", "taken", "told", "was", "went", "written"),
}  # fmt: skip
#: What may never be a field: what a task carries, and what opens doors.
FORBIDDEN = {"payload", "description", "body", "result", "password", "secret", "token"}


class Call(NamedTuple):
    """One call that logs."""

    place: str
    events: tuple[str, ...]
    fields: tuple[str, ...]

    def __str__(self) -> str:
        return self.place


def _is_log(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Attribute) and node.attr in LEVELS and "log" in ast.unparse(node.value)
    )


def _is_logging(call: ast.Call) -> bool:
    """`log.info(...)`, `say(log.info, ...)`, or a level that was chosen: `level(...)`."""
    if isinstance(call.func, ast.Name) and call.func.id in ("say", "level"):
        return call.func.id == "level" or bool(call.args and _is_log(call.args[0]))
    chosen = call.func
    return _is_log(chosen.body) if isinstance(chosen, ast.IfExp) else _is_log(chosen)


def _texts(node: ast.expr, scope: ast.AST) -> Iterator[str]:
    """What an event can be: a text, the fixed part of an f-string, either side of a choice, what a name was given."""
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body, scope)
        yield from _texts(node.orelse, scope)
    elif isinstance(node, ast.Name):
        for other in ast.walk(scope):
            if isinstance(other, ast.Assign) and ast.unparse(other.targets[0]) == node.id:
                yield from _texts(other.value, scope)


def _calls() -> Iterator[Call]:
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for scope in ast.walk(tree):
            if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for call in ast.walk(scope):
                if isinstance(call, ast.Call) and _is_logging(call):
                    is_said = isinstance(call.func, ast.Name) and call.func.id == "say"
                    event = call.args[1 if is_said else 0]
                    if isinstance(event, ast.Name) and event.id == "event":
                        own = tuple(_texts(event, scope))
                        if not own and scope.name == "say":
                            continue  # the one place that passes on what others say
                    place = f"{path.relative_to(ROOT)}:{call.lineno}"
                    fields = tuple(word.arg for word in call.keywords if word.arg)
                    yield Call(place, tuple(_texts(event, scope)), fields)


CALLS = sorted(set(_calls()))


def test_the_calls_were_found() -> None:
    events = {event for call in CALLS for event in call.events}
    assert {"balancer_started", "loop_failed", "agent_superseded", "_broke", "swept"} <= events
    assert len(CALLS) > 30


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_an_event_is_in_the_past_tense_and_holds_no_id(call: Call) -> None:
    assert call.events, "the event is no text that can be read here"
    for event in call.events:
        words = event.strip("_").split("_")
        assert event == event.lower()
        assert all(word.isalpha() for word in words), event
        assert any(word in IRREGULAR or word.endswith("ed") for word in words), event


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_no_field_holds_what_a_task_carries(call: Call) -> None:
    assert not set(call.fields) & FORBIDDEN


def test_agents_and_tasks_have_one_name_in_every_event() -> None:
    fields = {(field, call.place) for call in CALLS for field in call.fields}
    assert not [pair for pair in sorted(fields) if pair[0] in {"agent", "task", "lease", "id"}]
