"""What must always be true of a pool: each sentence is provoked by one planted wrong fact."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.core.invariants import (
    HOMES,
    AgentFacts,
    Lease,
    RoleTotals,
    TaskFacts,
    Totals,
    agent_violations,
    sum_violations,
    task_violations,
    total_violations,
)
from balancer.core.model import TaskState
from balancer.core.options import WAITING, expiry_us

LEASE = Lease("t1", 2, 1, "5-0")
RANK = 500.0 * 2**42 + 9


def task(state: str = "assigned", **changes: Any) -> TaskFacts:
    fields = {
        "state": state,
        "attempt": "1",
        "agent": "a1",
        "d": "medium|3|1000|0|ab",
        "failures": "3",
    }
    sound = TaskFacts(
        "t1",
        fields,
        HOMES.get(state, set()),
        LEASE if state == "assigned" else None,
        1 if state == "blocked" else 0,
    )
    return sound._replace(fields=fields | changes.pop("fields", {}), **changes)


def agent(id_: str = "a1", **changes: Any) -> AgentFacts:
    fields = {
        "role": "dev",
        "used": "2",
        "n": "1",
        "max": "4",
        "state": "live",
        "mode": "running",
        "admin": "",
        "freed_us": "9000",
    }
    sound = AgentFacts(id_, fields, {"n1": LEASE}, ["n1"], RANK, True, False)
    return sound._replace(fields=fields | changes.pop("fields", {}), **changes)


COUNTERS = {
    "capacity": 4, "used": 2, "running": 1, "agents": 1, "accepted": 6, "completed": 1, "dead": 1, "cancelled": 1,
    "reclaimed": 2, "failed_attempts": 3, "assigned": 4, "returned": 2, "dropped": 2, "scheduled": 0,
}  # fmt: skip
SIZES = {
    "scheduled": 0, "expiry": 0, "blocked": 0, "failed": 1, "leases": 1, "completed": 1, "dead": 1, "cancelled": 1,
    "release": 0, "alive": 1, "gone": 0,
}  # fmt: skip


#: Tasks that wait, by role.
WAIT = {"dev": 2}


def totals(
    counters: dict[str, int] | None = None,
    sizes: dict[str, int] | None = None,
    role: dict[str, int] | None = None,
    **own: int,
) -> Totals:
    known = {"pending": 1, "free_units": 2, "accepting_units": 4} | own
    dev = RoleTotals(COUNTERS | (role or {}), **known)
    return Totals("1-0", SIZES | (sizes or {}), COUNTERS | (counters or {}), {"dev": dev})


@pytest.mark.parametrize("state", HOMES)
def test_sound_task_is_sound(state: str) -> None:
    assert task_violations(task(state)) == []


def test_every_state_in_use_has_a_home() -> None:
    assert set(HOMES) == {state.value for state in TaskState}


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (TaskFacts("t1", {}, {"dead"}, None, 0), "task t1: it is in ['dead'] but has no record"),
        (
            task("pending", homes={"pending"}),
            "task t1: its state is pending but it is in ['pending']",
        ),
        (
            task("completed", homes={"completed", "leases"}),
            "task t1: its state is completed but it is in ['completed', 'leases']",
        ),
        (task("dead", homes=set()), "task t1: its state is dead but it is in []"),
        (
            task("asleep", homes={"blocked"}),
            "task t1: its state is asleep but it is in ['blocked']",
        ),
        (task(lease=None), "task t1: it is assigned to a1, which holds no lease for it"),
        (task(lease=LEASE._replace(task="t2")), "task t1: its lease is for t2 attempt 1"),
        (task(lease=LEASE._replace(attempt=2)), "task t1: its lease is for t1 attempt 2"),
        (
            task("completed", lease=LEASE),
            "task t1: its state is completed but its agent still holds the lease",
        ),
        (task("blocked", open_parents=0), "task t1: its state is blocked with 0 open parents"),
        (task("pending", open_parents=2), "task t1: its state is pending with 2 open parents"),
        (
            task("dead", fields={"reason": "failed", "failures": "2"}),
            "task t1: dead after 2 failures of 3",
        ),
        (
            task("dead", fields={"reason": "timeout", "failures": "0"}),
            "task t1: dead after 0 failures of 3",
        ),
        (
            task("scheduled", fields={"o": "fail|9|0|"}),
            "task t1: it expires at 9, but is listed at None",
        ),
        (
            task("pending", fields={"o": "fail|9|0|"}, expires_us=8),
            "task t1: it expires at 9, but is listed at 8",
        ),
        (task(expires_us=8), "task t1: it expires at None, but is listed at 8"),
        (
            task("dead", fields={"o": "fail|0|0|ab"}),
            "task t1: its dedup key leads to no task",
        ),
        (
            task(fields={"o": "fail|0|0|ab"}, dedup_task="t2"),
            "task t1: its dedup key leads to t2",
        ),
    ],
)
def test_wrong_task_is_told(facts: TaskFacts, sentence: str) -> None:
    assert task_violations(facts) == [sentence]


@pytest.mark.parametrize("reason", ["parent_failed", "lost"])
def test_death_without_failures_is_sound_for_other_reasons(reason: str) -> None:
    assert task_violations(task("dead", fields={"reason": reason, "failures": "0"})) == []


@pytest.mark.parametrize(
    "facts",
    [
        agent(),
        agent(fields={"mode": "stopping"}, rank=None),
        agent(fields={"state": "lost"}, rank=None, is_alive=False, is_gone=True),
        agent(
            fields={"state": "stopped", "mode": "stopped"}, rank=None, is_alive=False, is_gone=True
        ),
        agent(fields={"max": "2"}, rank=None),
        agent(fields={"max": "1"}, rank=None),
        agent(fields={"max": "0", "used": "0", "n": "0"}, leases={}, inbox=[], rank=None),
    ],
)
def test_sound_agent_is_sound(facts: AgentFacts) -> None:
    assert agent_violations(facts) == []


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            AgentFacts("a1", {}, {}, [], None, True, False),
            "agent a1: it is listed but has no record",
        ),
        (agent(fields={"n": "2"}), "agent a1: counters say 2 leases of 2 units, it holds 1 of 2"),
        (
            agent(fields={"used": "3"}, rank=750 * 2**42 + 9),
            "agent a1: counters say 1 leases of 3 units, it holds 1 of 2",
        ),
        (
            agent(inbox=[]),
            "agent a1: its inbox holds 0 leases and cancels that are not its 1 open ones and theirs",
        ),
        (
            agent(inbox=["n1", "n2"]),
            "agent a1: its inbox holds 2 leases and cancels that are not its 1 open ones and theirs",
        ),
        (
            agent(inbox=["n2"]),
            "agent a1: its inbox holds 1 leases and cancels that are not its 1 open ones and theirs",
        ),
        (agent(is_gone=True), "agent a1: state live, listed alive=True gone=True"),
        (agent(is_alive=False), "agent a1: state live, listed alive=False gone=False"),
        (
            agent(fields={"state": "lost"}, rank=None),
            "agent a1: state lost, listed alive=True gone=False",
        ),
        (agent(rank=None), "agent a1: free but not in the free index"),
        (agent(fields={"max": "2"}), "agent a1: not free but in the free index"),
        (agent(fields={"mode": "stopping"}), "agent a1: not free but in the free index"),
        (agent(rank=RANK + 1), "agent a1: its place in the free index is stale"),
    ],
)
def test_wrong_agent_is_told(facts: AgentFacts, sentence: str) -> None:
    assert agent_violations(facts) == [sentence]


def test_sound_totals_are_sound() -> None:
    assert total_violations(totals()) == []
    assert total_violations(Totals("0-0", dict.fromkeys(SIZES, 0), {}, {})) == []


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (totals(pending=2), "pool: 6 tasks were accepted, 7 are in a state"),
        (totals(sizes={"failed": 0}), "pool: 6 tasks were accepted, 5 are in a state"),
        (totals(counters={"running": 2}, role={"running": 2}), "pool: 2 running, 1 leases"),
        (totals(sizes={"alive": 2}), "pool: 1 agents counted, 2 alive"),
        *(
            (totals(role={name: 9}), f"pool: {name} is {value}, its roles sum to 9")
            for name, value in COUNTERS.items()
        ),
        (totals(sizes={"dead": 2, "failed": 0}), "pool: dead is 1, 2 tasks are dead"),
        (
            totals(sizes={"completed": 0, "failed": 2}),
            "pool: completed is 1, 0 tasks are completed",
        ),
        (
            totals(sizes={"cancelled": 2, "failed": 0}),
            "pool: cancelled is 1, 2 tasks are cancelled",
        ),
    ],
)
def test_wrong_total_is_told(facts: Totals, sentence: str) -> None:
    assert total_violations(facts) == [sentence]


def test_sound_sums_are_sound() -> None:
    stopped = agent(
        "a2", fields={"state": "stopped", "used": "0", "n": "0"}, leases={}, inbox=[], rank=None
    )

    assert sum_violations(totals(), [agent(), stopped], WAIT) == []


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (totals(role={"capacity": 5}), "role dev: capacity is 5, its agents sum to 4"),
        (totals(role={"used": 1}), "role dev: used is 1, its agents sum to 2"),
        (totals(role={"running": 0}), "role dev: running is 0, its agents sum to 1"),
        (totals(role={"agents": 2}), "role dev: agents is 2, its agents sum to 1"),
        (totals(free_units=3), "role dev: 3 units free by class, 2 by agent"),
        (totals(accepting_units=3), "role dev: 3 units accept work by class, 4 by agent"),
        (totals(role={"returned": 3}), "role dev: 3 tasks wait by its counts, 2 do"),
        (totals(role={"dropped": 3}), "role dev: 1 tasks wait by its counts, 2 do"),
    ],
)
def test_wrong_sum_is_told(facts: Totals, sentence: str) -> None:
    assert sum_violations(facts, [agent()], WAIT) == [sentence]


def test_lost_agent_counts_no_capacity_but_what_it_still_holds() -> None:
    lost = agent(fields={"state": "lost"}, rank=None, is_alive=False, is_gone=True)

    assert (
        sum_violations(
            totals(role={"capacity": 0, "agents": 0}, free_units=0, accepting_units=0), [lost], WAIT
        )
        == []
    )


@pytest.mark.parametrize(
    ("fields", "due_us"),
    [
        ({"state": "pending"}, None),
        ({"state": "pending", "o": "run|0|0|ab"}, None),
        *(({"state": state, "o": "fail|50|0|"}, 50) for state in sorted(WAITING)),
        *(({"state": state, "o": "fail|50|1|"}, None) for state in sorted(set(HOMES) - WAITING)),
        *(({"state": state, "o": "fail|0|1|"}, None) for state in sorted(WAITING - {"pending"})),
        ({"state": "pending", "o": "fail|0|2|"}, 2_010),
        ({"state": "pending", "o": "fail|2009|2|"}, 2_009),
        ({"state": "pending", "o": "fail|2011|2|"}, 2_010),
        ({"state": "pending", "o": "fail|0|2|", "attempt": "1"}, None),
        ({"state": "pending", "o": "fail|2011|2|", "attempt": "1"}, 2_011),
    ],
)
def test_waiting_task_expires_at_its_time_or_after_its_longest_wait(
    fields: dict[str, str], due_us: int | None
) -> None:
    assert expiry_us({"ready_us": "10", **fields}) == due_us


def test_lease_record_reads_as_it_is_written() -> None:
    assert Lease.read("t1 2 1 5-0") == LEASE
    assert Lease.read("t1 2 1 5-0 orphaned") == LEASE._replace(is_orphaned=True)
    assert Lease.read("t1 2 1 5-0 unheard-of") == LEASE
