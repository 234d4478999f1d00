"""The script `reprioritise`: waiting tasks get another priority."""

from __future__ import annotations

import pytest

from balancer.core.lanes import Lane, lane_definition
from balancer.core.model import Priority
from balancer.ledger import Pool
from balancer.ledger import reprioritise as moves
from balancer.ledger.due import due
from balancer.ledger.release import release
from balancer.ledger.reprioritise import reprioritise
from tests.support.factories import (
    NOW_US,
    Clock,
    assert_bad_argument,
    assert_guarded,
    assign,
    beat,
    changes,
    complete,
    drain,
    later,
    make_task,
    populate,
    submit,
)

LANE, _ = lane_definition(Lane("dev", "general", 1))
CRITICAL_US, HIGH_US = 3_600_000_000, 600_000_000


def task(pool: Pool, id_: str) -> dict[str, str]:
    return dict(pool.client.hgetall(pool.keys.task(id_)))


def test_a_pending_task_moves_in_its_lane(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1", "t2")
    before = task(virtual_pool, "t2")["d"].split("|")
    order = NOW_US + 1 - CRITICAL_US

    with changes(virtual_pool) as seen:
        assert reprioritise(virtual_pool, ["t2"], Priority.CRITICAL) == [("moved", "pending")]

    assert seen.state == {
        "task:t2 d": f"critical|{before[1]}|{before[2]}|{before[3]}",
        "task:t2 order_us": str(order),
        f"lane:{LANE} t2": order,
        f"lanes:dev {LANE}": order,
    }
    assert seen.events == [("reprioritised", "t2", "", "critical")]
    beat(virtual_pool)
    assert drain(virtual_pool) == {"t2": "a1"}


def test_to_a_lower_priority_the_head_of_the_lane_changes_too(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1", "t2")

    reprioritise(virtual_pool, ["t1"], Priority.LOW)

    assert virtual_pool.client.zrange(virtual_pool.keys.lane(LANE), 0, -1) == ["t2", "t1"]
    score = virtual_pool.client.zscore(virtual_pool.keys.lanes("dev"), LANE)
    assert score == NOW_US + 1 - 60_000_000


def test_the_same_call_again_changes_nothing(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")
    reprioritise(virtual_pool, ["t1"], Priority.HIGH)

    with changes(virtual_pool) as seen:
        assert (
            reprioritise(virtual_pool, ["t1", "t1"], Priority.HIGH) == [("already", "pending")] * 2
        )

    assert seen.nothing


def test_submitted_again_as_it_was_it_is_a_duplicate(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")
    reprioritise(virtual_pool, ["t1"], Priority.HIGH)

    assert submit(virtual_pool, "t1") == ["duplicate"]
    assert submit(virtual_pool, make_task(priority="high")) == ["conflict"]


def test_a_task_that_waits_for_something_gets_its_place_later(
    virtual_pool: Pool, clock: Clock
) -> None:
    submit(
        virtual_pool, "p1", "failed", make_task("blocked", depends_on=("p1",)),
        make_task("scheduled", not_before=later(60)),
    )  # fmt: skip
    beat(virtual_pool, max_concurrent=2)
    for id_, status in (("p1", "completed"), ("failed", "failed")):
        assign(virtual_pool, id_)
        complete(virtual_pool, id_, status)
    names = ["failed", "blocked", "scheduled"]

    with changes(virtual_pool) as seen:
        answers = reprioritise(virtual_pool, names, Priority.HIGH)

    assert answers == [("moved", name) for name in names]
    assert seen.state.keys() == {f"task:{name} d" for name in names}
    clock.advance(60)
    release(virtual_pool)
    due(virtual_pool)
    for name in names:
        stored = task(virtual_pool, name)
        assert int(stored["order_us"]) == int(stored["ready_us"]) - HIGH_US


def test_what_runs_or_has_ended_is_left_alone(virtual_pool: Pool) -> None:
    populate(virtual_pool)

    with changes(virtual_pool) as seen:
        answers = reprioritise(
            virtual_pool,
            ["assigned", "completed", "dead", "cancelled", "nobody"],
            Priority.CRITICAL,
        )

    assert answers == [
        ("assigned", "assigned"),
        ("finished", "completed"),
        ("finished", "dead"),
        ("finished", "cancelled"),
        ("unknown", ""),
    ]
    assert seen.nothing


def test_reprioritise_of_nothing_calls_nothing(virtual_pool: Pool) -> None:
    assert reprioritise(virtual_pool, [], Priority.HIGH) == []


def test_reprioritise_on_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    assert_guarded(virtual_pool, moves.SCRIPT, ["high", "pending"])


@pytest.mark.parametrize(
    "args",
    [
        [], ["high"], ["hi|gh", "pending"], ["", "pending"], ["urgent", "pending"],
        ["high", *(f"t{n}" for n in range(201))],
    ],
)  # fmt: skip
def test_reprioritise_with_a_bad_argument_writes_nothing(
    virtual_pool: Pool, args: list[str | int]
) -> None:
    populate(virtual_pool)
    assert_bad_argument(virtual_pool, moves.SCRIPT, args)
