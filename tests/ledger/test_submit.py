"""The script `submit`: tasks enter the pool."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import redis

from balancer.core.lanes import Lane, lane_definition
from balancer.core.model import Priority
from balancer.core.settings import PoolSettings, RoleSettings
from balancer.ledger import Pool
from balancer.ledger import submit as submits
from balancer.ledger.exchange import Arg
from tests.support.factories import (
    NOW_US,
    Clock,
    assert_bad_argument,
    assert_guarded,
    assign,
    beat,
    changes,
    complete,
    dump,
    fields,
    make_task,
    populate,
    submit,
)

LANE, DEFINITION = lane_definition(Lane("dev", "general", 1))
MEDIUM_US = 60_000_000
#: The effort of a task of which nothing is known but its category.
PLAIN = "3600000|3600000|0|3600000"


def call(pool: Pool, *tasks: str) -> list[Arg]:
    """The arguments of one call."""
    return submits._call([submits._pack(make_task(task), pool.settings) for task in tasks])


def test_submit_ready_task_stores_and_queues_it(virtual_pool: Pool) -> None:
    with changes(virtual_pool) as seen:
        assert submit(virtual_pool, make_task(description="do", payload={"n": 1})) == ["accepted"]

    facts = seen.state.pop("task:t1 d")
    assert re.fullmatch(r"medium\|3\|86400000\|[0-9a-f]{16}", facts)
    assert seen.state == {
        **fields("task:t1", state="pending", role="dev", category="general", cost="1", lane=LANE),
        **fields("task:t1", accepted_us=str(NOW_US), ready_us=str(NOW_US)),
        **fields("task:t1", order_us=str(NOW_US - MEDIUM_US), e=PLAIN),
        "body:t1": '{"description":"do","payload":{"n":1}}',
        "roles dev": True,
        "pending:dev t1": NOW_US,
        f"lane:{LANE} t1": NOW_US - MEDIUM_US,
        f"lanes:dev {LANE}": NOW_US - MEDIUM_US,
        f"lanedef {LANE}": DEFINITION,
        f"laneref {LANE}": "1",
        "role:dev accepted": "1",
        "pool accepted": "1",
        "meta clock_us": str(NOW_US),
        "wake": ["1"],
    }
    assert seen.events == [("submitted", "t1", "", "accepted")]


def test_submit_task_without_body_stores_no_body(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")

    assert not virtual_pool.client.exists(virtual_pool.keys.body("t1"))


def test_submit_again_changes_nothing_and_answers_the_state(
    virtual_pool: Pool, clock: Clock
) -> None:
    submit(virtual_pool, "t1")
    clock.advance(60)

    with changes(virtual_pool) as seen:
        answer = submits.submit(virtual_pool, [make_task("t1")])

    assert answer == [("t1", "duplicate", "pending")]
    assert seen.nothing


@pytest.mark.parametrize(
    "other",
    [
        make_task(role="ops"),
        make_task(category="bug"),
        make_task(cost=2),
        make_task(priority=Priority.HIGH),
        make_task(payload=1),
        make_task(description="x"),
        make_task(max_failures=4),
        make_task(run_timeout_s=5),
        make_task(depends_on=("parent",)),
    ],
)
def test_submit_another_task_under_a_known_id_is_a_conflict(
    virtual_pool: Pool, other: object
) -> None:
    submit(virtual_pool, "parent", "t1")
    assert isinstance(other, type(make_task()))

    with changes(virtual_pool) as seen:
        answer = submits.submit(virtual_pool, [other])

    assert answer == [("t1", "conflict", "pending")]
    assert seen.nothing


def test_submit_twice_in_one_call_stores_it_once(virtual_pool: Pool) -> None:
    assert submit(virtual_pool, "t1", "t1", make_task(cost=2)) == [
        "accepted",
        "duplicate",
        "conflict",
    ]
    assert virtual_pool.client.hget(virtual_pool.keys.pool, "accepted") == "1"


def test_submit_with_open_parents_blocks_the_child(virtual_pool: Pool) -> None:
    submit(virtual_pool, "p1", "p2", "p3")
    beat(virtual_pool)
    assign(virtual_pool, "p3")
    complete(virtual_pool, "p3")
    virtual_pool.client.delete(virtual_pool.keys.wake)

    with changes(virtual_pool) as seen:
        assert submit(virtual_pool, make_task("t1", depends_on=("p1", "p2", "p3"))) == ["blocked"]

    accepted = NOW_US + 3
    assert seen.state.pop("task:t1 d")
    assert seen.state == {
        **fields("task:t1", state="blocked", role="dev", category="general", cost="1", lane=LANE),
        **fields("task:t1", accepted_us=str(accepted), ready_us=str(accepted)),
        **fields("task:t1", order_us=str(accepted - MEDIUM_US), e="2320|2320|1|3600000"),
        "blocked t1": accepted,
        **fields("parents:t1", p1=True, p2=True),
        "children:p1 t1": accepted,
        "children:p2 t1": accepted,
        "task:p1 kids": "1",
        "task:p2 kids": "1",
        f"laneref {LANE}": "3",
        "role:dev accepted": "4",
        "pool accepted": "4",
        "meta clock_us": str(accepted),
    }
    assert seen.events == [("submitted", "t1", "", "blocked")]
    with changes(virtual_pool) as again:
        assert submit(virtual_pool, make_task("t1", depends_on=("p1", "p2", "p3"))) == ["duplicate"]
    assert again.nothing


def test_submit_after_all_parents_completed_is_accepted(virtual_pool: Pool) -> None:
    submit(virtual_pool, "p1")
    beat(virtual_pool)
    assign(virtual_pool, "p1")
    complete(virtual_pool, "p1")

    assert submit(virtual_pool, make_task("t1", depends_on=("p1",))) == ["accepted"]
    assert not virtual_pool.client.exists(virtual_pool.keys.parents("t1"))


def test_submit_with_unknown_parent_stores_nothing(virtual_pool: Pool) -> None:
    submit(virtual_pool, "p1")

    with changes(virtual_pool) as seen:
        answer = submits.submit(
            virtual_pool, [make_task("t1", role="ops", depends_on=("p1", "nobody"))]
        )

    assert answer == [("t1", "unknown_parent", "nobody")]
    assert seen.nothing


@pytest.mark.parametrize("parent", ["dead", "cancelled"])
def test_submit_with_failed_parent_is_dead_at_once(virtual_pool: Pool, parent: str) -> None:
    populate(virtual_pool)
    clock_us = int(virtual_pool.client.hget(virtual_pool.keys.meta, "clock_us") or 0)
    task = make_task("t1", category="new", depends_on=("pending", parent))
    lane, _ = lane_definition(Lane("dev", "new", 1))

    with changes(virtual_pool) as seen:
        assert submits.submit(virtual_pool, [task]) == [("t1", "dead_parent", parent)]

    at = str(clock_us + 1)
    assert seen.state.pop("task:t1 d")
    assert seen.state == {
        **fields("task:t1", state="dead", role="dev", category="new", cost="1", lane=lane),
        **fields(
            "task:t1",
            accepted_us=at,
            ready_us=at,
            order_us=str(clock_us + 1 - MEDIUM_US),
            e="2683|2683|1|3600000",
        ),
        **fields("task:t1", ended_us=str(NOW_US), reason="parent_failed", took_ms="0"),
        "parents:t1 pending": True,
        f"parents:t1 {parent}": True,
        "dead t1": NOW_US,
        **fields("role:dev", accepted="8", dead="2", dropped="2"),
        **fields("pool", accepted="8", dead="2", dropped="2"),
        "meta clock_us": at,
    }
    with changes(virtual_pool) as again:
        assert submits.submit(virtual_pool, [task]) == [("t1", "duplicate", "dead")]
    assert again.nothing


def test_submit_child_before_its_parent_in_one_call_is_refused(virtual_pool: Pool) -> None:
    """A parent exists before its child, so there is no cycle."""
    tasks = [make_task("a", depends_on=("b",)), make_task("b", depends_on=("a",)), make_task("c")]

    assert submit(virtual_pool, *tasks) == ["unknown_parent", "unknown_parent", "accepted"]


def test_submit_refuses_a_cost_that_no_agent_of_the_role_may_carry(
    redis_client: redis.Redis,
) -> None:
    settings = PoolSettings(max_cost=5, roles={"dev": RoleSettings(max_cost=2)})
    pool = Pool.create(redis_client, "p", settings)

    with changes(pool) as seen:
        answers = submits.submit(pool, [make_task("a", cost=3), make_task("b", role="ops", cost=6)])

    assert answers == [("a", "cost_over_max", "2"), ("b", "cost_over_max", "5")]
    assert seen.nothing
    assert (
        submit(pool, make_task("a", cost=2), make_task("b", role="ops", cost=5)) == ["accepted"] * 2
    )


@pytest.mark.damaged
def test_submit_refuses_more_than_ten_thousand_lanes(virtual_pool: Pool) -> None:
    filler = {f"v1{number:014x}": "{}" for number in range(9_999)}
    virtual_pool.client.hset(virtual_pool.keys.lanedef, mapping=filler)

    answers = submits.submit(virtual_pool, [make_task("a"), make_task("b", cost=2), make_task("c")])

    assert answers[1:] == [("b", "too_many_lanes", "10000"), ("c", "accepted", "")]
    assert virtual_pool.client.hlen(virtual_pool.keys.lanedef) == 10_000
    assert not virtual_pool.client.exists(virtual_pool.keys.task("b"))


def test_submit_refuses_more_than_256_roles_even_within_one_call(virtual_pool: Pool) -> None:
    first = [make_task(f"t{n}", role=f"r{n}") for n in range(200)]
    more = [make_task(f"t{n}", role=f"r{n}") for n in range(199, 300)]
    submit(virtual_pool, *first)

    outcomes = submit(virtual_pool, *more)

    assert outcomes == ["duplicate"] + ["accepted"] * 56 + ["too_many_roles"] * 44
    assert virtual_pool.client.scard(virtual_pool.keys.roles) == 256
    assert submit(virtual_pool, make_task("known", role="r3")) == ["accepted"]


@pytest.mark.damaged
def test_submit_refuses_more_than_ten_thousand_children(virtual_pool: Pool) -> None:
    submit(virtual_pool, "p1")
    filler = {f"c{number}": number for number in range(10_000)}
    virtual_pool.client.zadd(virtual_pool.keys.children("p1"), filler)

    with changes(virtual_pool) as seen:
        answer = submits.submit(virtual_pool, [make_task("t1", depends_on=("p1",))])

    assert answer == [("t1", "too_many_children", "p1")]
    assert seen.nothing


def test_submit_in_one_millisecond_keeps_the_order_of_submission(virtual_pool: Pool) -> None:
    """Equal scores would order t1, t10, t11, t2."""
    names = [f"t{number}" for number in range(1, 251)]

    submit(virtual_pool, *names)

    keys, client = virtual_pool.keys, virtual_pool.client
    assert client.zrange(keys.lane(LANE), 0, -1) == names
    assert client.zrange(keys.pending("dev"), 0, -1) == names


def test_submit_after_the_clock_went_back_keeps_the_order(virtual_pool: Pool, clock: Clock) -> None:
    submit(virtual_pool, "t1", "t2")
    clock.advance(-7_200)
    submit(virtual_pool, "t10", "t11")

    order = virtual_pool.client.zrange(virtual_pool.keys.lane(LANE), 0, -1)
    assert order == ["t1", "t2", "t10", "t11"]


@pytest.mark.parametrize("priority", list(Priority))
def test_submit_orders_by_ready_time_less_the_head_start(
    virtual_pool: Pool, priority: Priority
) -> None:
    submit(virtual_pool, make_task(priority=priority))

    head_start_us = round(virtual_pool.settings.head_start_s.of(priority) * 1e6)
    score = virtual_pool.client.zscore(virtual_pool.keys.lane(LANE), "t1")
    assert score == NOW_US - head_start_us


def test_submit_late_in_the_centuries_keeps_every_digit(virtual_pool: Pool, clock: Clock) -> None:
    """Beyond 10^15 a number that is concatenated would read 8.9e+15."""
    clock.now_us = 8_999_999_999_999_001

    submit(virtual_pool, "t1", "t2")

    stored = virtual_pool.client.hgetall(virtual_pool.keys.task("t2"))
    assert stored["ready_us"] == "8999999999999002"
    assert stored["order_us"] == "8999999939999002"
    assert (
        virtual_pool.client.zscore(virtual_pool.keys.pending("dev"), "t2") == 8_999_999_999_999_002
    )
    assert virtual_pool.client.hget(virtual_pool.keys.meta, "clock_us") == "8999999999999002"


def test_submit_takes_time_from_redis(pool: Pool) -> None:
    seconds, micros = pool.client.time()
    submit(pool, "t1")
    ready_us = int(pool.client.hget(pool.keys.task("t1"), "ready_us") or 0)

    assert 0 <= ready_us - (seconds * 1_000_000 + micros) < 5_000_000


def test_submit_at_the_cap_is_one_call_and_beyond_it_several(virtual_pool: Pool) -> None:
    names = [f"t{number}" for number in range(1_000)]
    client = virtual_pool.client

    assert submit(virtual_pool, *names[:200]) == ["accepted"] * 200
    assert submit(virtual_pool, *names) == ["duplicate"] * 200 + ["accepted"] * 800
    assert client.zrange(virtual_pool.keys.pending("dev"), 0, -1) == names


def test_submit_of_large_bodies_is_split_by_size(virtual_pool: Pool) -> None:
    tasks = [make_task(f"t{n}", payload=["x" * 16_000] * 4) for n in range(40)]

    chunks = submits._chunks([submits._pack(task, virtual_pool.settings) for task in tasks])

    assert [len(chunk) for chunk in chunks] == [15, 15, 10]
    assert submit(virtual_pool, *tasks) == ["accepted"] * 40


def test_submit_of_many_parents_is_split_by_size(virtual_pool: Pool) -> None:
    parents = [f"p{n}" for n in range(1_000)]
    tasks = [make_task(f"t{n}", depends_on=parents) for n in range(30)]

    chunks = submits._chunks([submits._pack(task, virtual_pool.settings) for task in tasks])

    assert [len(chunk) for chunk in chunks] == [12, 12, 6]


def test_submit_on_a_server_that_lost_the_script_sends_it_again(virtual_pool: Pool) -> None:
    names = [f"t{number}" for number in range(401)]
    virtual_pool.client.script_flush()

    assert submit(virtual_pool, *names) == ["accepted"] * 401


def test_submit_of_nothing_calls_nothing(virtual_pool: Pool) -> None:
    assert submits.submit(virtual_pool, []) == []


def test_submit_of_oversized_body_sends_nothing(virtual_pool: Pool) -> None:
    before = dump(virtual_pool.client)

    with pytest.raises(ValueError, match=r"payload: .* at most 65536"):
        submit(virtual_pool, "t1", make_task("t2", payload=["x" * 16_000] * 5))

    assert dump(virtual_pool.client) == before


def test_submit_is_refused_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    populate(pool)
    before = dump(pool.client)

    with out_of_memory(), pytest.raises(redis.ResponseError, match="maxmemory"):
        submit(pool, "t1")

    assert dump(pool.client) == before


def test_submit_to_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    assert_guarded(virtual_pool, submits.SCRIPT, call(virtual_pool, "t1"))


def test_submit_to_a_real_pool_with_a_time_of_the_callers_writes_nothing(pool: Pool) -> None:
    assert_guarded(pool, submits.SCRIPT, call(pool, "t1"))


BAD: dict[str, Callable[[list[Arg]], list[Arg]]] = {
    "half a task": lambda args: args[:-2],
    "one argument too many": lambda args: [*args, "x"],
    "no lanes": lambda args: [0, *args[7:]],
    "lanes nan": lambda args: ["nan", *args[1:]],
    "201 lanes": lambda args: [201, *args[1:]],
    "cost 0x10": lambda args: [*args[:4], "0x10", *args[5:]],
    "cost -1": lambda args: [*args[:4], "-1", *args[5:]],
    "cost 1001": lambda args: [*args[:4], "1001", *args[5:]],
    "lane number 2 of 1": lambda args: [*args[:8], "2", *args[9:]],
    "facts without a digest": lambda args: [*args[:9], "medium|3|1", *args[10:]],
    "a priority that is none": lambda args: [*args[:9], "urgent|3|1|ab", *args[10:]],
    "a prior of nothing": lambda args: [*args[:6], 0, *args[7:]],
    "parents 1e3": lambda args: [*args[:-1], "1e3"],
    "1001 parents": lambda args: [*args[:-1], 1_001, *(f"p{n}" for n in range(1_001))],
    "201 tasks": lambda args: args[:7] + 201 * args[7:14],
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD.keys())
def test_submit_with_a_bad_argument_writes_nothing(
    virtual_pool: Pool, spoil: Callable[[list[Arg]], list[Arg]]
) -> None:
    args = call(virtual_pool, "t1", "t2")

    assert_bad_argument(virtual_pool, submits.SCRIPT, spoil(args))
