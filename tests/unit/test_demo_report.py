from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from balancer.core.invariants import AgentFacts, Lease, RoleTotals, Totals
from balancer.core.model import TaskState
from balancer.demo.facts import Facts
from balancer.demo.options import DemoOptions
from balancer.demo.plan import Plan, make_plan
from balancer.demo.render import render
from balancer.demo.report import counter_drift, make_report
from balancer.demo.sample import percentile
from balancer.demo.worklog import Event, overcommits
from balancer.ledger.audit import Audit
from balancer.ledger.read_tasks import TaskStatus
from balancer.ledger.submit import Outcome
from tests.unit.test_demo_plan import rows

OPTIONS = DemoOptions(trace=Path("some.csv"))
TASKS = {"t0": "agent-1", "t1": "agent-2"}


def status(id: str, **fields: Any) -> TaskStatus:
    return TaskStatus.model_validate(
        {
            "id": id,
            "state": TaskState.COMPLETED,
            "role": "developer",
            "category": "fix",
            "priority": "high",
            "cost": 1,
            "attempt": 1,
            "failures": 0,
            "losses": 0,
            "max_failures": 3,
            "agent": TASKS[id],
            "reason": "",
            "accepted_at": 100.0,
            "not_before": None,
            "expires_at": None,
            "max_wait_s": None,
            "on_parent_failure": "fail",
            "requires": {},
            "prefer_agent": None,
            "prefer_for_s": None,
            "ready_at": 100.0,
            "granted_at": 100.5,
            "freed_at": 100.4,
            "ended_at": 102.0,
            "assignment": None,
            "body": {},
            "result": {},
            **fields,
        }
    )


def event(what: str, task: str = "t0", pid: int = 1, **fields: Any) -> Event:
    return Event(
        **{
            "agent": TASKS[task],
            "event": what,
            "task": task,
            "attempt": 1,
            "cost": 1,
            "units": 1,
            "pid": pid,
            **fields,
        }
    )


def agent(id: str, used: int = 0, leases: dict[str, Lease] | None = None) -> AgentFacts:
    fields = {"role": "developer", "state": "live", "max": "1", "used": str(used), "n": "0"}
    return AgentFacts(id, fields, leases or {}, [], None, True, False)


def counters(**fields: int) -> dict[str, int]:
    return {"accepted": 2, "completed": 2, "agents": 2, "capacity": 2, **fields}


@pytest.fixture
def plan() -> Plan:
    return make_plan(rows(2), OPTIONS)


@pytest.fixture
def facts() -> Facts:
    """All went well."""
    totals = Totals("0-1", {}, counters(), {"developer": RoleTotals(counters(), 0, 2, 2)})
    return Facts(
        planned=2,
        answers=dict.fromkeys(TASKS, Outcome.ACCEPTED),
        statuses={id_: status(id_) for id_ in TASKS},
        worklogs={
            name: [event("start", id_), event("completed", id_)] for id_, name in TASKS.items()
        },
        settled=Counter(TASKS.keys()),
        reclaimed_at={},
        agents=[agent("agent-1"), agent("agent-2")],
        audit=Audit(exact=True, tasks=2, agents=2, violations=[], totals=totals),
        killed=0,
        restarts=0,
        elapsed_s=12.34,
    )


def test_a_report_of_a_clean_run_is_ok(plan: Plan, facts: Facts) -> None:
    assert make_report(plan, OPTIONS, facts) == {
        "ok": True,
        "problems": [],
        "trace": "some.csv",
        "load": 0.9,
        "speed": round(plan.speed, 3),
        "arrival_factor": round(plan.arrival_factor, 3),
        "capacity": 32,
        "agents": 14,
        "replicas": 2,
        "killed": 0,
        "restarts": 0,
        "submitted": 2,
        "completed": 2,
        "failed_attempts": 0,
        "dead": 0,
        "cancelled": 0,
        "lost": 0,
        "overcommits": 0,
        "counter_drift": 0,
        "reclaimed": 0,
        "stale_completions": 0,
        "duplicate_completions": 0,
        "wait_s": {"p50": 0.5, "p95": 0.5, "p99": 0.5},
        "dispatch_ms": {"p50": 100.0, "p95": 100.0, "p99": 100.0},
        "elapsed_s": 12.3,
        "tasks_per_s": 1.0,
        "audit": {"clean": True, "exact": True, "violations": []},
    }


def test_dispatch_counts_from_the_last_thing_it_waited_for(plan: Plan, facts: Facts) -> None:
    of: dict[str, TaskStatus | None] = {
        "t0": status("t0", ready_at=100.0, freed_at=90.0, granted_at=103.0),
        "t1": status("t1", ready_at=100.0, freed_at=100.25, granted_at=100.5),
    }
    # t0 was taken back at 102.75, and (after its grant, so for nothing here) at 104.
    moved = replace(facts, statuses=of, reclaimed_at={"t0": [101.0, 102.75, 104.0]})
    report = make_report(plan, OPTIONS, moved)

    assert report["dispatch_ms"] == {"p50": 250.0, "p95": 250.0, "p99": 250.0}
    assert report["wait_s"]["p99"] == 3.0


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "t1: submitted, but Redis does not know it"),
        (
            status("t1", state=TaskState.ASSIGNED, ended_at=None),
            "t1: submitted, but it is assigned",
        ),
    ],
)
def test_what_has_not_ended_is_lost(
    plan: Plan, facts: Facts, found: TaskStatus | None, text: str
) -> None:
    report = make_report(plan, OPTIONS, replace(facts, statuses={**facts.statuses, "t1": found}))

    assert (report["ok"], report["lost"]) == (False, 1)
    assert text in report["problems"]


