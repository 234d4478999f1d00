"""A failed try takes its task to a lane that names the agent: what becomes of that lane, and who gets the task next."""

from __future__ import annotations

import pytest

from balancer.core.lanes import Lane, lane_definition, read_lane
from balancer.core.settings import PoolSettings
from balancer.ledger import Pool
from balancer.ledger import view as views
from balancer.ledger.agent_set import Verb, agent_set
from balancer.ledger.due import due
from balancer.ledger.reclaim import reclaim
from balancer.ledger.retry import retry
from balancer.ledger.timeout import timeout
from balancer.loops.drainer import Drainer
from balancer.protocol import TextRedis
from tests.support.factories import (
    Clock,
    assign,
    beat,
    changes,
    commit,
    complete,
    completion_entry,
    drain,
    dump,
    make_task,
    plan,
    proposal,
    settle,
    structure_violations,
    submit,
)

REQUIRES = (("go", 1), ("python", 3))


def lane_of(pool: Pool, task: str = "t1") -> Lane:
    """As its definition says, which must be named by its content."""
    lane_id = pool.client.hget(pool.keys.task(task), "lane") or ""
    text = pool.client.hget(pool.keys.lanedef, lane_id) or ""
    assert lane_definition(read_lane(text)) == (lane_id, text)
    assert not structure_violations(dump(pool.client), pool.keys.prefix)
    return read_lane(text)


def fail(pool: Pool, clock: Clock, agent: str, task: str = "t1") -> None:
    """One try fails, and the next one is due."""
    assign(pool, task, agent)
    assert complete(pool, task, "failed") == "retry"
    clock.advance(100)
    due(pool)


@pytest.fixture
def fleet(virtual_pool: Pool) -> Pool:
    """Three agents that can do a task which requires something, and may fail often."""
    for agent in ("a1", "a2", "B3"):
        beat(virtual_pool, agent, skills={"go": 2, "python": 3}, ttl_ms=600_000)
    submit(virtual_pool, make_task("t1", requires=dict(REQUIRES), max_failures=9))
    return virtual_pool


def test_agents_are_named_in_the_order_in_which_they_sort(fleet: Pool, clock: Clock) -> None:
    for agent in ("a2", "B3", "a1"):
        fail(fleet, clock, agent)

    lane = lane_of(fleet)
    assert lane.requires == REQUIRES
    assert sorted(lane.tried) == ["B3", "a1", "a2"]


def test_tasks_that_failed_on_the_same_agents_share_a_lane(fleet: Pool, clock: Clock) -> None:
    submit(fleet, make_task("t2", requires=dict(REQUIRES), max_failures=9))
    for task, agents in (("t1", ("a1", "a2")), ("t2", ("a2", "a1"))):
        for agent in agents:
            fail(fleet, clock, agent, task)

    assert lane_of(fleet) == lane_of(fleet, "t2")


def test_failing_on_the_same_agent_again_changes_no_lane(fleet: Pool, clock: Clock) -> None:
    fail(fleet, clock, "a1")
    before = lane_of(fleet)

    fail(fleet, clock, "a1")

    assert lane_of(fleet) == before
    assert before.tried == ("a1",)


def test_a_failure_that_is_sent_twice_counts_once(fleet: Pool) -> None:
    assign(fleet, "t1", "a1")
    entry = completion_entry(fleet, "t1", "failed")
    assert settle(fleet, entry) == ["retry"]
    before = lane_of(fleet)

    assert settle(fleet, entry) == ["duplicate"]

    assert lane_of(fleet) == before


def test_a_run_timeout_is_a_failure_on_that_agent(virtual_pool: Pool, clock: Clock) -> None:
    beat(virtual_pool)
    submit(virtual_pool, make_task(run_timeout_s=1))
    assign(virtual_pool)
    clock.advance(60)

    timeout(virtual_pool)

    assert lane_of(virtual_pool).tried == ("a1",)


@pytest.mark.parametrize("status", ["rejected", "released"])
def test_what_is_given_back_keeps_who_failed_it(fleet: Pool, clock: Clock, status: str) -> None:
    fail(fleet, clock, "a1")
    assign(fleet, "t1", "a2")

    assert complete(fleet, "t1", status) == "requeued"

    lane = lane_of(fleet)
    assert (lane.tried, lane.avoid, lane.requires) == (("a1",), ("a2",), REQUIRES)


