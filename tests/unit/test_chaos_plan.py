"""Chaos is repeatable: a seed is its faults and its inputs."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest

from balancer.core.model import Task
from tests.chaos.inputs import make_inputs
from tests.chaos.producer_process import ACTIONS, real
from tests.chaos.roster import AGENTS, BALANCERS, PRODUCER, TTL_S
from tests.chaos.schedule import FULL, REDIS, SHORT, Kind, Profile, make_schedule


@pytest.mark.parametrize("profile", [FULL, SHORT])
def test_a_seed_means_the_same_faults_each_time_and_other_ones_than_the_next(
    profile: Profile,
) -> None:
    schedule = make_schedule(7, profile)
    assert schedule == make_schedule(7, profile)
    assert schedule != make_schedule(8, profile)


def test_a_seed_means_the_same_inputs_each_time_and_other_ones_than_the_next() -> None:
    inputs = make_inputs(7, 1_000)
    assert inputs == make_inputs(7, 1_000)
    assert inputs != make_inputs(8, 1_000)


def test_the_full_run_has_the_faults_that_it_promises() -> None:
    schedule = make_schedule(1, FULL)
    assert sum(fault.is_signal for fault in schedule) >= 100
    kinds = Counter((fault.kind, fault.victim) for fault in schedule)
    assert kinds[Kind.KILL, REDIS] >= 3
    assert kinds[Kind.KILL, PRODUCER] >= 1
    assert {fault.kind for fault in schedule} == set(Kind)
    zombies = [fault for fault in schedule if fault.kind is Kind.STOP and fault.lasts_s > TTL_S]
    assert any(fault.victim not in BALANCERS for fault in zombies)
    assert FULL.tasks == 20_000


def test_faults_come_in_order_and_before_the_last_tasks_have_ended() -> None:
    names = {agent.id for agent in AGENTS} | {*BALANCERS, PRODUCER, REDIS}
    for seed in range(20):
        schedule = make_schedule(seed, FULL)
        assert [fault.at for fault in schedule] == sorted(fault.at for fault in schedule)
        assert all(0 < fault.at < FULL.tasks for fault in schedule)
        assert {fault.victim for fault in schedule} <= names


def test_every_planned_task_is_one_that_a_pool_takes_after_its_parents() -> None:
    inputs = make_inputs(3, 4_000)
    assert len(inputs.tasks) == 4_000
    submitted: set[str] = set()
    for step in inputs.steps:
        for fields in step.get("tasks", ()):
            task = Task.model_validate(real(fields, 1.8e9))
            assert set(task.depends_on) <= submitted
            submitted.add(task.id)
        assert step.get("task") in {None, *submitted}
    twins = {id_ for id_ in submitted if id_.endswith("-twin")}
    assert submitted - twins == set(inputs.tasks)
    assert twins


def test_there_is_something_of_every_kind_in_every_run() -> None:
    inputs = make_inputs(3, SHORT.tasks)
    done = {step["do"] for step in inputs.steps}
    assert done == {"submit", *ACTIONS}
    assert {step.get("expect", "").partition(" ")[0] for step in inputs.steps} == {
        "", "duplicate", "conflict",
    }  # fmt: skip
    fields = [planned.fields for planned in inputs.tasks.values()]
    named = {name for each in fields for name in each}
    assert named >= {
        "depends_on",
        "on_parent_failure",
        "in",
        "max_wait_s",
        "dedup_key",
        "max_failures",
    }
    assert {name for each in fields for name in each["payload"]} >= {"fails", "rejects", "poison"}
    assert {name for each in fields for name in each.get("in", ())} == {"not_before", "expires_at"}


def test_a_step_that_is_done_again_means_the_same_times() -> None:
    fields = {"id": "t1", "role": "r", "in": {"not_before": 2.5}}
    made = real(fields, 1.8e9)
    assert (
        made
        == real(fields, 1.8e9)
        == {
            "id": "t1",
            "role": "r",
            "not_before": datetime.fromtimestamp(1.8e9 + 2.5, UTC),
        }
    )
