"""What ends a try otherwise than by success, failure or loss: a cancel from the pool, a rejection by the handler."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from balancer.embedded import EmbeddedRedis
from balancer.protocol import Status, TextRedis, new_nonce
from tests.flow.agent_rig import Gate, Rig, until_threads_ended
from tests.support.wait import wait_until
from worker import Reject, TaskContext
from worker.lease import Lease, Phase, read_lease
from worker.leases import REMEMBERED, Leases


@pytest.fixture
def rig(redis_server: EmbeddedRedis, redis_client: TextRedis) -> Iterator[Rig]:
    yield Rig(redis_server.url, redis_client)
    until_threads_ended()


def test_a_cancel_sets_the_event_and_is_reported(rig: Rig) -> None:
    gate, agent = Gate(), rig.agent()

    @agent.task()
    def stays(task: TaskContext) -> None:
        gate(task)
        raise InterruptedError("stopped half way")

    with capture_logs() as logs, agent:
        rig.until_started()
        nonce = rig.grant(agent.boot)
        gate.until_began()
        rig.cancel(nonce)
        [done] = rig.until_completed()
    assert gate.began[0].cancelled.is_set()
    assert (done.lease, done.status, done.error) == (nonce, Status.CANCELLED, "")
    assert {"cancel_received", "task_cancelled"} <= {entry["event"] for entry in logs}


def test_a_cancel_cancels_a_coroutine(rig: Rig) -> None:
    agent, began = rig.agent(), []

    @agent.task()
    async def stays(task: TaskContext) -> None:
        began.append(task)
        await asyncio.Event().wait()

    with agent:
        rig.until_started()
        nonce = rig.grant(agent.boot)
        wait_until(lambda: began, "it began")
        rig.cancel(nonce)
        [done] = rig.until_completed()
    assert (done.lease, done.status) == (nonce, Status.CANCELLED)
    assert began[0].cancelled.is_set()


def test_what_ends_well_in_spite_of_a_cancel_says_so(rig: Rig) -> None:
    """What becomes of it is the balancer's to say."""
    gate, agent = Gate(), rig.agent()
    agent.task()(gate)
    with agent:
        rig.until_started()
        nonce = rig.grant(agent.boot)
        gate.until_began()
        rig.cancel(nonce)
        [done] = rig.until_completed()
    assert (done.status, done.result) == (Status.COMPLETED, '"left"')


def test_what_waits_for_units_and_is_cancelled_never_begins(rig: Rig) -> None:
    gate, agent = Gate(), rig.agent()
    agent.task()(gate)
    with agent:
        rig.until_started()
        rig.grant(agent.boot, "first", cost=2)
        gate.until_began()
        nonce = rig.grant(agent.boot, "second")
        rig.cancel(nonce)
        [done] = rig.until_completed()
        gate.opened.set()
        rig.until_completed(2)
    assert (done.task, done.lease, done.status) == ("second", nonce, Status.CANCELLED)
    assert [task.id for task in gate.began] == ["first"]


def test_a_restart_does_not_resume_what_is_being_cancelled(rig: Rig) -> None:
    """It resumes the lease, to say that it ended."""
    ran: list[str] = []
    kept, cancelled = rig.grant(new_nonce(), "kept"), rig.grant(new_nonce(), "cancelled")
    rig.cancel(cancelled)
    agent = rig.agent()
    agent.task()(lambda task: ran.append(task.id))
    with agent:
        done = {one.lease: one.status for one in rig.until_completed(2)}
    assert ran == ["kept"]
    assert done == {kept: Status.COMPLETED, cancelled: Status.CANCELLED}


def test_a_cancel_before_its_lease_or_without_one_does_no_harm(rig: Rig) -> None:
    ran: list[str] = []
    early, agent = new_nonce(), rig.agent()
    agent.task()(lambda task: ran.append(task.id))
    with agent:
        rig.until_started()
        rig.cancel(new_nonce())
        rig.cancel(early)
        rig.cancel("nonsense", task="", attempt="x")
        rig.client.xadd(rig.inbox, {"v": 1, "kind": "of the future"})
        rig.grant(agent.boot, "early", nonce=early)
        rig.grant(agent.boot, "t2")
        done = {one.task: one.status for one in rig.until_completed(2)}
    assert done == {"early": Status.CANCELLED, "t2": Status.COMPLETED}
    assert ran == ["t2"]


