"""The demo's figures: a pure function from facts. Losses and overcommits are recounted, never taken from counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from balancer.core.model import TaskState
from balancer.demo.facts import Facts
from balancer.demo.options import DemoOptions
from balancer.demo.plan import Plan
from balancer.demo.sample import percentile
from balancer.demo.worklog import completions, overcommits
from balancer.ledger.read_tasks import TaskStatus

#: Sentences of one kind that a report holds.
MOST = 20


def make_report(plan: Plan, options: DemoOptions, facts: Facts) -> dict[str, Any]:
    """The report. `ok` decides the exit code; `problems` says in words why it is false."""
    known = [status for status in facts.statuses.values() if status]
    states = Counter(status.state for status in known)
    submitted = [id_ for id_, outcome in facts.answers.items() if outcome.is_stored]
    lost = [id_ for id_ in submitted if not _has_ended(facts.statuses.get(id_))]
    over = sum(overcommits(events) for events in facts.worklogs.values())
    drift = counter_drift(facts)
    counters = facts.audit.totals.counters
    problems = _problems(facts, submitted, lost, over, drift)
    granted = [status for status in known if status.granted_at is not None]
    return {
        "ok": not problems,
        "problems": problems,
        "trace": options.trace.name,
        "load": options.load,
        "speed": round(plan.speed, 3),
        "arrival_factor": round(plan.arrival_factor, 3),
        "capacity": plan.capacity,
        "agents": len(plan.agents),
        "replicas": options.replicas,
        "killed": facts.killed,
        "restarts": facts.restarts,
        "submitted": len(submitted),
        "completed": states[TaskState.COMPLETED],
        "failed_attempts": sum(status.failures for status in known),
        "dead": states[TaskState.DEAD],
        "cancelled": states[TaskState.CANCELLED],
        "lost": len(lost),
        "overcommits": over,
        "counter_drift": sum(abs(said - found) for _, said, found in drift),
        "reclaimed": counters.get("reclaimed", 0),
        "stale_completions": counters.get("completions_stale", 0),
        "duplicate_completions": counters.get("completions_duplicate", 0),
        "wait_s": _percentiles([_wait_s(status) for status in granted], 3),
        "dispatch_ms": _percentiles([_dispatch_ms(status, facts) for status in granted], 1),
        "elapsed_s": round(facts.elapsed_s, 1),
        "tasks_per_s": round(_throughput(known), 1),
        "audit": {
            "clean": facts.audit.clean,
            "exact": facts.audit.exact,
            "violations": facts.audit.violations,
        },
    }


def counter_drift(facts: Facts) -> list[tuple[str, int, int]]:
    """Every counter beside the recount of what it counts: (which, what it says, what was found)."""
    known = [status for status in facts.statuses.values() if status]
    totals, agents = facts.audit.totals, facts.agents
    rows: list[tuple[str, int, int]] = []
    sums: Counter[str] = Counter()
    for role, own in totals.roles.items():
        tasks = [status for status in known if status.role == role]
        mine = [agent for agent in agents if agent.fields["role"] == role]
        live = [agent for agent in mine if agent.fields["state"] == "live"]
        states = Counter(status.state for status in tasks)
        found = Counter(
            {
                "accepted": len(tasks),
                "completed": states[TaskState.COMPLETED],
                "dead": states[TaskState.DEAD],
                "cancelled": states[TaskState.CANCELLED],
                "failed_attempts": sum(status.failures for status in tasks),
                "agents": len(live),
                "capacity": sum(int(agent.fields["max"]) for agent in live),
                "used": sum(lease.cost for agent in mine for lease in agent.leases.values()),
                "running": sum(len(agent.leases) for agent in mine),
            }
        )
        sums += found
        rows += [(f"role {role} {name}", own.counters.get(name, 0), n) for name, n in found.items()]
    rows += [(f"pool {name}", totals.counters.get(name, 0), sums[name]) for name in sums]
    for agent in agents:
        used = sum(lease.cost for lease in agent.leases.values())
        rows.append((f"agent {agent.id} used", int(agent.fields["used"]), used))
        rows.append((f"agent {agent.id} n", int(agent.fields["n"]), len(agent.leases)))
    return rows


def _problems(
    facts: Facts,
    submitted: Sequence[str],
    lost: list[str],
    over: int,
    drift: list[tuple[str, int, int]],
) -> list[str]:
    out = [facts.gave_up] if facts.gave_up else []
    if len(facts.answers) < facts.planned:
        out.append(f"{facts.planned - len(facts.answers)} tasks were never submitted")
    out += _some(
        f"{id_}: refused ({outcome})"
        for id_, outcome in facts.answers.items()
        if not outcome.is_stored
    )
    out += _some(f"{id_}: submitted, but {_where(facts.statuses.get(id_))}" for id_ in lost)
    if over:
        out.append(f"an agent carried more than its units, {over} times")
    out += _some(f"{what}: says {said}, recounted {n}" for what, said, n in drift if said != n)
    out += _some(f"{id_}: completed {n} times" for id_, n in facts.settled.items() if n > 1)
    claimed = completions(facts.worklogs)
    out += _some(
        f"{status.id}: completed, but {status.agent} did not complete attempt {status.attempt}"
        for id_ in submitted
        if (status := facts.statuses.get(id_)) and status.state is TaskState.COMPLETED
        if (status.agent, status.id, status.attempt) not in claimed
    )
    if not facts.audit.exact:
        out.append("the pool did not stand still for the audit")
    return out + _some(f"audit: {violation}" for violation in facts.audit.violations)


def _some(sentences: Iterable[str]) -> list[str]:
    found = list(sentences)
    more = len(found) - MOST
    return found if more <= 0 else [*found[:MOST], f"... and {more} more like the last"]


def _has_ended(status: TaskStatus | None) -> bool:
    return status is not None and status.state.is_final


def _where(status: TaskStatus | None) -> str:
    return f"it is {status.state}" if status else "Redis does not know it"


def _wait_s(status: TaskStatus) -> float:
    """From ready to the last grant."""
    assert status.granted_at is not None
    return status.granted_at - status.ready_at


def _dispatch_ms(status: TaskStatus, facts: Facts) -> float:
    """To the grant, from when the task was ready (again, if it was taken back) and its agent had gained a unit."""
    assert status.granted_at is not None
    again = [at for at in facts.reclaimed_at.get(status.id, []) if at <= status.granted_at]
    since = max([status.ready_at, status.freed_at or 0.0, *again])
    return 1000 * (status.granted_at - since)


def _percentiles(values: Sequence[float], digits: int) -> dict[str, float]:
    return {f"p{p}": round(max(0.0, percentile(values, p)), digits) for p in (50, 95, 99)}


def _throughput(statuses: Sequence[TaskStatus]) -> float:
    """Tasks that ended, by the time from the first submission to the last end."""
    ends = [status.ended_at for status in statuses if status.ended_at is not None]
    span_s = max(ends) - min(status.accepted_at for status in statuses) if ends else 0.0
    return len(ends) / span_s if span_s else 0.0