def test_what_is_lost_keeps_who_failed_it_and_is_no_failure(fleet: Pool, clock: Clock) -> None:
    fail(fleet, clock, "a1")
    for loss in (1, 2):
        assign(fleet, "t1", "a2")
        beat(fleet, "a2", 1 + loss, skills={"go": 2, "python": 3}, start=True, ttl_ms=600_000)
        assert reclaim(fleet, "a2").requeued == 1
        lane = lane_of(fleet)
        assert (lane.tried, lane.alone, lane.requires) == (("a1",), loss == 2, REQUIRES)


def test_a_task_that_is_cancelled_while_it_fails_moves_nowhere(fleet: Pool) -> None:
    from balancer.ledger.cancel import cancel

    assign(fleet, "t1", "a1")
    cancel(fleet, ["t1"])
    before = fleet.client.hget(fleet.keys.task("t1"), "lane")

    assert complete(fleet, "t1", "failed") == "cancelled"

    assert fleet.client.hget(fleet.keys.task("t1"), "lane") == before
    assert not fleet.client.hgetall(fleet.keys.lanedef)


def test_a_retry_forgets_who_failed_it_and_keeps_what_it_requires(
    fleet: Pool, clock: Clock
) -> None:
    submit(fleet, make_task("t2", requires=dict(REQUIRES), max_failures=2))
    fail(fleet, clock, "a1", "t2")
    assign(fleet, "t2", "a2")
    assert complete(fleet, "t2", "failed") == "dead"
    assert complete(fleet, "t2", "failed") == "duplicate"

    retry(fleet, ["t2"])

    assert lane_of(fleet, "t2") == Lane("dev", "general", 1, requires=REQUIRES)


@pytest.mark.damaged
def test_so_many_lanes_that_failed_tasks_make_no_more(virtual_pool: Pool) -> None:
    """The last thousand are for new kinds of work: a failed task stays where it is."""
    beat(virtual_pool, max_concurrent=2)
    submit(virtual_pool, "t1", "t2")
    for task, others in (("t1", 8_998), ("t2", 9_000)):
        assign(virtual_pool, task)
        filler = {f"filler{n}": "{}" for n in range(others)}
        virtual_pool.client.hset(virtual_pool.keys.lanedef, mapping=filler)
        assert complete(virtual_pool, task, "failed") == "retry"

    plain, tried = Lane("dev", "general", 1), Lane("dev", "general", 1, tried=("a1",))
    lanes = [
        virtual_pool.client.hget(virtual_pool.keys.task(task), "lane") for task in ("t1", "t2")
    ]
    assert lanes == [lane_definition(tried)[0], lane_definition(plain)[0]]
    assert submit(virtual_pool, make_task("t3", category="new")) == ["accepted"]


# --- who gets it ---


def test_nobody_gets_it_again_before_everyone_had_it(fleet: Pool, clock: Clock) -> None:
    had = []
    for _ in range(4):
        granted = drain(fleet)
        had.append(granted["t1"])
        assert complete(fleet, "t1", "failed") == "retry"
        clock.advance(100)
        due(fleet)

    assert sorted(had[:3]) == ["B3", "a1", "a2"]
    assert had[3] in had[:3]


def test_it_waits_for_one_who_is_busy_and_has_not_tried(fleet: Pool, clock: Clock) -> None:
    submit(fleet, "other")
    fail(fleet, clock, "a1")
    fail(fleet, clock, "a2")
    assign(fleet, "other", "B3")

    assert "t1" not in drain(fleet)
    assert complete(fleet, "other") == "ok"
    assert drain(fleet) == {"t1": "B3"}


