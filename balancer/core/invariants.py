"""What must always be true of a pool, as pure functions from facts to sentences. An empty list
means: nothing is wrong.

The audit reads the facts from Redis; the state-machine test runs the same rules after every step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from balancer.core.options import TaskOptions, expiry_us

#: Which collections hold a task of a state.
HOMES = {
    "scheduled": {"scheduled"},
    "blocked": {"blocked"},
    "pending": {"pending", "lane"},
    "assigned": {"leases"},
    "completed": {"completed"},
    "failed": {"failed"},
    "dead": {"dead"},
    "cancelled": {"cancelled"},
}


#: The states of tasks that have ended.
FINISHED = ("completed", "dead", "cancelled")


class Lease(NamedTuple):
    """One lease record."""

    task: str
    cost: int
    attempt: int
    entry: str
    #: Its agent has restarted and does not go on with it.
    is_orphaned: bool = False
    #: Inbox entry of the wish that it be stopped; empty when nobody has that.
    cancel: str = ""

    @classmethod
    def read(cls, record: str) -> Lease:
        """Parse a stored record."""
        task, cost, attempt, entry, *flags = record.split(" ")
        cancel = next((flag[7:] for flag in flags if flag.startswith("cancel=")), "")
        return cls(task, int(cost), int(attempt), entry, "orphaned" in flags, cancel)


class TaskFacts(NamedTuple):
    """One task at one instant."""

    id: str
    fields: dict[str, str]
    homes: set[str]
    lease: Lease | None
    open_parents: int
    expires_us: float | None = None
    dedup_task: str = ""


class AgentFacts(NamedTuple):
    """One agent at one instant."""

    id: str
    fields: dict[str, str]
    leases: dict[str, Lease]
    inbox: list[str]
    rank: float | None
    is_alive: bool
    is_gone: bool
    turn: float | None = None


class RoleTotals(NamedTuple):
    """Counters of a role beside what they count."""

    counters: dict[str, int]
    pending: int
    free_units: int
    accepting_units: int


class Totals(NamedTuple):
    """The totals of a pool at one instant."""

    last_event: str
    sizes: dict[str, int]
    counters: dict[str, int]
    roles: dict[str, RoleTotals]


def task_violations(task: TaskFacts) -> list[str]:
    """What is wrong with one task."""
    state = task.fields.get("state")
    if state is None:
        return [f"task {task.id}: it is in {sorted(task.homes)} but has no record"]
    out = []
    if task.homes != HOMES.get(state, set()):
        out.append(f"task {task.id}: its state is {state} but it is in {sorted(task.homes)}")
    if state == "assigned":
        if task.lease is None:
            out.append(
                f"task {task.id}: it is assigned to {task.fields.get('agent')}, which holds no lease for it"
            )
        elif (task.lease.task, str(task.lease.attempt)) != (task.id, task.fields.get("attempt")):
            out.append(
                f"task {task.id}: its lease is for {task.lease.task} attempt {task.lease.attempt}"
            )
    elif task.lease is not None:
        out.append(f"task {task.id}: its state is {state} but its agent still holds the lease")
    if ("cancel" in task.fields) != bool(task.lease and task.lease.cancel):
        out.append(f"task {task.id}: it and its lease disagree whether it is being cancelled")
    # What a dead task waited for is kept, for a retry.
    if state != "dead" and (state == "blocked") != (task.open_parents > 0):
        out.append(f"task {task.id}: its state is {state} with {task.open_parents} open parents")
    if state == "dead" and task.fields.get("reason") in {"failed", "timeout"}:
        allowed = int(task.fields["d"].split("|")[1])
        if int(task.fields.get("failures", 0)) < allowed:
            out.append(
                f"task {task.id}: dead after {task.fields.get('failures', 0)} failures of {allowed}"
            )
    return out + _option_violations(task)


def _option_violations(task: TaskFacts) -> list[str]:
    out, due = [], expiry_us(task.fields)
    if task.expires_us != due:
        out.append(f"task {task.id}: it expires at {due}, but is listed at {task.expires_us}")
    if TaskOptions.read(task.fields.get("o")).dedup and task.dedup_task != task.id:
        out.append(f"task {task.id}: its dedup key leads to {task.dedup_task or 'no task'}")
    return out


def agent_violations(agent: AgentFacts) -> list[str]:
    """What is wrong with one agent."""
    f = agent.fields
    if not f:
        return [f"agent {agent.id}: it is listed but has no record"]
    out = []
    used, n, most = int(f["used"]), int(f["n"]), int(f["max"])
    total = sum(lease.cost for lease in agent.leases.values())
    if (used, n) != (total, len(agent.leases)):
        out.append(
            f"agent {agent.id}: counters say {n} leases of {used} units, it holds {len(agent.leases)} of {total}"
        )
    cancels = [f"cancel {nonce}" for nonce, lease in agent.leases.items() if lease.cancel]
    if sorted(agent.inbox) != sorted([*agent.leases, *cancels]):
        out.append(
            f"agent {agent.id}: its inbox holds {len(agent.inbox)} leases and cancels"
            f" that are not its {len(agent.leases)} open ones and theirs"
        )
    state = f["state"]
    if (agent.is_alive, agent.is_gone) != (state == "live", state != "live"):
        out.append(
            f"agent {agent.id}: state {state}, listed alive={agent.is_alive} gone={agent.is_gone}"
        )
    free = _accepts(agent) and most > used
    if free != (agent.rank is not None):
        out.append(
            f"agent {agent.id}: {'free but not' if free else 'not free but'} in the free index"
        )
    elif (
        agent.rank is not None
        and agent.rank != math.floor(1000 * used / most) * 2**42 + int(f["freed_us"]) // 1000
    ):
        out.append(f"agent {agent.id}: its place in the free index is stale")
    # Only pools whose strategy goes by turns keep them.
    if agent.turn != (int(f["turn"]) if free and "turn" in f else None):
        out.append(f"agent {agent.id}: its turn is {f.get('turn')}, its place in line {agent.turn}")
    return out


def _accepts(agent: AgentFacts) -> bool:
    f = agent.fields
    return f["state"] == "live" and f["mode"] == "running" and not f["admin"]


def total_violations(totals: Totals) -> list[str]:
    """What is wrong with totals that were read at one instant."""
    out = []
    pending = sum(role.pending for role in totals.roles.values())
    states = ("scheduled", "blocked", "failed", "leases", "completed", "dead", "cancelled")
    stored = pending + sum(totals.sizes[name] for name in states)
    accepted = known(totals.counters)
    if stored != accepted:
        out.append(f"pool: {accepted} tasks were accepted, {stored} are in a state")
    if totals.counters.get("running", 0) != totals.sizes["leases"]:
        out.append(
            f"pool: {totals.counters.get('running', 0)} running, {totals.sizes['leases']} leases"
        )
    if totals.counters.get("agents", 0) != totals.sizes["alive"]:
        out.append(
            f"pool: {totals.counters.get('agents', 0)} agents counted, {totals.sizes['alive']} alive"
        )
    for name in (
        "capacity",
        "used",
        "running",
        "agents",
        "accepted",
        "completed",
        "dead",
        "cancelled",
        "reclaimed",
        "failed_attempts",
        "assigned",
        "returned",
        "dropped",
        "scheduled",
        "rejected",
        "released",
        "retried",
        *(f"forgotten_{state}" for state in FINISHED),
    ):
        total = sum(role.counters.get(name, 0) for role in totals.roles.values())
        if total != totals.counters.get(name, 0):
            out.append(f"pool: {name} is {totals.counters.get(name, 0)}, its roles sum to {total}")
    counts = {"scheduled": totals.counters.get("scheduled", 0)}
    for name, count in (counts | finished(totals.counters)).items():
        if count != totals.sizes[name]:
            out.append(f"pool: {name} is {count}, {totals.sizes[name]} tasks are {name}")
    return out


def finished(counters: Mapping[str, int]) -> dict[str, int]:
    """Tasks in each of the states of FINISHED that are remembered, from the life counts. Those only
    grow: a dead task that was retried died once all the same.
    """
    out = {
        state: counters.get(state, 0) - counters.get(f"forgotten_{state}", 0) for state in FINISHED
    }
    return out | {"dead": out["dead"] - counters.get("retried", 0)}


def known(counters: Mapping[str, int]) -> int:
    """Tasks that were accepted and are not forgotten, from the life counts."""
    return counters.get("accepted", 0) - sum(
        counters.get(f"forgotten_{state}", 0) for state in FINISHED
    )


def waiting(counters: Mapping[str, int]) -> int:
    """Tasks of a role that no agent holds and that have not ended, from its life counts."""
    came = counters.get("accepted", 0) + counters.get("returned", 0)
    return came - counters.get("assigned", 0) - counters.get("dropped", 0)


def sum_violations(
    totals: Totals, agents: list[AgentFacts], waiting_tasks: Mapping[str, int]
) -> list[str]:
    """What is wrong with sums over all agents and tasks (`waiting_tasks` by role). Only meaningful
    when nothing moved between the reads.
    """
    out = []
    for role, facts in totals.roles.items():
        own = [a for a in agents if a.fields.get("role") == role]
        live = [a for a in own if a.fields["state"] == "live"]
        free = sum(int(a.fields["max"]) - int(a.fields["used"]) for a in live if a.rank is not None)
        accepting = sum(int(a.fields["max"]) for a in live if _accepts(a))
        sums = {
            "capacity": sum(int(a.fields["max"]) for a in live),
            "used": sum(int(a.fields["used"]) for a in own),
            "running": sum(int(a.fields["n"]) for a in own),
            "agents": len(live),
        }
        out += [
            f"role {role}: {name} is {facts.counters.get(name, 0)}, its agents sum to {value}"
            for name, value in sums.items()
            if facts.counters.get(name, 0) != value
        ]
        found = waiting_tasks.get(role, 0)
        if found != waiting(facts.counters):
            out.append(
                f"role {role}: {waiting(facts.counters)} tasks wait by its counts, {found} do"
            )
        if free != facts.free_units:
            out.append(f"role {role}: {facts.free_units} units free by class, {free} by agent")
        if accepting != facts.accepting_units:
            out.append(
                f"role {role}: {facts.accepting_units} units accept work by class, {accepting} by agent"
            )
    return out
