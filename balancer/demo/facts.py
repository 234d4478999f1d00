"""What the report is made of: everything submitted looked up in Redis, the agents' own logs, and the audit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from balancer.core.invariants import AgentFacts
from balancer.demo.child import whole_lines
from balancer.demo.worklog import Event
from balancer.ledger import read_tasks
from balancer.ledger.audit import Audit, audit, read_agents
from balancer.ledger.event import Event as Transition
from balancer.ledger.pool import Pool
from balancer.ledger.read_tasks import TaskStatus
from balancer.ledger.submit import Outcome

#: Tasks, and events, read in one call.
PAGE, EVENTS_PAGE = 200, 5_000
#: The pool should stand still for the audit: how often to try again, and how long to wait before, seconds.
AUDITS, AUDIT_PAUSE_S = 10, 0.2


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found when all was over."""

    #: Tasks that the plan has.
    planned: int
    #: By the producer's log: what the pool answered for each task.
    answers: dict[str, Outcome]
    #: Everything that the pool answered for, looked up in Redis.
    statuses: dict[str, TaskStatus | None]
    #: By the agents' logs, by agent.
    worklogs: dict[str, list[Event]]
    #: By the pool's events: how often a task's completion took effect, and when its lease was taken back.
    settled: Counter[str]
    reclaimed_at: dict[str, list[float]]
    agents: list[AgentFacts]
    audit: Audit
    killed: int
    restarts: int
    elapsed_s: float
    #: Why the demo ended before all was done; empty when it did not.
    gave_up: str = ""


def read_answers(log: Path) -> dict[str, Outcome]:
    """The producer's log."""
    return {
        id_: Outcome(outcome) for id_, outcome in (line.split(" ") for line in whole_lines(log))
    }


def read_statuses(pool: Pool, ids: Iterable[str]) -> dict[str, TaskStatus | None]:
    """Each of these tasks, as Redis holds it."""
    wanted = list(ids)
    found: dict[str, TaskStatus | None] = {}
    for at in range(0, len(wanted), PAGE):
        page = wanted[at : at + PAGE]
        found |= zip(page, read_tasks.task_statuses(pool, page), strict=True)
    return found


def read_events(pool: Pool) -> tuple[Counter[str], dict[str, list[float]]]:
    """From the pool's stream of transitions: completions that took effect, and reclaims, by task."""
    settled: Counter[str] = Counter()
    reclaimed_at: dict[str, list[float]] = {}
    after = "-"
    while page := pool.client.xrange(pool.keys.events, min=after, count=EVENTS_PAGE):
        for entry, fields in page:
            at = int(entry.split("-")[0]) / 1000
            for event in Transition.read(fields):
                if event.name == "completed":
                    settled[event.task] += 1
                elif event.name == "reclaimed":
                    reclaimed_at.setdefault(event.task, []).append(at)
        after = f"({page[-1][0]}"
    return settled, reclaimed_at


def read_audit(pool: Pool) -> tuple[Audit, list[AgentFacts]]:
    """The audit of a pool that stands still, or soon will, and the facts of its agents."""
    for _ in range(AUDITS):
        verdict, agents = audit(pool), list(read_agents(pool))
        if verdict.exact:
            break
        time.sleep(AUDIT_PAUSE_S)
    return verdict, agents
