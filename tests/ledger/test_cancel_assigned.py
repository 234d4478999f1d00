"""The script `cancel`: what an agent holds is asked to stop, and ends with its lease."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from balancer.ledger import Pool
from balancer.ledger import timeout as timeouts
from balancer.ledger.agent_set import Verb, agent_set
from balancer.ledger.cancel import cancel
from balancer.ledger.reclaim import reclaim
from balancer.ledger.recount import recount
from balancer.ledger.retire import retire
from tests.support.factories import (
    Clock,
    assign,
    beat,
    changes,
    complete,
    entries,
    make_task,
    submit,
)


@pytest.fixture
def running(virtual_pool: Pool) -> Pool:
    """a1 of two units holds t1, and t2, which may run for a second."""
    submit(virtual_pool, "t1", make_task("t2", run_timeout_s=1))
    beat(virtual_pool, max_concurrent=2)
    assign(virtual_pool, "t1", lease=1)
    assign(virtual_pool, "t2", lease=2)
    virtual_pool.client.delete(virtual_pool.keys.wake)
    return virtual_pool


def task(pool: Pool, id_: str = "t1") -> dict[str, str]:
    return dict(pool.client.hgetall(pool.keys.task(id_)))


def units(pool: Pool) -> list[str | None]:
    counts: list[str | None] = pool.client.hmget(pool.keys.pool, ["used", "running", "cancelled"])
    return counts


def test_cancel_tells_the_agent_and_keeps_the_lease(running: Pool) -> None:
    nonce = task(running)["nonce"]
    record = running.client.hget(running.keys.held("a1"), nonce)

    with changes(running) as seen:
        assert cancel(running, ["t1"], "not needed") == [("cancel_sent", "assigned")]

    entry, said = entries(running, running.keys.inbox("a1"))[-1]
    assert said == {"v": "1", "kind": "cancel", "task": "t1", "attempt": "1", "lease": nonce}
    assert seen.state == {
        "task:t1 cancel": "not needed",
        f"held:a1 {nonce}": f"{record} cancel={entry}",
        f"inbox:a1 {entry}": said,
    }
    assert seen.events == [("cancel_sent", "t1", "a1", "not needed")]


def test_cancel_again_changes_nothing(running: Pool) -> None:
    cancel(running, ["t1"], "not needed")

    with changes(running) as seen:
        assert cancel(running, ["t1", "t1"], "another reason") == [("cancel_sent", "assigned")] * 2

    assert seen.nothing


def test_cancel_of_what_was_cancelled_and_reported_is_already(running: Pool) -> None:
    cancel(running, ["t1"])
    assert complete(running, "t1", "cancelled") == "cancelled"

    with changes(running) as seen:
        assert cancel(running, ["t1"]) == [("already", "cancelled")]

    assert seen.nothing
    assert [f["task"] for _, f in entries(running, running.keys.inbox("a1"))] == ["t2"]


def test_a_completion_of_another_lease_does_not_end_it(running: Pool) -> None:
    """The fence holds as ever."""
    cancel(running, ["t1"])

    assert complete(running, "t1", "cancelled", attempt=2) == "stale"
    assert complete(running, "t1", "cancelled", agent="a2") == "stale"
    assert task(running)["state"] == "assigned"


def test_a_lost_agent_ends_what_was_being_cancelled(running: Pool) -> None:
    cancel(running, ["t1"], "not needed")
    beat(running, max_concurrent=2, mode="stopped")

    assert reclaim(running, "a1") == ("gone", 1, 1, False)
    assert reclaim(running, "a1") == ("gone", 0, 0, False)

    stored = task(running)
    assert [stored[f] for f in ("state", "reason", "losses")] == ["cancelled", "not needed", "1"]
    assert "cancel" not in stored
    assert task(running, "t2")["state"] == "pending"
    assert units(running) == ["0", "0", "1"]
    assert entries(running, running.keys.inbox("a1")) == []
    assert complete(running, "t1", "cancelled") == "stale"


def test_a_restarted_agent_may_resume_what_is_being_cancelled_and_then_say_so(
    running: Pool,
) -> None:
    cancel(running, ["t1"])
    beat(running, boot=2, max_concurrent=2, start=True, held=(task(running)["nonce"],))
    assert reclaim(running, "a1") == ("rebooted", 1, 0, False)

    assert complete(running, "t1", "cancelled") == "cancelled"
    assert units(running) == ["0", "0", "1"]
    assert entries(running, running.keys.inbox("a1")) == []


def test_a_restarted_agent_that_does_not_resume_it_ends_it(running: Pool) -> None:
    cancel(running, ["t1"])
    beat(running, boot=2, max_concurrent=2, start=True)

    assert reclaim(running, "a1") == ("rebooted", 1, 1, False)
    assert task(running)["state"] == "cancelled"


def test_a_try_that_runs_too_long_ends_what_was_being_cancelled(
    running: Pool, clock: Clock
) -> None:
    cancel(running, ["t2"], "not needed")
    clock.advance(60)

    assert timeouts.timeout(running) == (0, 0, 1, False)
    assert timeouts.timeout(running) == (0, 0, 0, False)

    stored = task(running, "t2")
    assert (stored["state"], stored["reason"]) == ("cancelled", "not needed")
    assert "failures" not in stored
    assert units(running) == ["1", "1", "1"]


def test_a_retired_agent_ends_what_was_being_cancelled(running: Pool, clock: Clock) -> None:
    cancel(running, ["t1"])
    agent_set(running, "a1", Verb.RETIRE, 1)
    clock.advance(1)

    assert retire(running, "a1") == ("retired", 2, False)
    assert [task(running, id_)["state"] for id_ in ("t1", "t2")] == ["cancelled", "pending"]


def test_children_learn_of_a_cancelled_parent(running: Pool) -> None:
    submit(running, make_task("child", depends_on=("t1",)))
    cancel(running, ["t1"])
    assert complete(running, "t1") == "cancelled"

    assert running.client.zrange(running.keys.release, 0, -1) == ["t1"]


def test_waiting_and_running_tasks_in_one_call(running: Pool) -> None:
    submit(running, "t3")

    answers = cancel(running, ["t1", "t3", "t2", "nobody"])

    assert [answer.outcome for answer in answers] == [
        "cancel_sent", "cancelled", "cancel_sent", "unknown",
    ]  # fmt: skip
    assert recount(running, "a1").outcome == "exact"


def test_a_reason_of_several_lines_is_one_event(running: Pool) -> None:
    with changes(running) as seen:
        cancel(running, ["t1"], "no\nt2 a1 forged")
    with changes(running) as ended:
        complete(running, "t1", "cancelled")

    assert seen.events == [("cancel_sent", "t1", "a1", "no t2 a1 forged")]
    assert ended.events == [("cancelled", "t1", "a1", "no t2 a1 forged")]
    assert seen.state["task:t1 cancel"] == "no\nt2 a1 forged"


def test_cancel_of_a_running_task_works_when_redis_is_out_of_memory(
    pool: Pool, out_of_memory: Callable[[], AbstractContextManager[None]]
) -> None:
    submit(pool, "t1")
    beat(pool)
    assign(pool)

    with out_of_memory():
        assert cancel(pool, ["t1"])[0].outcome == "cancel_sent"

    assert complete(pool, "t1", "cancelled") == "cancelled"
