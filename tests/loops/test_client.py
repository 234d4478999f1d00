"""The producer's door: every answer it gives, and that each call may be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from balancer import (
    Balancer,
    Conflict,
    InvalidInput,
    Misconfigured,
    NotFound,
    PoolMissing,
    Refused,
    Task,
    Unavailable,
    WaitTimeout,
    WorkloadBalancer,
)
from balancer.core.settings import PoolSettings, RoleSettings
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.ledger.cancel import cancel
from balancer.protocol import TextRedis, connect
from tests.support.durable import KEPT
from tests.support.factories import (
    assign,
    beat,
    changes,
    complete,
    connections,
    dump,
    make_task,
    submit,
)
from tests.support.wait import wait_until


@pytest.fixture
def producer(redis_server: EmbeddedRedis, pool: Pool) -> Iterator[Balancer]:
    with Balancer(redis_server.url, pool.name) as balancer:
        yield balancer


def test_submit_takes_a_task_a_mapping_or_fields(producer: Balancer) -> None:
    ids = [
        producer.submit(Task(id="t1", role="dev", category="bug")),
        producer.submit({"id": "t2", "role": "dev"}, category="bug"),
        producer.submit(id="t3", role="dev", priority="high", payload={"a": [1, None, "ü"]}),
    ]
    assert ids == ["t1", "t2", "t3"]
    status = producer.status("t3")
    assert (status.state, status.role, status.category, status.priority) == (
        "pending", "dev", "general", "high",
    )  # fmt: skip
    assert status.body == {"payload": {"a": [1, None, "ü"]}}
    assert status.assignment is None


def test_submit_again_changes_nothing(producer: Balancer, pool: Pool) -> None:
    producer.submit(id="t1", role="dev", payload=1)
    with changes(pool) as changed:
        assert producer.submit(id="t1", role="dev", payload=1) == "t1"
    assert changed.nothing


def test_submit_without_an_id_makes_one(producer: Balancer) -> None:
    one, two = producer.submit(role="dev"), producer.submit(role="dev")
    assert one != two
    assert producer.status(one).state == "pending"


def test_submit_same_id_other_task_is_a_conflict(producer: Balancer, pool: Pool) -> None:
    producer.submit(id="t1", role="dev", payload=1)
    with changes(pool) as changed, pytest.raises(Conflict, match=r"'t1'.*pending"):
        producer.submit(id="t1", role="dev", payload=2)
    assert changed.nothing


def test_submit_unknown_parent_is_refused(producer: Balancer) -> None:
    with pytest.raises(Refused, match=r"depends_on.*'nope'"):
        producer.submit(role="dev", depends_on=["nope"])


def test_submit_above_the_roles_max_cost_is_refused(
    redis_server: EmbeddedRedis, redis_client: TextRedis
) -> None:
    Pool.create(
        redis_client, "q", PoolSettings(max_cost=8, roles={"dev": RoleSettings(max_cost=2)})
    )
    with Balancer(redis_server.url, "q") as producer:
        producer.submit(role="dev", cost=2)
        producer.submit(role="ops", cost=8)
        with pytest.raises(Refused, match="max_cost of 2"):
            producer.submit(role="dev", cost=3)
        with pytest.raises(Refused, match="max_cost of 8"):
            producer.submit(role="ops", cost=9)


def test_submit_many_answers_each_task_for_itself(producer: Balancer) -> None:
    producer.submit(id="t1", role="dev")
    answers = producer.submit_many(
        [
            make_task("t1"),
            make_task("t1", category="bug"),
            make_task("t2", depends_on=("t1",)),
            make_task("t3", depends_on=("nope",)),
            make_task("t4"),
        ]
    )
    assert [answer.outcome.value for answer in answers] == [
        "duplicate", "conflict", "blocked", "unknown_parent", "accepted",
    ]  # fmt: skip


def test_submit_many_one_bad_task_names_its_place_and_stores_nothing(
    producer: Balancer, pool: Pool
) -> None:
    with changes(pool) as changed, pytest.raises(InvalidInput, match="task 1: role"):
        producer.submit_many([{"role": "dev"}, {"role": "*"}])
    assert changed.nothing


def test_submit_many_a_cycle_is_refused_whole(producer: Balancer, pool: Pool) -> None:
    tasks = [make_task("a", depends_on=("b",)), make_task("b", depends_on=("a",))]
    with changes(pool) as changed, pytest.raises(InvalidInput, match="cycle: "):
        producer.submit_many(tasks)
    assert changed.nothing


def test_submit_many_thousands_keep_their_order(producer: Balancer, pool: Pool) -> None:
    names = [f"t{n}" for n in range(1_050)]
    answers = producer.submit_many(make_task(name) for name in names)
    assert {answer.outcome.value for answer in answers} == {"accepted"}
    assert pool.client.zrange(pool.keys.pending("dev"), 0, -1) == names
    assert producer.submit_many([]) == []


def test_result_and_wait_follow_a_task_to_its_end(producer: Balancer, pool: Pool) -> None:
    producer.submit(id="t1", role="dev")
    with pytest.raises(Conflict, match="is pending"):
        producer.result("t1")
    with pytest.raises(WaitTimeout, match="still pending"):
        producer.wait("t1", 0.03)
    beat(pool)
    assign(pool)
    complete(pool, result='{"answer":42}')
    status = producer.wait("t1", 5)
    assert status.state == "completed"
    assert status.assignment is not None
    assert (status.assignment.agent_id, status.assignment.attempt) == ("a1", 1)
    assert status.assignment.scores == {"load": 1.0}
    assert status.assignment.estimated_duration_s == 60.0
    assert producer.result("t1") == {"answer": 42}


def test_result_of_a_dead_task_says_why(producer: Balancer, pool: Pool) -> None:
    producer.submit(id="t1", role="dev", max_failures=1)
    beat(pool)
    assign(pool)
    complete(pool, status="failed", error="ValueError: no")
    with pytest.raises(Conflict, match="dead: ValueError: no"):
        producer.result("t1")


def test_cancel_a_waiting_task_once_and_again(producer: Balancer, pool: Pool) -> None:
    producer.submit(id="t1", role="dev")
    producer.cancel("t1", "not needed")
    assert (producer.status("t1").state, producer.status("t1").reason) == (
        "cancelled",
        "not needed",
    )
    with changes(pool) as changed:
        producer.cancel("t1")
    assert changed.nothing


def test_cancel_of_what_an_agent_holds_asks_it_and_of_what_has_ended_is_a_conflict(
    producer: Balancer, pool: Pool
) -> None:
    producer.submit(id="t1", role="dev")
    beat(pool)
    assign(pool)
    assert not producer.cancel("t1", "not needed")
    assert producer.status("t1").cancelling
    complete(pool)
    assert producer.cancel("t1")
    assert producer.status("t1").reason == "not needed"
    producer.submit(id="t2", role="dev")
    assign(pool, "t2")
    complete(pool, "t2")
    before = dump(pool.client)
    with pytest.raises(Conflict, match="is completed"):
        producer.cancel("t2")
    assert dump(pool.client) == before


@pytest.mark.parametrize("call", ["status", "result", "cancel"])
def test_unknown_and_impossible_ids(producer: Balancer, call: str) -> None:
    with pytest.raises(NotFound, match="'nope'"):
        getattr(producer, call)("nope")
    with pytest.raises(InvalidInput, match="not a name"):
        getattr(producer, call)("a:b\n")


def test_figures(producer: Balancer, pool: Pool) -> None:
    assert set(producer.load_metrics().model_dump().values()) == {0}
    beat(pool, "a1", max_concurrent=4)
    beat(pool, "a2", role="ops", max_concurrent=2, mode="stopped")
    producer.submit_many([make_task("t1"), make_task("t2"), make_task("t3", role="ops")])
    assign(pool, "t1")
    figures = producer.load_metrics()
    assert figures.oldest_waiting_s > 0
    assert figures.model_dump(exclude={"oldest_waiting_s"}) == {
        "total_agents": 2,
        "active_agents": 1,
        "total_capacity": 4,
        "used_capacity": 1,
        "utilization_rate": 0.25,
        "queued_tasks": 2,
    }
    assert [(q.role, q.pending, q.capacity, q.used) for q in producer.queues()] == [
        ("dev", 1, 4, 1),
        ("ops", 1, 0, 0),
    ]
    busy, gone = producer.agents()
    assert (busy.id, busy.activity, busy.remaining, busy.load, busy.health) == (
        "a1",
        "working",
        3,
        0.25,
        1.0,
    )
    assert (gone.id, gone.activity, gone.health) == ("a2", "stopped", 0.2)
    assert [agent.id for agent in producer.agents(limit=1)] == ["a1"]


def test_no_pool_no_redis_no_address(redis_server: EmbeddedRedis, redis_client: TextRedis) -> None:
    with pytest.raises(PoolMissing, match="'other'") as missing:
        Balancer(redis_server.url, "other")
    assert "balancer serve" in missing.value.hint
    with pytest.raises(Unavailable):
        Balancer("redis://127.0.0.1:1", deadline_s=0.1)
    with pytest.raises(Misconfigured, match="redis_url: the scheme"):
        Balancer("http://localhost")
    with pytest.raises(InvalidInput, match="pool"):
        Balancer(redis_server.url, "a{b}")


def test_a_producer_that_was_closed_takes_nothing(redis_server: EmbeddedRedis, pool: Pool) -> None:
    before = connections(pool.client)
    producer = WorkloadBalancer(redis_server.url, pool.name)
    producer.close()
    producer.close()
    calls: tuple[Callable[[], object], ...] = (
        lambda: producer.submit(role="dev"),
        lambda: producer.submit_many([make_task("t1")]),
        producer.load_metrics,
        producer.rebalance,
    )
    with changes(pool) as changed:
        for call in calls:
            with pytest.raises(Unavailable, match="this client was closed"):
                call()
    assert changed.nothing
    wait_until(lambda: connections(pool.client) <= before, "no connection is left")


def test_a_callback_that_is_due_when_a_producer_closes_may_still_call_it(
    redis_server: EmbeddedRedis, pool: Pool
) -> None:
    submit(pool, "t1")
    cancel(pool, ["t1"])
    with Balancer(redis_server.url, pool.name) as producer:
        producer.on_completion("t1", lambda status: producer.submit(id="t2", role=status.role))
    assert pool.client.hget(pool.keys.task("t2"), "state") == "pending"


def test_address_and_pool_come_from_the_environment(
    redis_server: EmbeddedRedis, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALANCER_REDIS_URL", redis_server.url)
    monkeypatch.setenv("BALANCER_POOL", pool.name)
    with Balancer() as producer:
        assert producer.pool.name == pool.name


def test_a_call_goes_on_while_redis_restarts_and_takes_effect_once() -> None:
    with EmbeddedRedis(tcp=True, appendonly=True, config=KEPT) as server:
        Pool.create(connect(server.url), "p")
        with Balancer(server.url, "p", deadline_s=20) as producer:
            producer.submit(id="t1", role="dev")
            server.kill()
            server.restart()
            assert producer.submit(id="t2", role="dev") == "t2"
            assert [s and s.state.value for s in producer.statuses(["t1", "t2"])] == ["pending"] * 2
        with Balancer(server.url, "p", deadline_s=0.1) as hasty:
            server.kill()
            with pytest.raises(Unavailable, match="no answer from Redis"):
                hasty.submit(id="t3", role="dev")
