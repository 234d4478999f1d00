"""Assigning and counting by hand: the seeds' verbs over the real ledger, their own tests translated."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from balancer import Conflict, InvalidInput, NoAgent, NoIdleAgent, NotFound, WorkloadBalancer
from balancer.core.settings import PoolSettings
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.protocol import TextRedis
from tests.support.factories import assign, beat, complete, dump, make_task, submit


@pytest.fixture
def workload(redis_server: EmbeddedRedis, pool: Pool) -> Iterator[WorkloadBalancer]:
    with WorkloadBalancer(redis_server.url, pool.name) as balancer:
        yield balancer


@pytest.fixture
def least_loaded(
    redis_server: EmbeddedRedis, redis_client: TextRedis
) -> Iterator[WorkloadBalancer]:
    Pool.create(redis_client, "q", PoolSettings(strategy="least_loaded"))
    with WorkloadBalancer(redis_server.url, "q") as balancer:
        yield balancer


def test_assign_task_takes_an_agent_of_the_tasks_role(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    """Though the best match is of another role, for which work waits, too."""
    beat(pool, "be-1", role="backend", type="build-agent")
    beat(pool, "be-2", role="backend", type="build-agent")
    beat(pool, "fe-1", role="frontend", type="build-agent", specializations=("feature",))
    submit(pool, make_task("T1", role="backend", category="feature"))
    submit(pool, make_task("F1", role="frontend", category="feature"))
    chosen = workload.assign_task("T1")
    assert chosen.task_id == "T1"
    assert chosen.agent_id in {"be-1", "be-2"}
    assert chosen.estimated_duration_s == 7200
    assert chosen.reason == "Best match: build-agent (score: 1.20)"
    assert pool.client.hkeys(pool.keys.held(chosen.agent_id)) != []
    assert [agent.id for agent in workload.agents() if agent.current_tasks] == [chosen.agent_id]


def test_assign_task_again_keeps_the_agent_and_changes_nothing(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    beat(pool, "a1", max_concurrent=2)
    submit(pool, "t1")
    first = workload.assign_task("t1")
    before = dump(pool.client)
    assert workload.assign_task("t1") == first
    assert workload.track_assignment(first.agent_id, "t1") == first
    assert dump(pool.client) == before


def test_assign_task_takes_the_named_task_not_the_first_in_line(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    beat(pool, "a1")
    submit(pool, "t1", "t2", make_task("t3", cost=1, category="bug"))
    assert workload.assign_task("t2").agent_id == "a1"
    assert [workload.status(id_).state for id_ in ("t1", "t2", "t3")] == [
        "pending",
        "assigned",
        "pending",
    ]


def test_assign_task_takes_the_least_loaded(least_loaded: WorkloadBalancer) -> None:
    """Though the best match is the other one, which specializes in it."""
    pool = least_loaded.pool
    beat(pool, "be-1", role="backend", max_concurrent=5, specializations=("bug",))
    beat(pool, "be-2", role="backend", max_concurrent=5)
    submit(pool, *(make_task(f"T{n}", role="backend", category="bug") for n in range(3)))
    least_loaded.track_assignment("be-1", "T1")
    least_loaded.track_assignment("be-1", "T2")
    assert least_loaded.assign_task("T0").agent_id == "be-2"


def test_assign_task_without_a_unit_left_stays_queued(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    beat(pool, "be-1", role="backend")
    submit(pool, make_task("T0", role="backend"), make_task("T1", role="backend"))
    workload.assign_task("T0")
    before = dump(pool.client)
    with pytest.raises(NoIdleAgent, match="no idle agents for role 'backend'"):
        workload.assign_task("T1")
    assert dump(pool.client) == before
    assert workload.track_completion("be-1", "T0")
    assert workload.assign_task("T1").agent_id == "be-1"


def test_assign_task_that_is_too_large_for_what_is_left(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    beat(pool, "a1", max_concurrent=3)
    submit(pool, make_task("t1", cost=2), make_task("t2", cost=2))
    workload.assign_task("t1")
    with pytest.raises(NoIdleAgent, match="with room for 2"):
        workload.assign_task("t2")


def test_assign_task_without_an_agent_of_the_role_names_the_role(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    beat(pool, "fe-1", role="frontend")
    submit(pool, make_task("T1", role="backend"))
    with pytest.raises(NoAgent, match="no agents available for role 'backend'") as refusal:
        workload.assign_task("T1")
    assert not isinstance(refusal.value, NoIdleAgent)


def test_assign_task_in_an_empty_fleet(workload: WorkloadBalancer, pool: Pool) -> None:
    submit(pool, make_task("T1", role="backend"))
    with pytest.raises(NoAgent, match="no agents in pool 'p'"):
        workload.assign_task("T1")


@pytest.mark.parametrize("none", [None, ""])
def test_assign_no_task(workload: WorkloadBalancer, none: str) -> None:
    with pytest.raises(InvalidInput, match="there is no task to assign"):
        workload.assign_task(none)


def test_assign_what_is_not_there_or_does_not_wait(workload: WorkloadBalancer, pool: Pool) -> None:
    beat(pool, "a1", max_concurrent=5)
    submit(pool, "t1", make_task("t2", depends_on=("t1",)))
    with pytest.raises(NotFound, match="'t9'"):
        workload.assign_task("t9")
    with pytest.raises(Conflict, match="'t2' is blocked"):
        workload.assign_task("t2")
    assign(pool, "t1")
    complete(pool, "t1")
    with pytest.raises(Conflict, match="'t1' is completed"):
        workload.assign_task("t1")


def test_track_assignment_opens_a_lease_of_this_task_on_this_agent(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    beat(pool, "a1", max_concurrent=2)
    beat(pool, "a2", max_concurrent=2)
    submit(pool, "t1")
    made = workload.track_assignment("a2", "t1")
    assert (made.task_id, made.agent_id, made.attempt, made.scores) == ("t1", "a2", 1, {})
    (entry,) = pool.client.xrange(pool.keys.inbox("a2"))
    assert (entry[1]["task"], pool.client.xlen(pool.keys.inbox("a1"))) == ("t1", 0)
    before = dump(pool.client)
    assert workload.track_assignment("a2", "t1") == made
    assert dump(pool.client) == before


def test_track_assignment_keeps_the_rules(workload: WorkloadBalancer, pool: Pool) -> None:
    beat(pool, "a1")
    beat(pool, "ops-1", role="ops")
    beat(pool, "a3", mode="stopping")
    submit(pool, "t1", "t2")
    workload.track_assignment("a1", "t1")
    before = dump(pool.client)
    for agent, task, error, text in (
        ("a1", "t2", NoIdleAgent, "'a1': it has no room"),
        ("ops-1", "t2", NoAgent, "has role 'ops', task 't2' is for 'dev'"),
        ("a3", "t2", NoIdleAgent, "'a3': it takes nothing new"),
        ("a9", "t2", NotFound, "no such agent"),
        ("a1", "t9", NotFound, "'t9'"),
        ("a3", "t1", Conflict, "'t1' is assigned on 'a1'"),
        ("a b", "t2", InvalidInput, "agent: 'a b' is not a name"),
    ):
        with pytest.raises(error, match=text):
            workload.track_assignment(agent, task)
    assert dump(pool.client) == before


def test_workload_follows_assignments_and_completions(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    beat(pool, "agent-1", max_concurrent=5)
    beat(pool, "agent-2", max_concurrent=5)
    submit(pool, "t1", "t2", make_task("t3", cost=4))
    workload.track_assignment("agent-1", "t1")
    workload.track_assignment("agent-1", "t2")
    workload.track_assignment("agent-2", "t3")
    assert (workload.get_workload("agent-1"), workload.get_workload("agent-2")) == (2, 1)
    assert workload.get_total_workload() == 3
    assert workload.track_completion("agent-1")
    assert workload.get_workload("agent-1") == 1
    assert workload.get_total_workload() == 2
    assert workload.status("t1").state == "completed"  # the one it has held longest
    assert workload.status("t2").state == "assigned"


def test_workload_never_falls_below_zero(workload: WorkloadBalancer, pool: Pool) -> None:
    beat(pool, "agent-1", max_concurrent=5)
    submit(pool, "t1")
    workload.track_assignment("agent-1", "t1")
    assert workload.track_completion("agent-1", "t1")
    before = dump(pool.client)
    assert not workload.track_completion("agent-1", "t1")
    assert not workload.track_completion("agent-1")
    assert not workload.track_completion("nobody")
    assert dump(pool.client) == before
    assert (workload.get_workload("agent-1"), workload.get_workload("nobody")) == (0, 0)
    assert workload.get_total_workload() == 0


def test_track_completion_of_another_agents_task_changes_nothing(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    beat(pool, "a1")
    beat(pool, "a2")
    submit(pool, "t1")
    workload.track_assignment("a1", "t1")
    before = dump(pool.client)
    assert not workload.track_completion("a2", "t1")
    assert dump(pool.client) == before


def test_track_completion_settles_the_named_task(workload: WorkloadBalancer, pool: Pool) -> None:
    beat(pool, "a1", max_concurrent=2)
    submit(pool, "t1", "t2")
    workload.track_assignment("a1", "t1")
    workload.track_assignment("a1", "t2")
    assert workload.track_completion("a1", "t2")
    assert (workload.status("t1").state, workload.status("t2").state) == ("assigned", "completed")


def test_track_completion_tells_the_children(workload: WorkloadBalancer, pool: Pool) -> None:
    beat(pool, "a1")
    submit(pool, "t1", make_task("t2", depends_on=("t1",)))
    workload.assign_task("t1")
    assert workload.track_completion("a1", "t1")
    assert workload.status("t2").state == "pending"


def test_completion_that_comes_after_all_is_a_duplicate(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    beat(pool, "a1")
    submit(pool, "t1")
    workload.assign_task("t1")
    assert workload.track_completion("a1", "t1")
    assert complete(pool, "t1") == "duplicate"
    assert workload.get_workload("a1") == 0


def test_reset_workload_returns_all_leases_of_an_agent(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    beat(pool, "a1", max_concurrent=5)
    beat(pool, "a2", max_concurrent=5)
    submit(pool, "t1", "t2", "t3")
    for agent, task in (("a1", "t1"), ("a1", "t2"), ("a2", "t3")):
        workload.track_assignment(agent, task)
    assert workload.reset_workload("a1") == 2
    assert (workload.get_workload("a1"), workload.get_workload("a2")) == (0, 1)
    assert pool.client.xlen(pool.keys.inbox("a1")) == 0
    for task in ("t1", "t2"):
        status = workload.status(task)
        assert (status.state, status.failures, status.losses) == ("pending", 0, 0)
    before = dump(pool.client)
    assert workload.reset_workload("a1") == 0
    assert dump(pool.client) == before


def test_idle_agents_of_all_roles_or_of_one(workload: WorkloadBalancer, pool: Pool) -> None:
    beat(pool, "a1", role="backend")
    beat(pool, "a2", role="backend")
    beat(pool, "a3", role="frontend")
    beat(pool, "a4", role="frontend", mode="stopped")
    submit(pool, make_task("t1", role="backend"))
    workload.track_assignment("a2", "t1")
    assert [agent.id for agent in workload.get_idle_agents()] == ["a1", "a3"]
    assert [agent.id for agent in workload.get_idle_agents("backend")] == ["a1"]
    assert workload.get_idle_agents("ops") == []
    activity = {agent.id: agent.activity for agent in workload.agents()}
    assert activity == {"a1": "idle", "a2": "working", "a3": "idle", "a4": "stopped"}
    with pytest.raises(InvalidInput, match="role: 'a b' is not a name"):
        workload.get_idle_agents("a b")


def test_agents_by_role(workload: WorkloadBalancer, pool: Pool) -> None:
    beat(pool, "be-2", role="backend")
    beat(pool, "be-1", role="backend", mode="stopped")
    beat(pool, "fe-1", role="frontend")
    assert [agent.id for agent in workload.get_agents_by_role("backend")] == ["be-1", "be-2"]
    assert workload.get_agents_by_role("qa") == []


def test_more_agents_than_a_page_are_all_found(
    workload: WorkloadBalancer, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balancer.ledger.read.MOST", 3)
    for n in range(8):
        beat(pool, f"a{n}")
    assert [agent.id for agent in workload.get_idle_agents()] == [f"a{n}" for n in range(8)]


def test_roles_needed_have_waiting_work_and_no_live_agent(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    beat(pool, "be-1", role="backend")
    beat(pool, "old-1", role="design", boot=1, mode="stopped")
    beat(pool, "once-1", role="again")
    submit(
        pool,
        make_task("T1", role="backend"),
        make_task("T2", role="frontend"),
        make_task("T3", role="qa"),
        make_task("T4", role="docs", depends_on=("T1",)),
        make_task("T5", role="design"),
        make_task("T6", role="later", not_before=datetime.now(UTC) + timedelta(hours=1)),
        make_task("T7", role="gone"),
        make_task("T8", role="again"),
    )
    workload.cancel("T7")
    assign(pool, "T8", "once-1")
    assert complete(pool, "T8", "failed") == "retry"
    beat(pool, "once-1", role="again", mode="stopped")
    assert workload.get_roles_needed() == ["again", "design", "docs", "frontend", "later", "qa"]
    beat(pool, "qa-1", role="qa")
    assert workload.get_roles_needed() == ["again", "design", "docs", "frontend", "later"]


def test_stats_over_the_fleet(workload: WorkloadBalancer, pool: Pool) -> None:
    for agent in ("a1", "a2", "a3"):
        beat(pool, agent, max_concurrent=5)
    beat(pool, "a4", mode="stopped")
    submit(pool, "t1", "t2", "t3", "t4")
    for agent, task in (("a2", "t1"), ("a2", "t2"), ("a2", "t3"), ("a1", "t4")):
        workload.track_assignment(agent, task)
    assert workload.stats().model_dump() == {
        "total_tasks": 4,
        "agent_workloads": {"a1": 1, "a2": 3, "a3": 0},
        "max_workload": 3,
        "busiest_agent": "a2",
        "avg_workload": 4 / 3,
    }


def test_rebalance_takes_the_first_ten_by_priority(workload: WorkloadBalancer, pool: Pool) -> None:
    beat(pool, "a1", max_concurrent=20)
    submit(pool, *(make_task(f"low{n}", priority="low") for n in range(6)))
    submit(pool, *(make_task(f"high{n}", priority="high") for n in range(6)))
    made = workload.rebalance()
    assert [one.task_id for one in made] == [f"high{n}" for n in range(6)] + [
        f"low{n}" for n in range(4)
    ]
    assert {one.agent_id for one in made} == {"a1"}
    assert workload.get_workload("a1") == 10
    assert [one.task_id for one in workload.rebalance(1)] == ["low4"]


def test_rebalance_leaves_what_runs_alone_and_stops_at_capacity(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    beat(pool, "a1", max_concurrent=2)
    submit(pool, "t1", "t2", "t3")
    running = workload.track_assignment("a1", "t1")
    assert [(one.task_id, one.agent_id) for one in workload.rebalance()] == [("t2", "a1")]
    before = dump(pool.client)
    assert workload.rebalance() == []
    assert workload.assign_task("t1") == running
    assert dump(pool.client) == before


def test_rebalance_gives_each_its_best_agent(workload: WorkloadBalancer, pool: Pool) -> None:
    """A specialist goes first, and what was given counts for the next."""
    beat(pool, "builder", max_concurrent=2, specializations=("bug",))
    beat(pool, "writer", max_concurrent=2, specializations=("docs",))
    submit(pool, *(make_task(f"bug{n}", category="bug") for n in range(3)))
    submit(pool, make_task("docs", category="docs"))
    assert [(one.task_id, one.agent_id) for one in workload.rebalance()] == [
        ("bug0", "builder"),
        ("bug1", "builder"),
        ("bug2", "writer"),
        ("docs", "writer"),
    ]


@pytest.mark.parametrize("limit", [0, -1, 129, True, "10", 1.5, None])
def test_rebalance_out_of_bounds(workload: WorkloadBalancer, limit: int) -> None:
    with pytest.raises(InvalidInput, match=r"limit: .* is not a whole number from 1 to 128"):
        workload.rebalance(limit)


def test_an_orchestrators_loop_counts_each_assignment_once(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    """The usage example of the second seed: assign, then track, for all that is pending."""
    beat(pool, "be-1", role="backend", boot=1, max_concurrent=1)
    beat(pool, "be-2", role="backend", boot=1, max_concurrent=1)
    pending = [f"T{n}" for n in range(4)]
    submit(pool, *(make_task(task, role="backend") for task in pending))
    queued = []
    for task in pending:
        try:
            chosen = workload.assign_task(task)
        except NoIdleAgent:
            queued.append(task)
            continue
        workload.track_assignment(chosen.agent_id, task)
    assert queued == ["T2", "T3"]
    assert workload.stats().agent_workloads == {"be-1": 1, "be-2": 1}


# --- what a bounded view does not show ---


@pytest.fixture
def wide(pool: Pool) -> Pool:
    """The only agent that can do some tasks is of one of 400 classes, the others of which have more units."""
    for n in range(399):
        beat(pool, f"a{n:03}", max_concurrent=2, skills={f"s{n:03}": 1})
    beat(pool, "expert", skills={"gpu": 1})
    return pool


def test_assign_task_finds_the_only_class_that_may(workload: WorkloadBalancer, wide: Pool) -> None:
    for n in range(8):
        submit(wide, make_task(f"t{n}", requires={"gpu": 1}))
        assert workload.assign_task(f"t{n}").agent_id == "expert"
        submit(wide, make_task(f"u{n}", requires={"gpu": 1}))
        with pytest.raises(NoIdleAgent):
            workload.assign_task(f"u{n}")
        assert complete(wide, f"t{n}") == "ok"


def test_rebalance_finds_the_only_class_that_may(workload: WorkloadBalancer, wide: Pool) -> None:
    for n in range(8):
        submit(wide, make_task(f"t{n}", requires={"gpu": 1}))
        assert [made.agent_id for made in workload.rebalance()] == ["expert"]
        assert complete(wide, f"t{n}") == "ok"
    assert workload.rebalance() == []


def test_by_hand_a_task_goes_past_the_pages_of_lanes_that_nobody_can_serve(
    workload: WorkloadBalancer, pool: Pool
) -> None:
    submit(pool, *(make_task(f"hard{n}", requires={f"s{n}": 1}) for n in range(150)))
    submit(pool, make_task("t1", category="last"), make_task("t2", category="last"))
    beat(pool, "a1", max_concurrent=2)

    assert workload.assign_task("t2").agent_id == "a1"
    assert [made.task_id for made in workload.rebalance()] == ["t1"]
    assert workload.rebalance() == []
