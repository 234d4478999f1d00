from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from rich.console import Console

from balancer.core.model import Task
from balancer.demo import producer_process as producing
from balancer.demo.agent_process import PlannedFailure, WorkLog, work
from balancer.demo.child import LineLog, whole_lines
from balancer.demo.facts import read_answers
from balancer.demo.fleet import OFTEN, Child, ChildFailed, Fleet
from balancer.demo.live import View
from balancer.demo.producer_process import PAUSE_S, submit
from balancer.demo.sample import Sample
from balancer.demo.stand_in import all_scripts, stand_in
from balancer.demo.worklog import completions, read_worklogs
from balancer.embedded import ServerMissing
from balancer.ledger.read_fleet import RoleQueue
from balancer.ledger.submit import Outcome, Submitted
from balancer.protocol.connect import connect
from tests.support.wait import wait_until
from worker import TaskContext


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    yield fleet
    fleet.stop(0)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the child processes of a test run."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "played.py"


def child(tmp_path: Path, *, ends: bool = False) -> Child:
    return Child("it", "played", {}, tmp_path / "it.err", ends=ends)


def context(attempt: int = 1, **payload: Any) -> TaskContext:
    return TaskContext(
        id="t",
        category="fix",
        role="developer",
        priority="high",
        attempt=attempt,
        lease="0" * 32,
        cost=1,
        timeout_s=60.0,
        description="",
        payload={"run_s": 0.0, "fail_first": False, **payload},
        cancelled=threading.Event(),
        log=structlog.get_logger(),
    )


def events(path: Path) -> list[str]:
    return [said.event for said in read_worklogs([("a", path)])["a"]]


def test_a_half_written_line_does_not_count_and_is_not_added_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\ntw", encoding="utf-8")
    assert whole_lines(path) == ["one"]

    LineLog(path).add("two", "three")

    assert path.read_text(encoding="utf-8") == "one\ntwo\nthree\n"


def test_a_log_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert whole_lines(tmp_path / "log") == []


def test_an_agent_writes_down_what_it_does(tmp_path: Path) -> None:
    path = tmp_path / "log"
    work(context(), WorkLog(path, units=3))

    begun, ended = (json.loads(line) for line in whole_lines(path))
    assert (begun["event"], ended["event"]) == ("start", "completed")
    assert (begun["task"], begun["attempt"], begun["cost"], begun["units"]) == ("t", 1, 1, 3)
    assert begun["monotonic_s"] <= ended["monotonic_s"]
    assert completions(read_worklogs([("a", path)])) == {("a", "t", 1)}


def test_a_row_that_failed_fails_its_first_try_only(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with pytest.raises(PlannedFailure):
        work(context(fail_first=True), WorkLog(path, 1))
    work(context(2, fail_first=True), WorkLog(path, 1))

    assert events(path) == ["start", "failed", "start", "completed"]


def test_work_that_no_longer_counts_ends_at_once(tmp_path: Path) -> None:
    revoked = context(run_s=3_600.0)
    revoked.cancelled.set()
    work(revoked, WorkLog(tmp_path / "log", 1))

    assert events(tmp_path / "log") == ["start", "cancelled"]


def test_a_killed_process_is_started_again(fleet: Fleet, module: Path, tmp_path: Path) -> None:
    module.write_text("import time; time.sleep(60)", encoding="utf-8")
    it = fleet.add(child(tmp_path))
    it.signal(signal.SIGKILL)
    wait_until(lambda: not it.is_up, "it was killed")
    fleet.tend()

    assert it.is_up
    assert fleet.restarts == 1
    assert [news.rsplit("  ")[-1] for news in fleet.news] == [
        "it died (SIGKILL)",
        "it started again",
    ]


def test_a_process_that_shall_stay_down_stays_down(
    fleet: Fleet, module: Path, tmp_path: Path
) -> None:
    module.write_text("import time; time.sleep(60)", encoding="utf-8")
    it = fleet.add(child(tmp_path))
    it.down = True
    it.signal(signal.SIGKILL)
    wait_until(lambda: not it.is_up, "it was killed")
    fleet.tend()
    assert not it.is_up

    it.down = False
    fleet.tend()
    assert it.is_up


def test_a_process_that_is_done_is_not_started_again(
    fleet: Fleet, module: Path, tmp_path: Path
) -> None:
    module.write_text("", encoding="utf-8")
    it = fleet.add(child(tmp_path, ends=True))
    wait_until(lambda: not it.is_up, "it ended")
    fleet.tend()
    fleet.tend()

    assert (it.done, it.starts, fleet.restarts) == (True, 1, 0)


def test_a_process_that_never_comes_up_ends_the_demo(
    fleet: Fleet, module: Path, tmp_path: Path
) -> None:
    module.write_text("raise SystemExit('no such thing')", encoding="utf-8")
    it = fleet.add(child(tmp_path))

    def tend() -> None:
        wait_until(lambda: not it.is_up, "it died")
        fleet.tend()

    for _ in range(OFTEN - 1):
        tend()
    with pytest.raises(ChildFailed, match="no such thing"):
        tend()


def test_stopping_kills_what_does_not_end(fleet: Fleet, module: Path, tmp_path: Path) -> None:
    module.write_text(
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(tmp_path / 'up')!r}).touch()\n"
        "time.sleep(60)",
        encoding="utf-8",
    )
    it = fleet.add(child(tmp_path))
    wait_until((tmp_path / "up").exists, "it is up")
    fleet.stop(0.01)

    assert it.process is None


