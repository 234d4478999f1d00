"""The pool for users' own tests: the same pool, in virtual time, without a server."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from balancer import (
    BalancerError,
    Conflict,
    InvalidInput,
    NotFound,
    TaskStatus,
    Unavailable,
    WaitTimeout,
)
from balancer.core.settings import PoolSettings
from balancer.ledger.audit import audit
from balancer.testing import TestPool
from balancer.testing import fake as faking
from worker import Agent, TaskContext

PAGE = (Path(__file__).parents[2] / "docs/unit-tests.md").read_text(encoding="utf-8")


@pytest.fixture
def pool() -> Iterator[TestPool]:
    with TestPool() as pool:
        yield pool
        assert audit(pool.pool).violations == []


@pytest.fixture
def agent() -> Agent:
    """Two units; doubles a number, fails at text."""
    agent = Agent("a1", role="dev", max_concurrent=2)

    @agent.task()
    def double(task: TaskContext) -> Any:
        if isinstance(task.payload, str):
            raise ValueError(task.payload)
        return task.payload * 2

    return agent


def states(pool: TestPool, *ids: str) -> list[str]:
    return [status.state.value if status else "-" for status in pool.statuses(ids)]


def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python (\S+)\n(.*?)^```$", PAGE, re.M | re.S)
    assert [name for name, _ in blocks] == ["mail.py", "test_mail.py"]
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    page = importlib.import_module("test_mail")
    tests = [call for name, call in vars(page).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()
    for name in ("mail", "test_mail"):
        del sys.modules[name]


def test_nothing_happens_but_when_the_pool_is_run(pool: TestPool, agent: Agent) -> None:
    pool.add_agent(agent)
    tasks = [pool.submit(id=f"t{n}", role="dev", payload=n) for n in range(5)]
    assert states(pool, *tasks) == ["pending"] * 5
    pool.run_until_idle()
    assert states(pool, *tasks) == ["completed"] * 5
    assert [pool.result(task) for task in tasks] == [0, 2, 4, 6, 8]
    assert pool.now == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_failure_waits_for_its_retry_and_the_last_one_is_dead(
    pool: TestPool, agent: Agent
) -> None:
    pool.add_agent(agent)
    task = pool.submit(role="dev", payload="no", max_failures=2)
    pool.run_until_idle()
    assert states(pool, task) == ["failed"]
    before = pool.now
    status = pool.wait(task, timeout_s=3_600)
    assert (status.state.value, status.failures) == ("dead", 2)
    assert status.result == {"error": "ValueError: no"}
    assert before < pool.now <= before + timedelta(hours=1)
    with pytest.raises(Conflict, match="ValueError: no"):
        pool.result(task)


def test_time_passes_moment_by_moment(pool: TestPool, agent: Agent) -> None:
    pool.add_agent(agent, takes_s=60)
    parent = pool.submit(id="p", role="dev", payload=1)
    child = pool.submit(id="c", role="dev", payload=2, depends_on=[parent])
    later = pool.submit(
        id="l", role="dev", payload=3, not_before=pool.now + timedelta(hours=1), run_timeout_s=30.0, max_failures=1,
    )  # fmt: skip
    pool.advance(59)
    assert states(pool, parent, child, later) == ["assigned", "blocked", "scheduled"]
    pool.advance(1)
    assert states(pool, parent, child, later) == ["completed", "assigned", "scheduled"]
    pool.advance(3_600)
    assert states(pool, parent, child, later) == ["completed", "completed", "dead"]
    found = pool.status(later)
    assert found.granted_at is not None
    assert found.ended_at is not None
    assert found.granted_at == datetime(2026, 1, 1, 1, tzinfo=UTC).timestamp()
    assert found.ended_at - found.granted_at == pytest.approx(35, abs=0.01)  # timeout and grace
    assert found.reason == "timeout"


def test_an_agent_that_crashes_is_lost_after_its_ttl_and_resumes_when_it_comes_back(
    pool: TestPool, agent: Agent
) -> None:
    pool.add_agent(agent, takes_s=10)
    task = pool.submit(role="dev", payload=1)
    pool.run_until_idle()
    pool.crash_agent("a1")
    pool.advance(14)
    assert states(pool, task) == ["assigned"]
    pool.add_agent(agent, takes_s=10)  # restarted in time
    pool.advance(10)
    assert pool.result(task) == 2
    again = pool.submit(role="dev", payload=2)
    pool.run_until_idle()
    pool.crash_agent("a1")
    pool.advance(16)
    assert (pool.status(again).state, pool.status(again).losses) == ("pending", 1)
    assert [found.state for found in pool.agents()] == ["lost"]
    pool.add_agent(agent)
    pool.run_until_idle()
    assert pool.result(again) == 4


def test_an_agent_that_stops_gives_its_work_to_others(pool: TestPool, agent: Agent) -> None:
    pool.add_agent(agent, takes_s=10)
    task = pool.submit(role="dev", payload=1)
    pool.run_until_idle()
    pool.stop_agent("a1")
    agent.override(id="a2")
    pool.add_agent(agent)
    pool.run_until_idle()
    status = pool.status(task)
    assert (status.state, status.agent) == ("completed", "a2")
    for call in (pool.stop_agent, pool.crash_agent):
        with pytest.raises(NotFound, match="'a1'"):
            call("a1")


def test_a_cancelled_try_is_told_and_ends_at_once(pool: TestPool) -> None:
    seen: list[bool] = []
    agent = Agent("a1", role="dev")

    @agent.task()
    def stoppable(task: TaskContext) -> str:
        seen.append(task.cancelled.is_set())
        return "done all the same"

    pool.add_agent(agent, takes_s=60)
    task = pool.submit(role="dev")
    pool.run_until_idle()
    assert pool.cancel(task, "not needed") is False
    pool.run_until_idle()
    assert seen == [True]
    assert (pool.status(task).state, pool.status(task).reason) == ("cancelled", "not needed")
    assert pool.now == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_rejected_task_goes_to_another_agent(pool: TestPool) -> None:
    for name in ("a1", "a2"):
        agent = Agent(name, role="dev")

        @agent.task()
        def picky(task: TaskContext) -> str:
            if task.attempt == 1:
                task.reject("not mine")
            return "done"

        pool.add_agent(agent)
    task = pool.submit(role="dev")
    pool.run_until_idle()
    status = pool.status(task)
    assert (status.state, status.attempt, status.failures) == ("completed", 2, 0)


def test_a_task_goes_to_who_has_the_skill_and_from_who_failed_it_to_others(pool: TestPool) -> None:
    tried = []
    for name, level in (("a1", 3), ("a2", 2), ("a3", 5)):
        agent = Agent(name, role="dev", skills={"python": level})

        @agent.task()
        def careless(task: TaskContext, name: str = name) -> None:
            tried.append(name)
            raise ValueError("no idea")

        pool.add_agent(agent)
    task = pool.submit(role="dev", requires={"python": 3}, max_failures=3)
    status = pool.wait(task, timeout_s=3_600)
    assert (status.state, status.failures) == ("dead", 3)
    assert sorted(tried[:2]) == ["a1", "a3"]
    assert "a2" not in tried


def test_an_agent_that_retires_ends_what_it_holds_and_is_gone(pool: TestPool, agent: Agent) -> None:
    pool.add_agent(agent, takes_s=10)
    first = pool.submit(role="dev", payload=1)
    pool.run_until_idle()
    pool.retire_agent("a1", 60)
    second = pool.submit(role="dev", payload=2)
    pool.advance(11)
    assert states(pool, first, second) == ["completed", "pending"]
    assert [found.state for found in pool.agents()] == ["stopped"]


def test_an_agent_that_does_not_end_by_its_deadline_gives_its_work_back(
    pool: TestPool, agent: Agent
) -> None:
    pool.add_agent(agent, takes_s=100)
    task = pool.submit(role="dev", payload=1)
    pool.run_until_idle()
    pool.retire_agent("a1", 20)
    pool.advance(25)
    assert (pool.status(task).state, pool.status(task).losses) == ("pending", 0)


def test_waiting_lets_time_pass_and_no_longer_than_needed(pool: TestPool, agent: Agent) -> None:
    pool.add_agent(agent, takes_s=5)
    task = pool.submit(role="dev", payload=1)
    assert pool.wait(task, timeout_s=100).state == "completed"
    assert pool.now == datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
    nobodys = pool.submit(role="ops")
    with pytest.raises(WaitTimeout, match="still pending after 7 s"):
        pool.wait(nobodys, timeout_s=7)
    assert pool.now == datetime(2026, 1, 1, 0, 0, 12, tzinfo=UTC)
    with pytest.raises(WaitTimeout, match="nothing is left to happen"):
        pool.wait(nobodys, timeout_s=float("inf"))


def test_a_submit_that_blocks_waits_for_room_in_virtual_time(agent: Agent) -> None:
    with TestPool(PoolSettings(max_pending=1)) as pool:
        pool.add_agent(agent, takes_s=30)
        for n in range(3):
            pool.submit(id=f"t{n}", role="dev", payload=n, block_s=60)
            pool.run_until_idle()
        pool.submit(id="t3", role="dev", payload=3, block_s=60)
        assert pool.now > datetime(2026, 1, 1, 0, 0, 29, tzinfo=UTC)
        assert pool.status("t0").state == "completed"


def test_callbacks_are_called_at_once_and_their_errors_are_logged(
    pool: TestPool, agent: Agent
) -> None:
    seen: list[str] = []

    def broken(_: TaskStatus) -> None:
        raise ValueError("no")

    async def awaited(status: TaskStatus) -> None:
        seen.append(f"async {status.id}")

    pool.add_agent(agent)
    with structlog.testing.capture_logs() as logs:
        pool.submit(id="t1", role="dev", payload=1, on_completion=broken)
        pool.on_completion("t1", lambda status: seen.append(status.id))
        pool.on_completion("t1", awaited)
        pool.run_until_idle()
    assert seen == ["t1", "async t1"]
    assert [row["task_id"] for row in logs if row["event"] == "callback_failed"] == ["t1"]


def test_handlers_may_be_coroutines_and_may_submit_but_not_run_the_pool(pool: TestPool) -> None:
    agent = Agent("a1", role="dev")

    @agent.task("first")
    async def first(task: TaskContext) -> str:
        await asyncio.sleep(0)
        return pool.submit(id="second", role="dev", category="second")

    @agent.task("second")
    def second(task: TaskContext) -> None:
        pool.run_until_idle()

    pool.add_agent(agent)
    pool.submit(id="first", role="dev", category="first", max_failures=1)
    pool.run_until_idle()
    assert pool.result("first") == "second"
    assert pool.status("second").state == "failed"
    assert "cannot run the pool" in pool.status("second").result["error"]
    pool.submit(id="none", role="dev", category="none", max_failures=1)
    pool.run_until_idle()
    assert "no handler for category 'none'" in pool.status("none").result["error"]


def test_a_pool_that_never_becomes_idle_says_so(
    pool: TestPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balancer.testing.pool.MOST_ROUNDS", 20)
    agent = Agent("a1", role="dev")
    agent.task()(lambda task: pool.submit(role="dev"))
    pool.add_agent(agent)
    pool.submit(role="dev")
    with pytest.raises(BalancerError, match="not idle after 20 rounds"):
        pool.run_until_idle()


def test_code_that_takes_an_async_balancer(pool: TestPool, agent: Agent) -> None:
    async def produce() -> tuple[str, list[str]]:
        seen: list[str] = []
        async with pool.as_async() as producer:
            task = await producer.submit(
                role="dev", payload=4, on_completion=lambda s: seen.append(s.id)
            )
            status = await producer.wait(task, 10)
            assert seen == [task]
            return status.state.value, seen

    pool.add_agent(agent)
    state, seen = asyncio.run(produce())
    assert state == "completed"
    assert pool.result(seen[0]) == 8


def test_a_pool_that_was_closed_takes_nothing() -> None:
    with TestPool() as pool:
        pool.submit(role="dev")
    with pytest.raises(Unavailable, match="this client was closed"):
        pool.submit(role="dev")


def test_bad_arguments(pool: TestPool, agent: Agent) -> None:
    not_a_number: Any = "5"
    for seconds in (-1.0, float("inf"), float("nan"), not_a_number):
        with pytest.raises(InvalidInput, match="seconds"):
            pool.advance(seconds)
    with pytest.raises(InvalidInput, match="takes_s"):
        pool.add_agent(agent, takes_s=-1)
    with pytest.raises(InvalidInput, match="time zone"):
        TestPool(now=datetime(2026, 1, 1))  # noqa: DTZ001 (that is the point)


@pytest.mark.parametrize("missing", ["fakeredis", "lupa"])
def test_without_fakeredis_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find(name)
    )
    with pytest.raises(ImportError, match=rf"needs {missing}: pip install .*\[testing\]") as error:
        TestPool()
    assert isinstance(error.value, faking.FakeRedisMissing)


@pytest.mark.parametrize("step_s", [None, 7.0])
def test_a_wait_ends_when_the_guard_lets_go_as_time_in_small_steps_does(
    pool: TestPool, step_s: float | None
) -> None:
    """The fast agent is busy for longer than was expected: at last the slow one gets the task."""
    for name, speed, takes_s in (("fast", 10.0, 3_000), ("slow", 1.0, 10)):
        agent = Agent(name, role="dev", max_concurrent=1, speed=speed)
        agent.task()(lambda _task: None)
        pool.add_agent(agent, takes_s=takes_s)
    pool.submit(role="dev", estimate_s=600)
    pool.run_until_idle()
    task, began = pool.submit(role="dev", estimate_s=600), pool.now
    if step_s is None:
        pool.wait(task, timeout_s=40_000)
    while pool.status(task).state.value != "completed":
        pool.advance(step_s or 0)

    # (60 s x 2 waiting / 1 unit + 60 s) x slack 1.5, then 10 s of work.
    took_s = (pool.now - began).total_seconds()
    assert 280 <= took_s <= 280.01 + (step_s or 0)
    assert pool.status(task).agent == "slow"


def test_a_wait_ends_when_an_agent_gets_again_what_it_gave_back(pool: TestPool) -> None:
    agent = Agent("a1", role="dev")

    @agent.task()
    def picky(task: TaskContext) -> str:
        if task.attempt == 1:
            task.reject("not now")
        return "done"

    pool.add_agent(agent)
    task, began = pool.submit(role="dev"), pool.now
    pool.wait(task, timeout_s=7_200)

    assert pool.status(task).attempt == 2
    assert (pool.now - began).total_seconds() <= 10


def test_a_wait_for_what_nobody_can_do_is_given_up_at_once(pool: TestPool, agent: Agent) -> None:
    pool.add_agent(agent)
    task, began = pool.submit(role="dev", requires={"gpu": 1}), pool.now

    with pytest.raises(WaitTimeout, match="nothing is left to happen"):
        pool.wait(task, timeout_s=7_200)

    assert pool.now == began
