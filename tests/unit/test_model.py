"""The model: every field has bounds, and a refusal names the field and the rule."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from balancer.core.model import Agent, AgentState, Task, TaskState
from balancer.core.moments import to_us
from balancer.core.names import is_name, new_id, new_nonce
from balancer.core.options import TaskOptions, dedup_hash


def agent(**facts: Any) -> Agent:
    known = {
        "id": "a1",
        "role": "dev",
        "max_concurrent": 4,
        "current_tasks": 0,
        "used": 0,
        "health": 1.0,
    }
    known |= {"state": "live", "mode": "running", "boot": "b", "heartbeat_age_s": 0.0}
    return Agent.model_validate(known | facts)


def test_task_needs_only_a_role() -> None:
    task = Task(role="dev")

    assert is_name(task.id)
    assert (task.category, task.priority, task.cost, task.max_failures) == (
        "general",
        "medium",
        1,
        3,
    )
    assert (task.run_timeout_s, task.depends_on, task.payload) == (86_400, (), None)


@pytest.mark.parametrize(
    "facts",
    [
        {"id": "x" * 64},
        {"id": "A.b_c-9"},
        {"cost": 1_000},
        {"max_failures": 100},
        {"run_timeout_s": 1},
        {"run_timeout_s": 30 * 86_400},
        {"description": "ü" * 16_384},
        {"payload": {"a": [1, None, True, 1.5, "ü"]}},
        {"depends_on": tuple(f"p{n}" for n in range(1_000))},
    ],
    ids=str,
)
def test_task_at_its_bounds_is_taken(facts: dict[str, Any]) -> None:
    task = Task(role="dev", **facts)

    assert {name: getattr(task, name) for name in facts} == facts


@pytest.mark.parametrize(
    ("facts", "field", "rule"),
    [
        ({"id": ""}, "id", "pattern"),
        ({"id": "x" * 65}, "id", "pattern"),
        ({"id": "a b"}, "id", "pattern"),
        ({"id": "a\n"}, "id", "pattern"),
        ({"id": "a:b"}, "id", "pattern"),
        ({"id": "{a}"}, "id", "pattern"),
        ({"id": "-a"}, "id", "pattern"),
        ({"id": "ä"}, "id", "pattern"),
        ({"id": "\N{ARABIC-INDIC DIGIT ONE}"}, "id", "pattern"),
        ({"id": 7}, "id", "valid string"),
        ({"role": "dev\n"}, "role", "pattern"),
        ({"role": None}, "role", "valid string"),
        ({"category": ""}, "category", "pattern"),
        ({"priority": "urgent"}, "priority", "'critical', 'high', 'medium' or 'low'"),
        ({"description": "x" * 16_385}, "description", "at most 16384"),
        ({"description": b"x"}, "description", "valid string"),
        ({"cost": 0}, "cost", "greater than or equal to 1"),
        ({"cost": -1}, "cost", "greater than or equal to 1"),
        ({"cost": 1_001}, "cost", "less than or equal to 1000"),
        ({"cost": 1.0}, "cost", "valid integer"),
        ({"cost": "1"}, "cost", "valid integer"),
        ({"cost": True}, "cost", "valid integer"),
        ({"cost": math.nan}, "cost", "valid integer"),
        ({"max_failures": 0}, "max_failures", "greater than or equal to 1"),
        ({"max_failures": 101}, "max_failures", "less than or equal to 100"),
        ({"run_timeout_s": 0.9}, "run_timeout_s", "greater than or equal to 1"),
        ({"run_timeout_s": 30 * 86_400 + 1}, "run_timeout_s", "less than or equal to 2592000"),
        ({"run_timeout_s": math.nan}, "run_timeout_s", "finite number"),
        ({"run_timeout_s": math.inf}, "run_timeout_s", "finite number"),
        ({"payload": math.nan}, "payload", "not a finite number"),
        ({"payload": {"at": object()}}, "payload", "payload.at: object is not JSON"),
        ({"depends_on": ("me",), "id": "me"}, "depends_on", "names the task itself"),
        ({"depends_on": ("a", "a")}, "depends_on", "named twice"),
        ({"depends_on": ("a b",)}, "depends_on", "pattern"),
        ({"depends_on": tuple(f"p{n}" for n in range(1_001))}, "depends_on", "at most 1000"),
        ({"prio": "high"}, "prio", "not permitted"),
        ({"dedup_key": ""}, "dedup_key", "at least 1"),
        ({"dedup_key": "x" * 257}, "dedup_key", "at most 256"),
        ({"dedup_key": "a\nb"}, "dedup_key", "control character"),
        ({"dedup_key": "a\x00"}, "dedup_key", "control character"),
        ({"dedup_key": "a\x85"}, "dedup_key", "control character"),
        ({"dedup_key": "\ud800"}, "dedup_key", "unicode"),
        ({"dedup_key": 17}, "dedup_key", "valid string"),
        *(
            ({name: value}, name, rule)
            for name in ("not_before", "expires_at")
            for value, rule in [
                (datetime(2026, 1, 1), "timezone"),  # noqa: DTZ001
                ("2026-01-01T00:00:00", "timezone"),
                ("2026-01-01", "not a time with a zone"),
                ("1764248400", "not a time with a zone"),
                (1764248400, "not a time with a zone"),
                (1764248400.5, "not a time with a zone"),
                (True, "not a time with a zone"),
                ("", "not a time with a zone"),
                ("2026-02-30T00:00:00Z", "valid datetime"),
                ("2026-01-01T25:00:00Z", "valid datetime"),
                ("2026-01-01T00:00:00Z\n", "valid datetime"),
                ("2200-01-01T00:00:00Z", "beyond the year 2200"),
                ("9999-12-31T23:59:59-23:59", "beyond the year 2200"),
            ]
        ),
        (
            {"not_before": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T00:00:00Z"},
            "expires_at",
            "never start",
        ),
        ({"max_wait_s": 0}, "max_wait_s", "greater than or equal to 0.001"),
        ({"max_wait_s": -1}, "max_wait_s", "greater than or equal to 0.001"),
        ({"max_wait_s": 365 * 86_400 + 1}, "max_wait_s", "less than or equal to 31536000"),
        ({"max_wait_s": math.nan}, "max_wait_s", "finite number"),
        ({"max_wait_s": math.inf}, "max_wait_s", "finite number"),
        ({"on_parent_failure": "maybe"}, "on_parent_failure", "'fail', 'skip' or 'run'"),
        ({"on_parent_failure": None}, "on_parent_failure", "'fail', 'skip' or 'run'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_task_out_of_bounds_is_refused_by_field_and_rule(
    facts: dict[str, Any], field: str, rule: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        Task.model_validate({"role": "dev"} | facts)

    assert field in str(caught.value)
    assert rule in str(caught.value)


def test_task_is_frozen() -> None:
    with pytest.raises(ValidationError):
        setattr(Task(role="dev"), "cost", 2)  # noqa: B010 - a type checker refuses the plain form


@pytest.mark.parametrize("state", list(TaskState))
def test_final_states_are_the_three_that_never_run_again(state: TaskState) -> None:
    assert state.is_final == (state.value in {"completed", "dead", "cancelled"})


def test_agent_with_less_than_it_holds_has_nothing_left() -> None:
    assert agent(max_concurrent=2, used=5).remaining == 0
    assert agent(max_concurrent=5, used=2).remaining == 3


def test_load_is_used_by_capacity_and_full_without_any() -> None:
    assert agent(max_concurrent=4, used=1).load == 0.25
    assert agent(max_concurrent=0).load == 1.0


@pytest.mark.parametrize(
    ("state", "n", "activity"),
    [
        ("live", 0, "idle"),
        ("live", 2, "working"),
        ("lost", 2, "stopped"),
        ("stopped", 0, "stopped"),
    ],
)
def test_activity_follows_state_and_leases(state: str, n: int, activity: str) -> None:
    known = agent(state=state, current_tasks=n)

    assert known.activity == activity
    assert isinstance(known.state, AgentState)


@pytest.mark.parametrize("text", [None, 1, b"a", "", "a\n", "a/b", ".a", "a" * 65, "É"])
def test_what_is_no_name(text: object) -> None:
    assert not is_name(text)


def test_ids_and_nonces_are_fresh_and_safe() -> None:
    ids, nonces = {new_id() for _ in range(1_000)}, {new_nonce() for _ in range(1_000)}

    assert len(ids) == len(nonces) == 1_000
    assert all(is_name(id_) and len(id_) == 16 and id_ == id_.lower() for id_ in ids)
    assert all(len(nonce) == 32 and set(nonce) <= set("0123456789abcdef") for nonce in nonces)


@pytest.mark.parametrize(
    ("moment", "us"),
    [
        (datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC), 1_000_005),
        (datetime(2199, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), 7_258_118_399_999_999),
        (datetime(1970, 1, 1, tzinfo=UTC), 1),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=23))), 1),
    ],
)
def test_moment_is_whole_microseconds_and_never_the_word_for_never(
    moment: datetime, us: int
) -> None:
    assert to_us(moment) == us


@pytest.mark.parametrize("text", ["2026-11-27T13:00:00Z", "2026-11-27 14:00:00+01:00"])
def test_moment_may_be_text_with_a_zone(text: str) -> None:
    task = Task.model_validate({"role": "dev", "not_before": text})

    assert task.not_before == datetime(2026, 11, 27, 13, tzinfo=UTC)
    assert task == Task(role="dev", id=task.id, not_before=datetime(2026, 11, 27, 13, tzinfo=UTC))


def test_options_are_stored_only_where_something_is_asked_for() -> None:
    assert TaskOptions().packed() == ""
    assert TaskOptions.read(None) == TaskOptions()
    for options in (
        TaskOptions("run"),
        TaskOptions(expires_us=5),
        TaskOptions(max_wait_ms=7),
        TaskOptions(dedup=dedup_hash("k")),
    ):
        assert TaskOptions.read(options.packed()) == options
