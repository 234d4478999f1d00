"""The demo itself: a shorter trace, the same processes, the same verdict."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balancer.demo import run, stage
from balancer.demo.child import whole_lines
from balancer.demo.fleet import Child, Fleet
from balancer.demo.options import DemoOptions
from balancer.demo.run import run_demo
from balancer.embedded import EmbeddedRedis
from tests.support.wait import wait_until

KEYS = {
    "ok",
    "problems",
    "trace",
    "load",
    "speed",
    "arrival_factor",
    "capacity",
    "agents",
    "replicas",
    "killed",
    "restarts",
    "submitted",
    "completed",
    "failed_attempts",
    "dead",
    "cancelled",
    "lost",
    "overcommits",
    "counter_drift",
    "reclaimed",
    "stale_completions",
    "duplicate_completions",
    "wait_s",
    "dispatch_ms",
    "elapsed_s",
    "tasks_per_s",
    "audit",
}


@pytest.fixture(autouse=True)
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Path]]:
    """Where demos keep their files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda: list(tmp_path.glob("balancer-demo-*"))


@pytest.fixture
def fleets(monkeypatch: pytest.MonkeyPatch) -> list[Fleet]:
    """The fleet of the demo, once it has one."""
    made: list[Fleet] = []

    class Seen(Fleet):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(stage, "Fleet", Seen)
    return made


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[EmbeddedRedis]:
    """The Redis of the demo, once it has one."""
    made: list[EmbeddedRedis] = []

    class Seen(EmbeddedRedis):
        def __init__(self, *, appendonly: bool) -> None:
            super().__init__(appendonly=appendonly)
            made.append(self)

    monkeypatch.setattr(run, "EmbeddedRedis", Seen)
    return made


def submitted(directories: list[Path]) -> list[str]:
    """What the producer's log says."""
    return whole_lines(directories[0] / "submitted") if directories else []


def assert_clean(report: dict[str, Any], tasks: int) -> None:
    assert report["problems"] == []
    assert report["audit"] == {"clean": True, "exact": True, "violations": []}
    assert (report["submitted"], report["completed"]) == (tasks, tasks)
    wrong = ("lost", "overcommits", "counter_drift", "dead", "cancelled")
    assert {name: report[name] for name in wrong} == dict.fromkeys(wrong, 0)


def test_a_demo_with_killed_agents_ends_clean(
    directories: Callable[[], list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_demo(DemoOptions(agents=8, limit=60, kill=2, json=True)) == 0

    out, err = capsys.readouterr()
    report = json.loads(out)
    assert set(report) == KEYS
    assert_clean(report, 60)
    assert (report["killed"], report["restarts"]) == (2, 2)
    assert report["reclaimed"] >= 1
    assert 0 < report["dispatch_ms"]["p50"] <= report["dispatch_ms"]["p99"]
    assert "60 ended" in err
    assert not directories()


def test_everything_ends_once_when_balancers_producer_and_redis_are_killed(
    directories: Callable[[], list[Path]],
    fleets: list[Fleet],
    servers: list[EmbeddedRedis],
    capsys: pytest.CaptureFixture[str],
) -> None:
    killed: list[str] = []

    def kill(child: Child) -> None:
        assert child.process is not None
        os.kill(child.process.pid, signal.SIGKILL)
        killed.append(child.name)

    def kill_all() -> None:
        wait_until(lambda: len(submitted(directories())) >= 10, "the demo is on its way", 30)
        for child in fleets[0].children:
            if child.name.startswith(("balancer", "producer")):
                kill(child)
        os.kill(servers[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_all, daemon=True)
    killer.start()
    assert run_demo(DemoOptions(agents=8, limit=60, kill=0, json=True, keep=True)) == 0
    killer.join()

    report = json.loads(capsys.readouterr().out)
    assert_clean(report, 60)
    assert "Redis started again" in "".join(fleets[0].news)
    assert sorted(killed) == ["balancer-1", "balancer-2", "producer"]
    assert report["restarts"] == 3
    assert len(submitted(directories())) == 60


def test_an_interrupted_demo_leaves_nothing_behind(
    directories: Callable[[], list[Path]],
    fleets: list[Fleet],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt() -> None:
        wait_until(lambda: submitted(directories()), "the producer has begun", 30)
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=interrupt, daemon=True)
    killer.start()
    assert run_demo(DemoOptions(agents=8, limit=60)) == run.INTERRUPTED
    killer.join()

    assert not any(child.is_up for child in fleets[0].children)
    assert not directories()
    assert "interrupted" in capsys.readouterr().err
