"""The scripts `audit`, `audit_agents` and `audit_tasks`: the facts by which a pool is judged. They only read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from balancer.core.invariants import AgentFacts, Lease, RoleTotals, TaskFacts, Totals
from balancer.ledger import Pool
from balancer.ledger import audit as audits
from balancer.ledger.audit import audit
from balancer.ledger.script import Script
from tests.support.factories import (
    NOW_MS,
    Clock,
    assert_bad_argument,
    assert_guarded,
    assign,
    beat,
    changes,
    drain,
    entries,
    make_task,
    nonce,
    populate,
    submit,
)


def test_audit_of_a_sound_pool_is_clean_exact_and_reads_only(virtual_pool: Pool) -> None:
    populate(virtual_pool)

    with changes(virtual_pool) as seen:
        verdict = audit(virtual_pool)

    assert (verdict.violations, verdict.exact, verdict.clean) == ([], True, True)
    assert (verdict.tasks, verdict.agents) == (7, 2)
    assert seen.nothing
    assert audit(virtual_pool) == verdict


def test_audit_of_an_empty_pool_is_clean(virtual_pool: Pool) -> None:
    verdict = audit(virtual_pool)

    assert verdict == (True, 0, 0, [], verdict.totals)


def test_totals_are_what_the_pool_holds(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    last = virtual_pool.client.xrevrange(virtual_pool.keys.events, count=1)[0][0]

    totals = audits.read_totals(virtual_pool)

    counters = {
        "accepted": 7, "assigned": 4, "capacity": 4, "agents": 2, "used": 1, "running": 1, "completed": 1,
        "dead": 1, "cancelled": 1, "failed_attempts": 2, "returned": 1, "dropped": 1,
    }  # fmt: skip
    sizes = {
        "scheduled": 0, "expiry": 0, "blocked": 1, "failed": 1, "leases": 1, "completed": 1, "dead": 1, "cancelled": 1,
        "release": 0, "alive": 2,
        "gone": 0,
    }  # fmt: skip
    own = {"fleet_ver": 2, "service_n": 1, "service_us": 1_500_000}
    expected = Totals(
        last,
        sizes,
        counters | {"heartbeats_joined": 2},
        {"dev": RoleTotals(counters | own, 1, 3, 4)},
    )
    assert totals == expected


def test_facts_of_an_agent_are_what_the_pool_holds(virtual_pool: Pool) -> None:
    submit(virtual_pool, make_task(cost=2))
    beat(virtual_pool, max_concurrent=4)
    assign(virtual_pool, lease="L")
    ((inbox, _),) = entries(virtual_pool, virtual_pool.keys.inbox("a1"))

    (facts,) = audits.read_agents(virtual_pool)

    fields = virtual_pool.client.hgetall(virtual_pool.keys.agent("a1"))
    leases = {nonce("L"): Lease("t1", 2, 1, inbox)}
    assert facts == AgentFacts(
        "a1", fields, leases, [nonce("L")], 500 * 2**42 + NOW_MS, True, False
    )


def test_facts_of_a_task_are_what_the_pool_holds(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1", make_task("t2", depends_on=("t1",)))
    beat(virtual_pool)
    assign(virtual_pool, lease="L")

    facts = list(audits.read_tasks(virtual_pool, audits.read_totals(virtual_pool)))

    ((inbox, _),) = entries(virtual_pool, virtual_pool.keys.inbox("a1"))
    stored = {
        name: virtual_pool.client.hgetall(virtual_pool.keys.task(name)) for name in ("t1", "t2")
    }
    assert facts == [
        TaskFacts("t2", stored["t2"], {"blocked"}, None, 1),
        TaskFacts("t1", stored["t1"], {"leases"}, Lease("t1", 1, 1, inbox), 0),
    ]


def test_audit_reads_more_than_a_page_of_each(virtual_pool: Pool) -> None:
    submit(virtual_pool, *(f"t{n}" for n in range(450)))
    for n in range(150):
        beat(virtual_pool, f"a{n}")
    assert len(drain(virtual_pool)) == 128

    verdict = audit(virtual_pool)

    assert (verdict.clean, verdict.tasks, verdict.agents) == (True, 450, 150)


def test_audit_of_a_pool_that_moves_judges_no_sums(
    virtual_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(virtual_pool)
    read, told = audits.read_agents, []

    def read_and_move(pool: Pool) -> list[AgentFacts]:
        out = list(read(pool))
        told.append(submit(pool, "moved"))
        return out

    monkeypatch.setattr(audits, "read_agents", read_and_move)

    verdict = audit(virtual_pool)

    assert told == [["accepted"]]
    assert (verdict.exact, verdict.violations) == (False, [])


FAULTS: dict[str, tuple[Callable[[redis.Redis, Pool], object], str]] = {
    "a unit counted twice": (
        lambda c, p: c.hincrby(p.keys.agent("a2"), "used", 1),
        "agent a2: counters say 1 leases of 2",
    ),
    "a lease lost": (
        lambda c, p: c.delete(p.keys.held("a2")),
        "task assigned: it is assigned to a2, which holds no lease",
    ),
    "an inbox entry lost": (
        lambda c, p: c.delete(p.keys.inbox("a2")),
        "agent a2: its inbox holds 0 leases",
    ),
    "a task in two states": (
        lambda c, p: c.zadd(p.keys.dead, {"completed": 1}),
        "task completed: its state is completed",
    ),
    "a task without a home": (
        lambda c, p: c.zrem(p.keys.failed, "failed"),
        "pool: 7 tasks were accepted, 6 are in a state",
    ),
    "a task record lost": (
        lambda c, p: c.delete(p.keys.task("pending")),
        "task pending: it is in [] but has no record",
    ),
    "not in its lane": (
        lambda c, p: c.delete(*c.keys("*:lane:*")),
        "task pending: its state is pending but it is in",
    ),
    "a free agent hidden": (
        lambda c, p: c.delete(*c.keys("*:free:*")),
        "agent a1: free but not in the free index",
    ),
    "a rank out of date": (
        lambda c, p: c.zincrby(c.keys("*:free:*")[0], 1, "a1"),
        "agent a1: its place in the free index is stale",
    ),
    "free units miscounted": (
        lambda c, p: c.delete(p.keys.free_units("dev")),
        "role dev: 0 units free by class, 3 by agent",
    ),
    "accepting units miscounted": (
        lambda c, p: c.delete(p.keys.capacity("dev")),
        "role dev: 0 units accept work by class, 4 by agent",
    ),
    "a pool counter off": (
        lambda c, p: c.hincrby(p.keys.pool, "used", 1),
        "pool: used is 2, its roles sum to 1",
    ),
    "a role counter off": (
        lambda c, p: c.hincrby(p.keys.role("dev"), "capacity", 1),
        "role dev: capacity is 5",
    ),
    "an agent not listed": (
        lambda c, p: c.zrem(p.keys.alive, "a1"),
        "pool: 2 agents counted, 1 alive",
    ),
    "an agent listed twice": (
        lambda c, p: c.zadd(p.keys.gone, {"a1": 1}),
        "agent a1: state live, listed alive=True gone=True",
    ),
    "an agent's record lost": (
        lambda c, p: c.delete(p.keys.agent("a1")),
        "agent a1: it is listed but has no record",
    ),
    "a child that waits for nobody": (
        lambda c, p: c.delete(p.keys.parents("blocked")),
        "task blocked: its state is blocked with 0",
    ),
}


@pytest.mark.damaged
@pytest.mark.parametrize(("plant", "sentence"), FAULTS.values(), ids=FAULTS.keys())
def test_audit_finds_a_planted_fault(
    virtual_pool: Pool, clock: Clock, plant: Callable[[redis.Redis, Pool], object], sentence: str
) -> None:
    populate(virtual_pool)
    plant(virtual_pool.client, virtual_pool)

    found = audit(virtual_pool).violations

    assert any(sentence in violation for violation in found), found


@pytest.mark.parametrize(
    ("name", "args"), [("audit", []), ("audit_agents", ["a1"]), ("audit_tasks", ["pending"])]
)
def test_audit_of_a_pool_that_is_not_ours_is_refused(
    virtual_pool: Pool, name: str, args: list[str]
) -> None:
    populate(virtual_pool)
    assert_guarded(virtual_pool, Script(name), args)


@pytest.mark.parametrize(("name", "cap"), [("audit_agents", 100), ("audit_tasks", 200)])
def test_audit_page_is_capped(virtual_pool: Pool, name: str, cap: int) -> None:
    populate(virtual_pool)

    assert len(virtual_pool.run(Script(name), ["a1"] * cap)) == cap
    assert_bad_argument(virtual_pool, Script(name), ["a1"] * (cap + 1))
    assert_bad_argument(virtual_pool, Script(name), [])