def test_entries_that_are_no_leases_do_not_look_like_leases_taken_back(rig: Rig) -> None:
    gate, agent = Gate(), rig.agent()
    agent.task()(gate)
    with agent:
        rig.until_started()
        rig.grant(agent.boot, "t1")
        gate.until_began()
        rig.cancel(new_nonce())
        nonce = rig.grant(agent.boot, "t2")
        gate.until_began(2)
        rig.until_beats(8)
        rig.revoke(nonce)
        wait_until(gate.began[1].cancelled.is_set, "what was taken back was told to stop")
        assert not gate.began[0].cancelled.is_set()
        gate.opened.set()
        rig.until_completed()
    assert [done.task for done in rig.completions()] == ["t1"]


@pytest.mark.parametrize("how", ["raise", "method", "async"])
def test_a_handler_rejects_a_task(rig: Rig, how: str) -> None:
    agent = rig.agent()

    def by_raising(task: TaskContext) -> Any:
        raise Reject("no compiler for it")

    async def in_a_coroutine(task: TaskContext) -> Any:
        task.reject("no compiler for it")

    handlers = {
        "raise": by_raising,
        "method": lambda task: task.reject("no compiler for it"),
        "async": in_a_coroutine,
    }
    agent.task()(handlers[how])
    with capture_logs() as logs, agent:
        rig.until_started()
        rig.grant(agent.boot)
        [done] = rig.until_completed()
    assert (done.status, done.error) == (Status.REJECTED, "no compiler for it")
    assert "task_rejected" in {entry["event"] for entry in logs}


# --- the leases by themselves ---


def lease(name: int) -> Lease:
    fields = {
        "task": f"t{name}", "attempt": "1", "lease": f"{name:032x}", "boot": "b" * 32, "role": "dev",
        "category": "c", "priority": "low", "cost": "1", "timeout_ms": "1000", "estimate_ms": "1",
    }  # fmt: skip
    return read_lease("a", f"{name}-0", fields, structlog.get_logger())


def test_cancels_of_unknown_leases_are_kept_in_mind_within_bounds() -> None:
    leases = Leases(1)
    for number in range(REMEMBERED + 2):
        assert leases.cancel(f"{number:032x}") is None
    forgotten, kept = lease(0), lease(5)
    leases.add(forgotten)
    leases.add(kept)
    assert (forgotten.phase, kept.phase) == (Phase.WAITING, Phase.FINISHED)
    assert kept.completion.status is Status.CANCELLED


def test_a_cancel_is_news_once_and_not_to_what_has_ended() -> None:
    one, two = lease(1), lease(2)
    leases = Leases(2)
    leases.live(100.0)
    leases.add(one)
    leases.add(two)
    leases.begin(1.0)
    leases.finish(one, Status.FAILED, 2.0, error="it broke")
    assert [leases.cancel(held.nonce) for held in (one, two, two)] == [None, two, None]
    assert (one.completion.status, one.completion.error) == (Status.FAILED, "it broke")
    leases.finish(two, Status.REJECTED, 2.0, error="no")
    assert two.completion.status is Status.CANCELLED


def test_what_is_released_had_not_ended_and_does_not_run() -> None:
    ended, running, stopped = lease(1), lease(2), lease(3)
    leases = Leases(3)
    leases.live(100.0)
    for one in (ended, running, stopped):
        leases.add(one)
    leases.begin(1.0)
    leases.finish(ended, Status.COMPLETED, 2.0, result="7")
    leases.leave(ended)
    given_up = leases.give_up()
    leases.leave(stopped)
    assert leases.release(given_up) == [ended, stopped]
    assert leases.unreported(9) == [ended, stopped]
    statuses = [one.completion.status for one in (ended, stopped, running)]
    assert statuses == [Status.COMPLETED, Status.RELEASED, Status.FAILED]
    assert running.phase is Phase.GIVEN_UP
