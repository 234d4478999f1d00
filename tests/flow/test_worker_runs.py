"""An agent towards a balancer that is played by hand: what it says, what it runs, how tries end."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from balancer.embedded import EmbeddedRedis
from balancer.protocol import Mode, Status, TextRedis
from tests.flow.agent_rig import AGENT, Gate, Rig, until_threads_ended
from tests.support.wait import wait_until
from worker import TaskContext


@pytest.fixture
def rig(redis_server: EmbeddedRedis, redis_client: TextRedis) -> Iterator[Rig]:
    yield Rig(redis_server.url, redis_client)
    until_threads_ended()


def test_heartbeats_are_complete_and_count_up(rig: Rig) -> None:
    gate = Gate()
    agent = rig.agent(type="build-agent", specializations=["feature"], max_concurrent=3)
    agent.task()(gate)
    with agent:
        rig.until_started()
        nonce = rig.grant(agent.boot)
        gate.until_began()
        rig.until_beats(2)
        held = rig.beats()[-1]
        gate.opened.set()
    beats = rig.beats()
    assert [beat.seq for beat in beats] == list(range(1, len(beats) + 1))
    assert beats[0].start
    assert not beats[-1].start
    assert {beat.boot for beat in beats} == {agent.boot}
    assert held.held == (nonce,)
    assert (held.agent, held.role, held.type) == (AGENT, "developer", "build-agent")
    assert (held.max_concurrent, held.specializations) == (3, ("feature",))
    assert (held.interval_ms, held.ttl_ms) == (100, 60_000)
    modes = [beat.mode for beat in beats]
    assert modes[-1] is Mode.STOPPED
    assert Mode.STOPPING in modes
    assert beats[-1].held == ()


def test_what_arrives_runs_and_its_result_is_reported(rig: Rig) -> None:
    seen: list[TaskContext] = []
    agent = rig.agent()

    @agent.task("feature")
    def build(task: TaskContext) -> dict[str, bool]:
        seen.append(task)
        return {"ok": True}

    with agent:
        rig.until_started()
        nonce = rig.grant(agent.boot, attempt=7)
        [done] = rig.until_completed()
    assert (done.agent, done.task, done.attempt, done.lease) == (AGENT, "t1", 7, nonce)
    assert (done.status, done.result, done.error) == (Status.COMPLETED, '{"ok":true}', "")
    [task] = seen
    assert (task.id, task.category, task.role, task.priority) == (
        "t1", "feature", "developer", "medium",
    )  # fmt: skip
    assert (task.description, task.payload, task.attempt) == ("d", {"n": 1}, 7)
    assert task.lease == nonce
    assert not task.cancelled.is_set()


def test_units_bound_what_runs_at_once(rig: Rig) -> None:
    gate = Gate()
    agent = rig.agent(max_concurrent=3)
    agent.task()(gate)
    with agent:
        rig.until_started()
        rig.grant(agent.boot, "t1", cost=2)
        rig.grant(agent.boot, "t2", cost=2)
        gate.until_began()
        rig.until_beats(2)
        assert [task.id for task in gate.began] == ["t1"]
        gate.opened.set()
        rig.until_completed(2)


def test_coroutines_run_side_by_side(rig: Rig) -> None:
    both = asyncio.Barrier(2)
    agent = rig.agent()

    @agent.task()
    async def meet(task: TaskContext) -> str:
        async with both:
            return threading.current_thread().name

    with agent:
        rig.until_started()
        rig.grant(agent.boot, "t1")
        rig.grant(agent.boot, "t2")
        done = rig.until_completed(2)
    assert {one.result for one in done} == {'"agent-asyncio"'}


@pytest.mark.parametrize(
    ("category", "error"),
    [
        ("raises", "ValueError: bad input"),
        ("exits", "SystemExit: 3"),
        ("awaits", "KeyError: 'k'"),
        ("forgot", "TypeError: the handler returned a coroutine: declare it with async def"),
        ("unheard-of", "no handler for category 'unheard-of' on this agent"),
    ],
)
def test_a_try_that_fails_says_why_and_the_agent_goes_on(
    rig: Rig, category: str, error: str
) -> None:
    agent = rig.agent()

    @agent.task("raises")
    def raises(task: TaskContext) -> None:
        raise ValueError("bad input")

    @agent.task("exits")
    def exits(task: TaskContext) -> None:
        sys.exit(3)

    @agent.task("awaits")
    async def awaits(task: TaskContext) -> None:
        raise KeyError("k")

    @agent.task("forgot")
    def forgot(task: TaskContext) -> Any:
        return awaits(task)

    agent.task("fine")(lambda task: 1)
    with agent:
        rig.until_started()
        rig.grant(agent.boot, "t1", category=category)
        [failed] = rig.until_completed()
        rig.grant(agent.boot, "t2", category="fine")
        fine = rig.until_completed(2)[1]
    assert (failed.status, failed.error, failed.result) == (Status.FAILED, error, "")
    assert (fine.status, fine.result) == (Status.COMPLETED, "1")


@pytest.mark.parametrize(
    ("result", "marker"), [("x" * 5_000, '"dropped": "too_large"'), ({1}, '"dropped": "not_json"')]
)
def test_a_result_that_cannot_be_kept_still_completes(rig: Rig, result: Any, marker: str) -> None:
    agent = rig.agent()
    agent.task()(lambda task: result)
    with capture_logs() as logs, agent:
        rig.until_started()
        rig.grant(agent.boot)
        [done] = rig.until_completed()
    assert done.status is Status.COMPLETED
    assert marker in done.result
    [dropped] = [entry for entry in logs if entry["event"] == "result_dropped"]
    assert (dropped["log_level"], dropped["task_id"]) == ("warning", "t1")
    assert dropped["dropped"] in marker


def test_unreadable_entries_fail_or_are_set_aside_and_stop_nothing(rig: Rig) -> None:
    agent = rig.agent()
    agent.task()(lambda task: 1)
    with agent:
        rig.until_started()
        rig.grant(agent.boot, "bad", cost="two")
        rig.until_completed()
        rig.client.xadd(rig.inbox, {"junk": "1"})
        rig.grant(agent.boot, "good")
        done = {one.task: one for one in rig.until_completed(2)}
    assert done["good"].status is Status.COMPLETED
    assert done["bad"].error.startswith("the inbox entry cannot be read: cost")


def test_an_agent_that_is_retired_finishes_what_it_holds_and_ends(rig: Rig) -> None:
    gate = Gate()
    agent = rig.agent()
    agent.task()(gate)
    agent.start()
    rig.until_started()
    rig.grant(agent.boot)
    gate.until_began()
    rig.retire(60_000)
    wait_until(lambda: rig.beats()[-1].mode is Mode.STOPPING, "the agent says that it stops")
    assert not agent.wait(0)
    gate.opened.set()
    assert agent.wait(10)
    assert [done.status for done in rig.completions()] == [Status.COMPLETED]
    assert rig.beats()[-1].mode is Mode.STOPPED


@pytest.fixture(params=[-3_600, 0, 3_600], ids="{:+d} s".format)
def clock_of_the_agent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the agent's machine goes wrong by so much; Redis' does not."""
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + request.param)


@pytest.mark.usefixtures("clock_of_the_agent")
def test_a_retirement_holds_for_the_next_boot_until_its_deadline(rig: Rig) -> None:
    rig.retire(60_000)
    agent = rig.agent()
    agent.task()(lambda task: None)
    agent.start()
    assert agent.wait(10)
    assert rig.beats()[-1].mode is Mode.STOPPED


@pytest.mark.usefixtures("clock_of_the_agent")
def test_a_retirement_of_the_past_means_nothing(rig: Rig) -> None:
    rig.retire(-1_000)
    agent = rig.agent()
    agent.task()(lambda task: None)
    with capture_logs() as logs, agent:
        rig.until_started()
        rig.grant(agent.boot)
        wait_until(lambda: len(rig.completions()) == 1, "it works")
        rig.until_beats(2)
        assert set(rig.modes()) == {Mode.RUNNING}
    assert "inbox_entry_rejected" not in {line["event"] for line in logs}
