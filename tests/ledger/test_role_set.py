"""The script `role_set`: holding a role's queue, letting it go on, cancelling what waits in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from balancer.core.lanes import Lane, lane_definition
from balancer.ledger import Pool, role_set
from balancer.ledger import submit as submits
from balancer.ledger.audit import audit
from balancer.ledger.read_fleet import queues
from balancer.ledger.release import release
from balancer.ledger.role_set import pause, purge, resume
from balancer.ledger.view import Viewer
from tests.support.factories import (
    GONE,
    NOW_MS,
    NOW_US,
    Clock,
    assert_bad_argument,
    assert_guarded,
    assign,
    beat,
    changes,
    complete,
    drain,
    fields,
    later,
    make_task,
    populate,
    submit,
)

LANE, _ = lane_definition(Lane("dev", "general", 1))
#: Where a task is that failed on agent a1.
TRIED, _ = lane_definition(Lane("dev", "general", 1, tried=("a1",)))


def states(pool: Pool, *names: str) -> list[str | None]:
    return [pool.client.hget(pool.keys.task(name), "state") for name in names]


def test_paused_role_hands_out_nothing_until_it_is_resumed(
    virtual_pool: Pool, clock: Clock
) -> None:
    submit(virtual_pool, "t1", make_task("o1", role="ops"))
    beat(virtual_pool)
    beat(virtual_pool, "b1", role="ops")

    with changes(virtual_pool) as seen:
        assert pause(virtual_pool, "dev") == "ok"
    assert seen.state == {"role:dev paused": str(NOW_MS)}
    assert seen.events == [("queue_paused", "", "", "dev")]
    clock.advance(1)
    with changes(virtual_pool) as again:
        assert pause(virtual_pool, "dev") == "already"
    assert again.nothing
    assert drain(virtual_pool) == {"o1": "b1"}
    assert [role for role, *_ in Viewer(virtual_pool).view().roles] == []

    virtual_pool.client.delete(virtual_pool.keys.wake)
    with changes(virtual_pool) as seen:
        assert resume(virtual_pool, "dev") == "ok"
    assert seen.state == {"role:dev paused": GONE, "wake": ["1"]}
    assert seen.events == [("queue_resumed", "", "", "dev")]
    with changes(virtual_pool) as again:
        assert resume(virtual_pool, "dev") == "already"
    assert again.nothing
    assert drain(virtual_pool) == {"t1": "a1"}


def test_paused_role_takes_work_in_and_says_so(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1")
    pause(virtual_pool, "dev")

    answers = submits.submit(
        virtual_pool,
        [
            make_task("t2"),
            make_task("t3", depends_on=("t1",)),
            make_task("t4", not_before=later(5)),
            make_task("o1", role="ops"),
        ],
    )

    assert [(a.outcome, a.detail) for a in answers] == [
        ("accepted", "paused"),
        ("blocked", "paused"),
        ("scheduled", "paused"),
        ("accepted", ""),
    ]
    assert {queue.role: queue.paused for queue in queues(virtual_pool)} == {
        "dev": True,
        "ops": False,
    }


def test_work_of_a_paused_role_that_an_agent_holds_goes_on(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1", "t2")
    beat(virtual_pool)
    assign(virtual_pool, "t1")
    pause(virtual_pool, "dev")

    assert complete(virtual_pool, "t1", "failed") == "retry"
    assert drain(virtual_pool) == {}


@pytest.mark.parametrize("call", [pause, resume])
def test_role_that_was_never_heard_of_is_unknown(
    virtual_pool: Pool, call: Callable[..., Any]
) -> None:
    populate(virtual_pool)

    with changes(virtual_pool) as seen:
        assert call(virtual_pool, "nobody") == "unknown"
        assert purge(virtual_pool, "nobody") == ("unknown", 0)
    assert seen.nothing


def test_purge_cancels_all_that_waits_and_nothing_else(virtual_pool: Pool) -> None:
    populate(virtual_pool)
    submit(virtual_pool, make_task("scheduled", not_before=later(9)))
    submit(virtual_pool, make_task("other", role="ops", not_before=later(9)))

    with changes(virtual_pool) as seen:
        assert purge(virtual_pool, "dev") == ("ok", 4)

    purged = ("pending", "failed", "blocked", "scheduled")
    ends = {"state": "cancelled", "reason": "purged", "ended_us": str(NOW_US), "took_ms": "0"}
    expected: dict[str, Any] = {}
    for name in purged:
        expected |= fields(f"task:{name}", **ends) | {f"cancelled {name}": NOW_US}
    assert seen.state == expected | {
        "pending:dev pending": GONE,
        f"lane:{LANE} pending": GONE,
        f"lanes:dev {LANE}": GONE,
        "failed failed": GONE,
        f"laneref {TRIED}": GONE,
        f"lanedef {TRIED}": GONE,
        "blocked blocked": GONE,
        "parents:blocked pending": GONE,
        "scheduled scheduled": GONE,
        "release pending": NOW_US,
        f"laneref {LANE}": "1",
        **fields("role:dev", cancelled="5", dropped="5", scheduled="0"),
        **fields("pool", cancelled="5", dropped="5", scheduled="1"),
    }
    assert sorted(seen.events) == sorted(("cancelled", name, "", "purged") for name in purged)
    with changes(virtual_pool) as again:
        assert purge(virtual_pool, "dev") == ("ok", 0)
    assert again.nothing
    release(virtual_pool)
    assert audit(virtual_pool).violations == []


def test_purge_goes_page_by_page_past_the_work_of_others(virtual_pool: Pool) -> None:
    mine = [make_task(f"d{n}", not_before=later(n + 1)) for n in range(450)]
    others = [make_task(f"o{n}", role="ops", not_before=later(n + 1.5)) for n in range(450)]
    submit(virtual_pool, *(task for pair in zip(mine, others, strict=True) for task in pair))
    submit(virtual_pool, *(f"p{n}" for n in range(250)))

    assert purge(virtual_pool, "dev") == ("ok", 700)

    keys, client = virtual_pool.keys, virtual_pool.client
    assert client.zcard(keys.scheduled) == 450
    assert not client.exists(keys.pending("dev"))
    assert audit(virtual_pool).violations == []


def test_purge_leaves_what_was_submitted_after_it_began(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1", "t2")
    first = virtual_pool.run(role_set.SCRIPT, ["dev", "purge", "scheduled", 0, ""])
    submit(virtual_pool, "t3")

    for _ in range(2):  # a page that is sent again finds nothing more
        reply = virtual_pool.run(role_set.SCRIPT, ["dev", "purge", "pending", 0, first[3]])
        assert reply[2:] == [-1, first[3]]

    assert first == ["ok", 0, -1, str(NOW_US + 1)]
    assert states(virtual_pool, "t1", "t2", "t3") == ["cancelled", "cancelled", "pending"]


def test_children_of_purged_tasks_learn_it(virtual_pool: Pool) -> None:
    submit(virtual_pool, "t1", make_task("o1", role="ops", depends_on=("t1",)))

    purge(virtual_pool, "dev")

    assert release(virtual_pool) == (0, 1, 0, False)


def test_purge_runs_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    submit(pool, "t1")

    with out_of_memory():
        assert purge(pool, "dev") == ("ok", 1)


BAD: dict[str, list[Any]] = {
    "no verb": ["dev"],
    "another verb": ["dev", "empty"],
    "no state": ["dev", "purge"],
    "a state that does not wait": ["dev", "purge", "assigned", 0, ""],
    "an offset that is no number": ["dev", "purge", "pending", "nan", ""],
    "an offset before the first": ["dev", "purge", "pending", -1, ""],
    "a moment that is no number": ["dev", "purge", "pending", 0, "1e3"],
}


@pytest.mark.parametrize("args", BAD.values(), ids=BAD.keys())
def test_bad_argument_writes_nothing(virtual_pool: Pool, args: list[Any]) -> None:
    populate(virtual_pool)
    assert_bad_argument(virtual_pool, role_set.SCRIPT, args)


@pytest.mark.parametrize("args", [["dev", "pause"], ["dev", "purge", "pending", 0, ""]])
def test_pool_that_is_not_ours_is_left_alone(virtual_pool: Pool, args: list[Any]) -> None:
    populate(virtual_pool)
    assert_guarded(virtual_pool, role_set.SCRIPT, args)


def test_time_of_the_callers_is_refused_by_a_real_pool(pool: Pool) -> None:
    populate(pool)
    assert_guarded(pool, role_set.SCRIPT, ["dev", "pause"])