@pytest.mark.parametrize("why", ["paused", "retiring", "stopped", "unskilled", "small"])
def test_who_cannot_take_it_is_not_waited_for(fleet: Pool, clock: Clock, why: str) -> None:
    fail(fleet, clock, "a1")
    fail(fleet, clock, "a2")
    skills = {"go": 2, "python": 3}
    if why == "paused":
        agent_set(fleet, "B3", Verb.PAUSE)
    elif why == "retiring":
        agent_set(fleet, "B3", Verb.RETIRE, 60.0)
    elif why == "stopped":
        beat(fleet, "B3", mode="stopped", skills=skills)
    elif why == "unskilled":
        beat(fleet, "B3", skills={"go": 2, "python": 2}, ttl_ms=600_000)
    else:
        beat(fleet, "B3", skills=skills, max_concurrent=0, ttl_ms=600_000)

    assert drain(fleet)["t1"] in {"a1", "a2"}


# --- what a plan did not know ---


def test_a_proposal_for_another_lane_is_refused(fleet: Pool, clock: Clock) -> None:
    [wish] = plan(fleet)
    fail(fleet, clock, wish.agent)

    with changes(fleet) as seen:
        assert commit(fleet, wish) == ["moved"]
        assert commit(fleet, wish) == ["moved"]
    assert seen.nothing
    assert commit(fleet, wish._replace(lane="")) == ["assigned"]


def test_an_agent_that_has_lost_a_skill_is_refused(fleet: Pool) -> None:
    [wish] = plan(fleet)
    for skills in ({"go": 1}, {"go": 1, "python": 2}, {"python": 9}, {}):
        beat(fleet, wish.agent, skills=skills, ttl_ms=600_000)
        with changes(fleet) as seen:
            assert commit(fleet, wish, wish._replace(lane="")) == ["lacks_skill"] * 2
        assert seen.nothing
    beat(fleet, wish.agent, skills={"go": 1, "python": 3, "ui": 1}, ttl_ms=600_000)
    assert commit(fleet, wish) == ["assigned"]
    assert commit(fleet, wish) == ["already"]


def test_a_name_that_ends_like_another_is_another_skill(virtual_pool: Pool) -> None:
    beat(virtual_pool, skills={"cargo": 9, "go.x": 9})
    submit(virtual_pool, make_task("t1", requires={"go": 1}))

    assert plan(virtual_pool) == []
    assert commit(virtual_pool, proposal()) == ["lacks_skill"]


# --- a bounded view ---


def test_the_one_agent_that_has_the_skill_is_found_behind_three_hundred(virtual_pool: Pool) -> None:
    """It is nine tenths loaded, they are idle: by load it comes last."""
    for n in range(300):
        beat(virtual_pool, f"idle{n}", max_concurrent=10)
    beat(virtual_pool, "expert", max_concurrent=10, skills={"go": 4})
    submit(virtual_pool, *(make_task(f"b{n}", requires={"go": 1}) for n in range(9)))
    for n in range(9):
        assign(virtual_pool, f"b{n}", "expert")
    submit(virtual_pool, make_task("t1", requires={"go": 4}))

    assert drain(virtual_pool) == {"t1": "expert"}


def test_a_task_behind_a_hundred_lanes_that_nobody_can_serve_gets_its_agent(
    virtual_pool: Pool, redis_client: TextRedis
) -> None:
    submit(
        virtual_pool,
        *(make_task(f"hard{n}", requires={f"skill{n}": 1}) for n in range(100)),
        make_task("t1", category="last"),
    )
    beat(virtual_pool, "a1", skills={"skill100": 9})

    assert Drainer(virtual_pool, redis_client).step().assigned == 1

    assert virtual_pool.client.hget(virtual_pool.keys.task("t1"), "agent") == "a1"


@pytest.mark.parametrize("strategy", ["fit", "round_robin"])
def test_who_has_not_failed_it_is_found_behind_ninety_nine_who_have(
    redis_client: TextRedis, clock: Clock, strategy: str
) -> None:
    settings = PoolSettings(strategy=strategy, seed=7, retry_delay_s=0.001, retry_max_delay_s=0.001)
    pool = Pool.create(redis_client, "p", settings, clock)
    for n in range(100):
        beat(pool, f"a{n}", ttl_ms=6_000_000)
    submit(pool, make_task("t1", max_failures=100))
    had = []
    for _ in range(99):
        had.append(drain(pool)["t1"])
        assert complete(pool, "t1", "failed") == "retry"
        clock.advance(1)
        due(pool)
    [left] = {f"a{n}" for n in range(100)} - set(had)
    # It has just ended another task: in every order it stands behind those who have failed.
    submit(pool, "other")
    assign(pool, "other", left)
    clock.advance(1)
    assert complete(pool, "other") == "ok"

    assert drain(pool) == {"t1": left}
    assert complete(pool, "t1") == "ok"


