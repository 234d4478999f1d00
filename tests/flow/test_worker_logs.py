"""What an agent logs, where, and that a log that cannot be written stops nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from balancer.embedded import EmbeddedRedis
from balancer.protocol import Status, TextRedis
from tests.flow.agent_rig import Rig, until_threads_ended
from worker import logs

PROGRAM = """
import sys
from worker import Agent

agent = Agent("builder-1", role="developer", redis_url=sys.argv[1], pool="p", interval_s=0.1, ttl_s=60)

@agent.task()
def fail(task):
    text = task.payload
    task.log.info("seen", payload=task.payload, task=task)
    raise RuntimeError("it failed")

agent.run()
"""


@pytest.fixture
def rig(redis_server: EmbeddedRedis, redis_client: TextRedis) -> Iterator[Rig]:
    yield Rig(redis_server.url, redis_client)
    until_threads_ended()


@contextmanager
def program(rig: Rig, stderr: int) -> Iterator[subprocess.Popen[str]]:
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, rig.url], stdout=subprocess.PIPE, stderr=stderr, text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    with running:
        try:
            yield running
        finally:
            running.kill()


def test_a_program_that_runs_an_agent_logs_json_on_stderr_and_never_a_payload(rig: Rig) -> None:
    with program(rig, subprocess.PIPE) as running:
        rig.until_started()
        rig.grant(rig.starts()[0].boot, body='{"payload": "HIDDEN", "description": "HIDDEN"}')
        rig.until_completed()
        running.send_signal(signal.SIGTERM)
        stdout, stderr = running.communicate(timeout=10)
    assert running.returncode == 0
    assert stdout == ""
    assert "HIDDEN" not in stderr
    said = {entry["event"]: entry for entry in map(json.loads, stderr.splitlines())}
    assert {"agent_started", "seen", "task_failed", "agent_stopped"} <= said.keys()
    assert "RuntimeError: it failed" in said["task_failed"]["exception"]
    assert "locals" not in said["task_failed"]["exception"]


def test_a_program_whose_stderr_is_gone_works_on(rig: Rig) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with program(rig, writing) as running:
        os.close(writing)
        rig.until_started()
        rig.grant(rig.starts()[0].boot)
        [done] = rig.until_completed()
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
    assert done.error == "RuntimeError: it failed"


def test_an_embedded_agent_leaves_logging_alone_and_outlives_it(rig: Rig) -> None:
    class Full:
        def msg(self, *_: object, **__: object) -> None:
            raise OSError("no space left on device")

        info = warning = error = msg

    structlog.configure(processors=[], logger_factory=lambda *_: Full())
    before = structlog.get_config()
    agent = rig.agent()
    agent.task()(lambda task: 1)
    with agent:
        rig.until_started()
        rig.grant(agent.boot)
        [done] = rig.until_completed()
    assert done.status is Status.COMPLETED
    assert structlog.get_config() == before


def test_logging_that_the_program_configured_stays() -> None:
    structlog.configure(processors=[])
    logs.configure_unless_configured()
    assert structlog.get_config()["processors"] == []