def test_a_child_ends_with_its_parent(tmp_path: Path, module: Path) -> None:
    module.write_text(
        "from balancer.demo.child import arguments\n"
        "arguments()\n"
        "import threading; threading.Event().wait(60)",
        encoding="utf-8",
    )
    with subprocess.Popen([sys.executable, module, "{}"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 1


class Recorder:
    """A pool that takes everything."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def submit_many(self, tasks: Iterable[Task]) -> list[Submitted]:
        self.calls.append([task.id for task in tasks])
        return [Submitted(id_, Outcome.ACCEPTED, "") for id_ in self.calls[-1]]


def test_the_producer_submits_what_is_due_and_writes_down_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept_s: list[float] = []
    clock = SimpleNamespace(sleep=slept_s.append, monotonic=lambda: 1_060.0 + sum(slept_s))
    monkeypatch.setattr(producing, "time", clock)
    planned = [
        {"at_s": at_s, "task": {"id": f"t{i}", "role": "developer"}}
        for i, at_s in enumerate([0.0] * 150 + [60.01])
    ]
    pool: Any = Recorder()
    submit(pool, planned, LineLog(tmp_path / "log"), 1_000.0)

    assert [len(call) for call in pool.calls] == [100, 50, 1]
    assert slept_s == [PAUSE_S], "it is due before the least pause is over"
    assert whole_lines(tmp_path / "log") == [f"t{i} accepted" for i in range(151)]
    assert set(read_answers(tmp_path / "log").values()) == {Outcome.ACCEPTED}


def test_the_stand_in_for_redis_is_loud_and_knows_every_script(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with (
        stand_in(ServerMissing("there is no redis-server")) as server,
        connect(server.url) as client,
    ):
        shas = [script.sha for script in all_scripts()]
        assert client.script_exists(*shas) == [True] * len(shas)

    assert "*** there is no redis-server: fakeredis stands in." in capsys.readouterr().err


def sample(**fields: Any) -> Sample:
    queue = RoleQueue(
        role="developer",
        paused=False,
        pending=30,
        scheduled=0,
        waiting=30,
        max_pending=1_000_000,
        oldest_waiting_s=1.25,
        agents=2,
        capacity=4,
        used=3,
        completed=7,
        dead=0,
    )
    return Sample(
        **{
            "elapsed_s": 12.0,
            "queues": (queue, queue.model_copy(update={"role": "tester", "pending": 0})),
            "blocked": 5,
            "failed": 1,
            "leases": 3,
            "accepted": 46,
            "ended": 7,
            "reclaimed": 2,
            "failed_attempts": 4,
            "unsettled": 0,
            "tasks_per_s": 9.6,
            "wait_s": (0.25, 0.5),
            **fields,
        }
    )


def seen(taken: Sample, *, terminal: bool, kind: str = "xterm") -> str:
    out, fleet = io.StringIO(), Fleet()
    fleet.tell("tester-1 died")
    console = Console(
        file=out, width=80, force_terminal=terminal, color_system=None, _environ={"TERM": kind}
    )
    with View("a title", "somewhere", 50, fleet, console) as view:
        view.show(taken, {"developer": (1, 2), "tester": (2, 2)})
        view.show(sample(ended=8), {})
    return out.getvalue()


def test_a_terminal_shows_depth_agents_throughput_and_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("balancer.demo.live.REDRAW_S", 60)
    text = seen(sample(), terminal=True)

    assert "a title" in text
    assert "7 of 50 ended" in text
    row = next(line.split() for line in text.splitlines() if "developer" in line)
    assert row == ["developer", "1/2", "3/4", "7", "1.2", "s", "30", "█" * 20]
    assert "10 tasks/s   wait p50 0.25 s, p95 0.50 s   5 wait for others   4 tries failed" in text
    assert "tester-1 died" in text
    assert "8 of 50" not in text  # too soon after the first


def test_elsewhere_one_line_says_it() -> None:
    assert seen(sample(), terminal=False) == (
        " 12.0 s  7/50 ended  10/s  waiting: developer 30, tester 0  agents 3/4  wait p50/p95 0.25/0.50 s\n"
    )
    assert "wait p50/p95 -" in seen(sample(wait_s=None), terminal=False)
    assert seen(sample(), terminal=True, kind="dumb") == seen(sample(), terminal=False)


def test_what_is_open_is_all_that_has_not_ended() -> None:
    assert sample(unsettled=1).open == 30 + 5 + 1 + 3 + 1