def test_a_completion_that_no_agent_wrote_down_is_a_problem(plan: Plan, facts: Facts) -> None:
    worklogs = {**facts.worklogs, "agent-2": [event("start", "t1"), event("cancelled", "t1")]}
    report = make_report(plan, OPTIONS, replace(facts, worklogs=worklogs))

    assert report["problems"] == ["t1: completed, but agent-2 did not complete attempt 1"]


def test_a_task_that_completed_twice_is_a_problem(plan: Plan, facts: Facts) -> None:
    report = make_report(plan, OPTIONS, replace(facts, settled=Counter({"t0": 2, "t1": 1})))

    assert report["problems"] == ["t0: completed 2 times"]


def test_what_was_never_submitted_or_was_refused_is_a_problem(plan: Plan, facts: Facts) -> None:
    answers = {"t0": Outcome.ACCEPTED, "t1": Outcome.UNKNOWN_PARENT}
    report = make_report(plan, OPTIONS, replace(facts, planned=3, answers=answers))

    assert report["submitted"] == 1
    assert report["problems"] == [
        "1 tasks were never submitted",
        "t1: refused (unknown_parent)",
    ]


def test_giving_up_and_the_audit_are_problems(plan: Plan, facts: Facts) -> None:
    audit = facts.audit._replace(exact=False, violations=[f"v{i}" for i in range(25)])
    report = make_report(plan, OPTIONS, replace(facts, gave_up="gave up", audit=audit))

    assert report["problems"][:3] == [
        "gave up",
        "the pool did not stand still for the audit",
        "audit: v0",
    ]
    assert report["problems"][-1] == "... and 5 more like the last"
    assert report["audit"] == {"clean": False, "exact": False, "violations": audit.violations}


def test_drift_is_every_counter_that_is_not_what_it_counts(plan: Plan, facts: Facts) -> None:
    lease = Lease("t0", 1, 1, "0-1")
    totals = facts.audit.totals._replace(counters=counters(completed=5))
    wrong = replace(
        facts,
        audit=facts.audit._replace(totals=totals),
        agents=[agent("agent-1", leases={"n": lease}), agent("agent-2", used=2)],
    )

    assert {row for row in counter_drift(wrong) if row[1] != row[2]} == {
        ("pool completed", 5, 2),
        ("role developer used", 0, 1),
        ("pool used", 0, 1),
        ("role developer running", 0, 1),
        ("pool running", 0, 1),
        ("agent agent-1 used", 0, 1),
        ("agent agent-1 n", 0, 1),
        ("agent agent-2 used", 2, 0),
    }
    assert make_report(plan, OPTIONS, wrong)["counter_drift"] == 11


def test_an_agent_is_overcommitted_when_it_begins_more_than_its_units() -> None:
    start, end = event("start"), event("completed")

    assert overcommits([start, end, start, end]) == 0
    assert overcommits([start, start, end, start]) == 2
    assert (
        overcommits([event("start", cost=2, units=3), event("start", "t1", cost=2, units=3)]) == 1
    )


def test_the_work_of_a_killed_agent_ends_with_its_process() -> None:
    assert overcommits([event("start", pid=1), event("start", pid=2)]) == 0


def test_overcommits_are_a_problem(plan: Plan, facts: Facts) -> None:
    worklogs = {**facts.worklogs, "agent-1": [event("start"), event("start"), event("completed")]}
    report = make_report(plan, OPTIONS, replace(facts, worklogs=worklogs))

    assert report["overcommits"] == 1
    assert report["problems"] == ["an agent carried more than its units, 1 times"]


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 99, 0.0), ([7.0], 50, 7.0), ([3.0, 1.0, 2.0], 50, 2.0), (list(range(1, 101)), 95, 95)],
)
def test_percentile(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def shown(report: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(render(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_report_for_people_has_the_figures_and_the_verdict(plan: Plan, facts: Facts) -> None:
    text = shown(make_report(plan, OPTIONS, facts))

    assert "p50 0.5 s, p95 0.5 s, p99 0.5 s" in text
    assert "0 lost, 0 overcommits, counters off by 0" in text
    assert "OK: everything submitted ended" in text


def test_the_report_for_people_names_every_problem(plan: Plan, facts: Facts) -> None:
    audit = facts.audit._replace(exact=False)
    still = shown(make_report(plan, OPTIONS, replace(facts, audit=audit)))
    dirty = shown(
        make_report(plan, OPTIONS, replace(facts, audit=audit._replace(violations=["v"])))
    )

    assert "clean, without sums" in still
    assert "1 violations" in dirty
    assert "NOT OK:" in dirty
    assert "audit: v" in dirty
