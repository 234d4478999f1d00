"""The script `cancel`: waiting tasks will not run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from balancer.core.lanes import Lane, lane_definition
from balancer.ledger import Pool
from balancer.ledger import cancel as cancels
from balancer.ledger.cancel import cancel
from tests.support.factories import (
    GONE,
    NOW_US,
    Clock,
    assert_bad_argument,
    assert_guarded,
    changes,
    commit,
    fields,
    make_task,
    populate,
    proposal,
    submit,
)

LANE, DEFINITION = lane_definition(Lane("dev", "general", 1))
#: Where a task is that failed on agent a1.
TRIED, _ = lane_definition(Lane("dev", "general", 1, tried=("a1",)))


def ended(id_: str, reason: str = "cancelled") -> dict[str, object]:
    """What every cancelled task's end looks like, the second one of a populated pool."""
    return {
        **fields(
            f"task:{id_}", state="cancelled", reason=reason, ended_us=str(NOW_US), took_ms="0"
        ),
        f"cancelled {id_}": NOW_US,
        f"laneref {LANE}": "2",
        **fields("role:dev", cancelled="2", dropped="2"),
        **fields("pool", cancelled="2", dropped="2"),
    }


def test_cancel_of_a_pending_task_takes_it_out_of_the_queue(virtual_pool: Pool) -> None:
    populate(virtual_pool)

    with changes(virtual_pool) as seen:
        assert cancel(virtual_pool, ["pending"], "not wanted") == [("cancelled", "pending")]

    assert seen.state == ended("pending", "not wanted") | {
        "pending:dev pending": GONE,
        f"lane:{LANE} pending": GONE,
        f"lanes:dev {LANE}": GONE,
        "release pending": NOW_US,
    }
    assert seen.events == [("cancelled", "pending", "", "not wanted")]


def test_cancel_of_a_task_that_waits_for_its_retry(virtual_pool: Pool) -> None:
    populate(virtual_pool)

    with changes(virtual_pool) as seen:
        assert cancel(virtual_pool, ["failed"]) == [("cancelled", "failed")]

    expected = ended("failed") | {"failed failed": GONE}
    del expected[f"laneref {LANE}"]
    assert seen.state == expected | {f"laneref {TRIED}": GONE, f"lanedef {TRIED}": GONE}


def test_cancel_of_a_blocked_task(virtual_pool: Pool) -> None:
    populate(virtual_pool)

    with changes(virtual_pool) as seen:
        assert cancel(virtual_pool, ["blocked"]) == [("cancelled", "blocked")]

    assert seen.state == ended("blocked") | {
        "blocked blocked": GONE,
        "parents:blocked pending": GONE,
    }


def test_cancel_leaves_alone_what_ended(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    names = ["completed", "dead", "cancelled", "nobody"]

    with changes(virtual_pool) as seen:
        answers = cancel(virtual_pool, names)

    assert answers == [
        ("finished", "completed"),
        ("finished", "dead"),
        ("already", "cancelled"),
        ("unknown", ""),
    ]
    assert seen.nothing


def test_cancel_again_answers_already_and_changes_nothing(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    names = ["pending", "failed", "blocked"]
    assert [answer.outcome for answer in cancel(virtual_pool, names)] == ["cancelled"] * 3

    with changes(virtual_pool) as seen:
        assert cancel(virtual_pool, names) == [("already", "cancelled")] * 3

    assert seen.nothing


def test_cancel_of_one_id_twice_in_one_call_counts_once(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")

    assert cancel(virtual_pool, ["t1", "t1"]) == [
        ("cancelled", "pending"),
        ("already", "cancelled"),
    ]
    assert virtual_pool.client.hget(virtual_pool.keys.pool, "cancelled") == "1"


def test_cancelled_task_is_not_granted(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    wish = proposal("pending", "a1")
    cancel(virtual_pool, ["pending"])

    assert commit(virtual_pool, wish) == ["not_pending"]


def test_cancel_of_two_hundred_tasks_in_one_call(virtual_pool: Pool, clock: Clock) -> None:
    names = [f"t{n}" for n in range(200)]
    submit(virtual_pool, *(make_task(name, category=f"c{n % 7}") for n, name in enumerate(names)))

    assert [answer.outcome for answer in cancel(virtual_pool, names)] == ["cancelled"] * 200
    keys, client = virtual_pool.keys, virtual_pool.client
    assert not client.exists(keys.pending("dev"), keys.lanes("dev"), keys.lanedef, keys.laneref)


def test_reason_is_cut(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")
    cancel(virtual_pool, ["t1"], 300 * "x")

    assert virtual_pool.client.hget(virtual_pool.keys.task("t1"), "reason") == 200 * "x"


@pytest.mark.parametrize("task", ["pending", "failed", "blocked"])
def test_cancel_runs_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]], task: str
) -> None:
    populate(pool)

    with out_of_memory():
        assert cancel(pool, [task])[0].outcome == "cancelled"
        assert cancel(pool, [task])[0].outcome == "already"


def test_cancel_of_nothing_calls_nothing(virtual_pool: Pool) -> None:
    assert cancel(virtual_pool, []) == []


def test_cancel_on_a_pool_that_is_not_ours_writes_nothing(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    assert_guarded(virtual_pool, cancels.SCRIPT, ["why", "pending"])


def test_cancel_on_a_real_pool_with_a_time_of_the_callers_writes_nothing(pool: Pool) -> None:
    populate(pool)
    assert_guarded(pool, cancels.SCRIPT, ["why", "pending"])


@pytest.mark.parametrize(
    "args", [[], ["why"], ["why", *(f"t{n}" for n in range(201))]], ids=["none", "no task", "201"]
)
def test_cancel_with_a_bad_argument_writes_nothing(virtual_pool: Pool, args: list[str]) -> None:
    populate(virtual_pool)
    assert_bad_argument(virtual_pool, cancels.SCRIPT, args)


def test_a_reason_of_several_lines_is_one_event(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")

    with changes(virtual_pool) as seen:
        cancel(virtual_pool, ["t1"], "no\nt2 a1 forged")

    assert seen.events == [("cancelled", "t1", "", "no t2 a1 forged")]
    assert seen.state["task:t1 reason"] == "no\nt2 a1 forged"
