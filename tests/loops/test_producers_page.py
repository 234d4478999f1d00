"""docs/producers.md: its programs run as they stand, against a service and an agent, and print what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

import balancer
from balancer.core.errors import BalancerError
from balancer.core.model import TaskState
from balancer.embedded import EmbeddedRedis
from balancer.ledger import Pool
from balancer.ledger.read_tasks import task_ids, task_statuses
from balancer.protocol import TextRedis
from balancer.service import Service
from worker import Agent, TaskContext

PAGE = (Path(__file__).parents[2] / "docs/producers.md").read_text(encoding="utf-8")


def block(info: str) -> str:
    found = re.search(rf"^```{re.escape(info)}\n(.*?)^```$", PAGE, re.M | re.S)
    assert found, f"the page has no block {info!r}"
    return found[1]


@pytest.fixture
def world(
    redis_server: EmbeddedRedis, redis_client: TextRedis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A balancer and an agent whose results are what tasks carry."""
    monkeypatch.setenv("BALANCER_REDIS_URL", redis_server.url)
    monkeypatch.setenv("BALANCER_POOL", "p")
    with structlog.testing.capture_logs():
        service = Service(redis_server.url, "p").start()
    agent = Agent("d1", role="developer", max_concurrent=4, interval_s=0.2, ttl_s=2)

    @agent.task()
    def echo(task: TaskContext) -> Any:
        return task.payload

    try:
        with structlog.testing.capture_logs(), agent:
            yield
            service.stop()
    finally:
        service.stop()


@pytest.mark.usefixtures("world")
def test_its_programs_print_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block("python producer.py"), "producer.py", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out.splitlines()
    # The callback has a thread of its own: its line may come before or after the last.
    assert sorted(printed) == sorted(block("text producer.py").splitlines())
    exec(compile(block("python fan_out.py"), "fan_out.py", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines() == ["0", "1", "2"]


def test_its_task_with_hints_says_what_it_says(
    redis_server: EmbeddedRedis, redis_client: TextRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALANCER_REDIS_URL", redis_server.url)
    monkeypatch.setenv("BALANCER_POOL", "p")
    pool = Pool.create(redis_client, "p")
    exec(compile(block("python hints.py"), "hints.py", "exec"), {"__name__": "__main__"})
    [task_id] = task_ids(pool, TaskState.PENDING)
    status = task_statuses(pool, [task_id])[0]
    assert status
    assert (status.requires, status.prefer_agent, status.prefer_for_s) == (
        {"python": 3},
        "builder-1",
        120,
    )
    stored = redis_client.hgetall(pool.keys.task(task_id))
    assert stored["e"].split("|")[-1] == str(4 * 3_600_000)
    assert len(stored["l"].split("|")) == 3
    assert "shop" not in str(stored)


def test_it_names_every_error_a_producer_may_meet() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE.partition("## Errors")[2]))
    public = {
        name
        for name in balancer.__all__
        if isinstance(getattr(balancer, name), type)
        and issubclass(getattr(balancer, name), BalancerError)
    }
    assert public == named & public
    assert {"Unconfirmed", "QueueFull", "RedisFull", "Denied"} <= public


def test_it_names_every_call() -> None:
    table = PAGE.partition("## Calls")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.M)))
    calls = {name for name in dir(balancer.Balancer) if not name.startswith("_")} - {"pool"}
    assert set(named) == calls
    assert len(named) == len(calls)