def test_who_has_room_is_found_behind_those_in_turn_who_have_none_and_those_who_failed(
    redis_client: TextRedis, clock: Clock
) -> None:
    pool = Pool.create(redis_client, "p", PoolSettings(strategy="round_robin"), clock)
    for n in range(20):
        beat(pool, f"a{n}", max_concurrent=2, ttl_ms=6_000_000)
    submit(pool, make_task("t1", cost=2, max_failures=9), *(f"small{n}" for n in range(15)))
    for n in range(5):
        fail(pool, clock, f"a{n}")
    for n in range(14):
        assign(pool, f"small{n}", f"a{5 + n}")
    clock.advance(1)
    assign(pool, "small14", "a19")
    clock.advance(1)
    complete(pool, "small14")

    assert drain(pool) == {"t1": "a19"}


def test_who_has_not_failed_it_is_found_behind_more_who_have_than_a_view_shows(
    redis_client: TextRedis, clock: Clock
) -> None:
    """Of 250 classes a view shows eight agents each. Nine failed it; the tenth was used last of all."""
    settings = PoolSettings(retry_delay_s=0.001, retry_max_delay_s=0.001)
    pool = Pool.create(redis_client, "p", settings, clock)
    for n in range(249):
        beat(pool, f"a{n:03}", skills={f"s{n:03}": 1})
    experts = [f"expert{n}" for n in range(10)]
    for expert in experts:
        beat(pool, expert, skills={"gpu": 1}, ttl_ms=6_000_000)
    submit(pool, make_task(requires={"gpu": 1}, max_failures=50), "other")
    for expert in experts[:9]:
        fail(pool, clock, expert)
    assign(pool, "other", experts[9])
    clock.advance(1)
    complete(pool, "other")

    found = next((given for _ in range(100) if (given := drain(pool))), {})

    assert found == {"t1": experts[9]}


def test_tasks_that_failed_on_agents_of_names_alike_have_lanes_of_their_own(
    virtual_pool: Pool, clock: Clock
) -> None:
    submit(virtual_pool, "t1", "t2")
    for task, agent in (("t1", "pod-30"), ("t2", "pod-1n")):
        beat(virtual_pool, agent, ttl_ms=6_000_000)
        fail(virtual_pool, clock, agent, task)

    assert [lane_of(virtual_pool, task).tried for task in ("t1", "t2")] == [
        ("pod-30",),
        ("pod-1n",),
    ]
    assert drain(virtual_pool) == {"t1": "pod-1n", "t2": "pod-30"}


@pytest.mark.parametrize(("most", "agent"), [(10_000, None), (5, "a1")])
def test_who_has_not_tried_is_waited_for_also_in_a_small_class_of_very_many(
    redis_client: TextRedis,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    agent: str | None,
) -> None:
    """Five classes of more units could never have the task. Of classes beyond all bounds nothing is known, and
    the task must not wait for ever.
    """
    monkeypatch.setattr(views, "COMPARED", 3)
    monkeypatch.setattr(views, "MOST_CLASSES", most)
    pool = Pool.create(redis_client, "p", PoolSettings(strategy="fit"), clock)
    for n in range(5):
        beat(pool, f"large{n}", max_concurrent=5, specializations=(f"s{n}",), ttl_ms=600_000)
    for id_ in ("a1", "a2"):
        beat(pool, id_, skills={"go": 2, "python": 3}, max_concurrent=1, ttl_ms=600_000)
    submit(pool, "busy", make_task("t1", requires=dict(REQUIRES), max_failures=9))
    assign(pool, "busy", "a2")
    fail(pool, clock, "a1")

    assert drain(pool) == ({"t1": agent} if agent else {})

    complete(pool, "busy")
    if agent is None:
        assert drain(pool) == {"t1": "a2"}
        assert complete(pool, "t1", "failed") == "retry"
        clock.advance(100)
        due(pool)
        assert drain(pool)["t1"] in {"a1", "a2"}, "all have tried"
