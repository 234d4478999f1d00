"""Holding a pool against its invariants: reads the facts in pages, `core/invariants.py` judges
them.

The pages are not one instant. Totals are read at one instant and are always judged exactly; single
tasks and agents are judged one by one; sums over all agents are judged only when no transition
happened between the first read and the last ("exact").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from balancer.core.invariants import (
    AgentFacts,
    Lease,
    RoleTotals,
    TaskFacts,
    Totals,
    agent_violations,
    known,
    sum_violations,
    task_violations,
    total_violations,
)
from balancer.core.options import WAITING
from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

TOTALS, AGENTS, TASKS = Script("audit"), Script("audit_agents"), Script("audit_tasks")
#: Members a page.
CAP_AGENTS, CAP_TASKS = 100, 200


class Audit(NamedTuple):
    """The verdict: what was looked at, what is wrong, and whether the pool stood still meanwhile."""

    exact: bool
    tasks: int
    agents: int
    violations: list[str]
    totals: Totals

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.violations


def audit(pool: Pool) -> Audit:
    """Judge every task, every agent and every total. Reads only, in bounded pages; a busy pool is
    judged without its sums.
    """
    before = read_totals(pool)
    violations = total_violations(before)
    agents = list(read_agents(pool))
    tasks, waiting = 0, Counter[str]()
    for task in read_tasks(pool, before):
        tasks += 1
        if task.fields.get("state") in WAITING:
            waiting[task.fields["role"]] += 1
        violations += task_violations(task)
    for agent in agents:
        violations += agent_violations(agent)
    after = read_totals(pool)
    exact = before == after
    if exact:
        violations += sum_violations(after, agents, waiting)
        if tasks != known(after.counters):
            violations.append(
                f"pool: {known(after.counters)} tasks were accepted, {tasks} were found"
            )
    return Audit(exact, tasks, len(agents), violations, after)


def read_totals(pool: Pool) -> Totals:
    """All totals, at one instant."""
    last, sizes, counters, roles = pool.run(TOTALS)
    return Totals(
        last,
        {name: int(size) for name, size in _pairs(sizes)},
        _counters(counters),
        {
            role: RoleTotals(_counters(own), int(pending), int(free), int(accepting))
            for role, own, pending, free, accepting in roles
        },
    )


def read_agents(pool: Pool) -> Iterator[AgentFacts]:
    """Every known agent, page by page."""
    for key in (pool.keys.alive, pool.keys.gone):
        for page in _pages(pool, key, CAP_AGENTS):
            for id_, fields, held, inbox, rank, turn, alive, gone in pool.run(AGENTS, page):
                leases = {nonce: Lease.read(record) for nonce, record in _pairs(held)}
                yield AgentFacts(
                    id_,
                    dict(_pairs(fields)),
                    leases,
                    inbox,
                    float(rank) if rank != "" else None,
                    alive != "",
                    gone != "",
                    float(turn) if turn != "" else None,
                )


def read_tasks(pool: Pool, totals: Totals) -> Iterator[TaskFacts]:
    """Every task, collection by collection, page by page. On a busy pool one may be met twice or
    missed.
    """
    k = pool.keys
    collections = [k.scheduled, k.blocked, k.failed, k.leases, k.completed, k.dead, k.cancelled]
    for key in [*collections, *(k.pending(role) for role in totals.roles)]:
        for page in _pages(pool, key, CAP_TASKS):
            for id_, fields, homes, record, parents, expires, first in pool.run(TASKS, page):
                yield TaskFacts(
                    id_,
                    dict(_pairs(fields)),
                    set(homes),
                    Lease.read(record) if record else None,
                    int(parents),
                    float(expires) if expires != "" else None,
                    first,
                )


def _pages(pool: Pool, key: str, size: int) -> Iterator[list[str]]:
    start = 0
    while True:
        page = pool.client.zrange(key, start, start + size - 1)
        if page:
            yield page
        if len(page) < size:
            return
        start += size


def _pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _counters(flat: Sequence[Any]) -> dict[str, int]:
    return {name: int(value) for name, value in _pairs(flat)}
