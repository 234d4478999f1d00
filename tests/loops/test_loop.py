"""What all loops share."""

from __future__ import annotations

import threading

import pytest
from redis.exceptions import ConnectionError, OutOfMemoryError, ResponseError, TimeoutError
from structlog.testing import capture_logs

from balancer.core.errors import SafeStop
from balancer.loops.loop import Loop
from balancer.protocol import causes


class Scripted(Loop):
    """Does what each entry says: None passes, an error is raised; stops after the last."""

    name = "scripted"

    def __init__(self, *passes: Exception | None) -> None:
        super().__init__()
        self.passes, self.stop = list(passes), threading.Event()

    def wait(self, stop: threading.Event) -> None:
        if not self.passes:
            self.stop.set()

    def step(self) -> None:
        error = self.passes.pop(0)
        if error:
            raise error


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "FIRST_BACKOFF_S", 0.0001)


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (ConnectionError("gone"), "warning"),
        (OutOfMemoryError("full"), "critical"),
        (ResponseError("odd"), "warning"),
        (SafeStop("other"), "critical"),
    ],
)
def test_run_any_redis_error_lives_on_and_says_so_once(error: Exception, level: str) -> None:
    loop = Scripted(None, error, error, error, None, None)
    with capture_logs() as logs:
        loop.run(loop.stop)
    assert loop.passes == []
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("loop_failed", level),
        ("loop_recovered", "info"),
    ]
    assert logs[0]["error"] == type(error).__name__
    assert logs[1]["failed_passes"] == 3


def test_run_an_alarm_is_told_though_the_error_before_has_not_passed() -> None:
    full = OutOfMemoryError("full")
    loop = Scripted(ConnectionError("gone"), TimeoutError("slow"), full, full, None)
    with capture_logs() as logs:
        loop.run(loop.stop)
    assert [entry.get("code") for entry in logs] == ["CONNECTION", "OOM", None]
    assert logs[-1] == {
        "event": "loop_recovered",
        "loop": "scripted",
        "failed_passes": 4,
        "log_level": "info",
    }


def test_run_a_bug_is_told_with_its_place_and_ends_nothing() -> None:
    loop = Scripted(None, ZeroDivisionError(), None)
    with capture_logs() as logs:
        loop.run(loop.stop)
    assert loop.passes == []
    assert [entry["event"] for entry in logs] == ["loop_broke", "loop_failed", "loop_recovered"]
    assert logs[0]["exc_info"] is True


def test_silent_s_grows_while_passes_fail_and_ends_with_the_next_success() -> None:
    loop = Scripted(ConnectionError("gone"))
    loop._last_success -= 100
    loop.run(loop.stop)
    assert loop.silent_s >= 100
    loop = Scripted(ConnectionError("gone"), None)
    loop._last_success -= 100
    loop.run(loop.stop)
    assert loop.silent_s < 10


def test_back_off_doubles_and_is_bounded() -> None:
    waits: list[float] = []

    class Recording(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return False

    loop = Scripted(*[ConnectionError("gone")] * 30)
    stop = Recording()
    loop.stop = stop
    loop.run(stop)
    longest = [causes.FIRST_BACKOFF_S * 2 ** min(n, 10) for n in range(30)]
    assert all(
        most / 2 <= wait <= min(most, causes.LAST_BACKOFF_S)
        for wait, most in zip(waits, longest, strict=True)
    )
