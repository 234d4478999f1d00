"""Run timeouts, towards a balancer that is played by hand; and what the log says of a try."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from balancer.embedded import EmbeddedRedis
from balancer.protocol import Status, TextRedis
from tests.flow.agent_rig import AGENT, Gate, Rig, until_threads_ended
from worker import TaskContext


@pytest.fixture
def rig(redis_server: EmbeddedRedis, redis_client: TextRedis) -> Iterator[Rig]:
    yield Rig(redis_server.url, redis_client)
    until_threads_ended()


def test_a_run_timeout_is_reported_and_a_deaf_thread_keeps_its_unit(rig: Rig) -> None:
    gate = Gate(deaf=True)
    agent = rig.agent(max_concurrent=1)
    agent.task()(gate)
    with agent:
        rig.until_started()
        rig.grant(agent.boot, "t1", timeout_ms=50)
        rig.grant(agent.boot, "t2")
        [failed] = rig.until_completed()
        assert (failed.status, failed.error) == (Status.FAILED, "run timeout")
        assert gate.began[0].cancelled.is_set()
        rig.until_beats(2)
        assert len(gate.began) == 1
        gate.opened.set()
        done = rig.until_completed(2)
    assert [(one.task, one.status) for one in done] == [
        ("t1", Status.FAILED), ("t2", Status.COMPLETED),
    ]  # fmt: skip


def test_a_run_timeout_cancels_a_coroutine(rig: Rig) -> None:
    ended = threading.Event()
    agent = rig.agent()

    @agent.task()
    async def wait(task: TaskContext) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with agent:
        rig.until_started()
        rig.grant(agent.boot, timeout_ms=50)
        [failed] = rig.until_completed()
        assert ended.wait(10)
    assert failed.error == "run timeout"


def test_logs_name_tasks_and_never_show_what_is_in_them(rig: Rig) -> None:
    agent = rig.agent()

    @agent.task()
    def fail(task: TaskContext) -> None:
        task.log.info("step_done")
        raise ValueError

    with capture_logs() as logs, agent:
        rig.until_started()
        rig.grant(agent.boot, body='{"payload": "SECRET", "description": "SECRET"}')
        rig.until_completed()
    events = [entry["event"] for entry in logs]
    assert events == [
        "pool_not_found", "agent_started", "task_started", "step_done", "task_failed", "agent_stopped",
    ]  # fmt: skip
    assert logs[4]["task_id"] == "t1"
    assert logs[4]["agent_id"] == AGENT
    assert isinstance(logs[4]["exc_info"], ValueError)
    assert "SECRET" not in repr(logs)
