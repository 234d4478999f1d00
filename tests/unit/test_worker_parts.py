from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import threading
from typing import Any

import pytest
import structlog

from balancer.protocol import BadEvent, Status, is_name
from worker import Agent
from worker.command import read_output
from worker.executor import describe_error, encode_result, is_async
from worker.guardian import guard, marked
from worker.lease import Lease, Phase, read_lease
from worker.leases import REMEMBERED, REPORT_AGAIN_S, Leases
from worker.program_agent import default_id
from worker.threads import Coroutines
from worker.watch import margin_s

BOOT = "b" * 32


def lease(name: int, **changed: str) -> Lease:
    fields = {
        "v": "1", "task": f"t{name}", "attempt": "1", "lease": f"{name:032x}", "boot": BOOT,
        "role": "developer", "category": "feature", "priority": "medium", "cost": "1",
        "timeout_ms": "1000", "estimate_ms": "1", "body": "",
    }  # fmt: skip
    return read_lease("a", f"{name}-0", fields | changed, structlog.get_logger())


def leases(units: int = 2, *held: Lease) -> Leases:
    made = Leases(units)
    made.live(100.0)
    for one in held:
        made.add(one)
    return made


@pytest.mark.parametrize(
    ("host", "role", "id"),
    [
        ("node-7.example.org", "build", "node-7.example.org-build"),
        ("Jo's laptop", "build", "Jo-s-laptop-build"),
        ("_x", "build", "x-build"),
        ("h" * 64, "build", "h" * 58 + "-build"),
        ("host", "r" * 64, "r" * 64),
        ("host", "r" * 62, "h-" + "r" * 62),
    ],
)
def test_the_default_id_is_a_name_of_host_and_role(
    host: str, role: str, id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert default_id(role) == id
    assert is_name(id)


@pytest.mark.parametrize(
    ("output", "value"),
    [
        (b"", None),
        (b"\n", None),
        (b"3\n", 3),
        (b'{"a":1}{"b":2}', '{"a":1}{"b":2}'),
        (b"[NaN]", "[NaN]"),
        (b"1e999", "1e999"),
        (b'"\\ud800"', '"\\ud800"'),
        (b"9" * 5_000, "9" * 5_000),
        (b"[" * 50_000, "[" * 50_000),
        (b"\xef\xbb\xbf1", "\ufeff1"),
        (b"a\xff\r\n", "a\ufffd"),
        (b"  text ", "  text "),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_output_is_json_that_can_be_sent_on_or_else_text(output: bytes, value: Any) -> None:
    assert read_output(output) == value


class _Spiteful(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (None, ""),
        ({"ok": True, "ä": [1.5, None]}, '{"ok":true,"ä":[1.5,null]}'),
        (0, "0"),
        ("", '""'),
        ("x" * 4_094, '"' + "x" * 4_094 + '"'),
        ("x" * 4_095, '{"dropped": "too_large", "bytes": 4097}'),
        ("ä" * 2_048, '{"dropped": "too_large", "bytes": 4098}'),
        (math.nan, '{"dropped": "not_json", "type": "float"}'),
        ("\ud800", '{"dropped": "not_json", "type": "str"}'),
        ({1, 2}, '{"dropped": "not_json", "type": "set"}'),
    ],
)
def test_a_result_becomes_json_within_bounds_or_a_marker(result: Any, text: str) -> None:
    encoded, dropped = encode_result(result)
    assert encoded == text
    assert dropped == (json.loads(text) if "dropped" in text else None)


def test_a_result_that_contains_itself_becomes_a_marker() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert json.loads(encode_result(loop)[0])["dropped"] == "not_json"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such file"), "ValueError: no such file"),
        (_Spiteful(), "_Spiteful"),
        (ValueError("\ud800"), "ValueError: ?"),
        (ValueError("ä" * 5_000), "ValueError: " + "ä" * 1_018),
    ],
)
def test_an_error_is_told_by_type_and_text_within_bounds(error: Exception, text: str) -> None:
    assert describe_error(error) == text


def test_objects_with_an_async_call_are_coroutine_handlers() -> None:
    class Handler:
        async def __call__(self, task: Any) -> None: ...

    assert is_async(Handler())
    assert not is_async(print)


@pytest.mark.parametrize(
    "changed",
    [{"cost": "two"}, {"body": "{"}, {"body": "[1]"}, {"v": "2"}],
)
def test_an_entry_whose_task_cannot_be_read_is_a_failed_try(changed: dict[str, str]) -> None:
    read = lease(1, **changed)
    assert (read.phase, read.completion.status) == (Phase.FINISHED, Status.FAILED)
    assert "the inbox entry cannot be read" in read.completion.error


def test_an_entry_that_names_no_lease_is_refused() -> None:
    with pytest.raises(BadEvent, match="lease"):
        lease(1, lease="abc")


def test_a_coroutine_interrupted_before_it_began_ends_all_the_same() -> None:
    coroutines, one, ended = Coroutines(), lease(1), threading.Event()
    one.interrupt()
    coroutines.run(one, _wait_for_ever(), ended.set)
    assert ended.wait(10)
    coroutines.close()


async def _wait_for_ever() -> None:
    await asyncio.Event().wait()


def test_begin_keeps_the_order_and_the_units() -> None:
    first, wide, third = lease(1), lease(2, cost="2"), lease(3)
    held = leases(2, first, wide, third)
    assert held.begin(0.0) == [first]  # the third would fit, but it came later
    held.finish(first, Status.COMPLETED, 1.0)
    assert held.begin(1.0) == []  # finished and not left yet
    held.leave(first)
    assert held.begin(1.0) == [wide]


def test_begin_runs_alone_what_costs_more_than_all_units() -> None:
    wide, other = lease(1, cost="5"), lease(2)
    held = leases(2, wide, other)
    assert held.begin(0.0) == [wide]
    held.finish(wide, Status.COMPLETED, 0.0)
    held.leave(wide)
    assert held.begin(0.0) == [other]


def test_begin_waits_until_a_heartbeat_was_accepted() -> None:
    held = leases(2, lease(1))
    assert held.begin(100.0) == []
    held.live(200.0)
    assert len(held.begin(100.0)) == 1


def test_a_nonce_that_comes_back_is_reported_again_and_never_runs_again() -> None:
    first = lease(1)
    held = leases(2, first)
    held.begin(0.0)
    held.finish(first, Status.COMPLETED, 1.0, result="7")
    held.reported([first], 1.0)
    held.leave(first)
    assert not held.add(lease(1))
    held.forget_gone(held.snapshot(), [])
    again = lease(1)
    again.entry = "9-0"
    assert not held.add(again)
    assert held.begin(2.0) == []
    assert [(due.entry, due.completion.result) for due in held.unreported(9)] == [("9-0", "7")]


def test_what_stays_in_the_inbox_is_reported_again_ever_more_seldom() -> None:
    first = lease(1)
    held = leases(2, first)
    held.begin(0.0)
    held.finish(first, Status.COMPLETED, 1.0, result="7")
    moments = []
    for now_s in range(1, 1_000):
        moments += [now_s] * len(held.report_again(now_s))
        held.reported(held.unreported(9), now_s)
    assert moments == [
        round(1 + REPORT_AGAIN_S * (2**times - 1)) for times in range(1, len(moments) + 1)
    ]
    assert len(moments) == 5
    held.forget_gone(held.snapshot(), [])
    assert held.report_again(1e9) == []


def test_a_revoked_nonce_that_comes_back_has_failed() -> None:
    first = lease(1)
    held = leases(2, first)
    held.begin(0.0)
    assert held.forget_gone(held.snapshot(), []) == [first]
    held.add(lease(1))
    assert "taken back" in held.unreported(9)[0].completion.error


def test_what_left_the_inbox_is_remembered_within_a_bound() -> None:
    held = leases(2)
    for number in range(REMEMBERED + 5):
        one = lease(number)
        one.phase = Phase.REPORTED
        held.add(one)
        held.forget_gone([one], [])
    assert not held.add(lease(REMEMBERED))
    assert held.add(lease(1))


def test_a_fence_gives_up_what_runs_and_lets_what_waits_be_read_again() -> None:
    running, waiting = lease(1), lease(2)
    held = leases(1, running, waiting)
    held.begin(0.0)
    assert held.fence(99.9) == []
    assert held.fence(100.0) == [running]
    assert running.context.cancelled.is_set()
    assert held.stubborn() == 1
    assert held.snapshot() == [running]
    held.live(300.0)  # a heartbeat of the old boot that was on its way
    assert held.is_fenced
    assert not held.finish(running, Status.COMPLETED, 101.0)
    held.leave(running)
    held.live(300.0, new_boot=True)
    assert held.add(waiting)
    assert held.begin(101.0) == [waiting]


def test_nothing_begins_after_the_end() -> None:
    held = leases(1, lease(1))
    held.give_up()
    held.live(300.0, new_boot=True)
    held.add(lease(2))
    assert held.begin(0.0) == []


@pytest.mark.parametrize(("ttl_s", "margin"), [(15.0, 2.0), (8.0, 2.0), (1.0, 0.25)])
def test_the_margin_is_two_seconds_or_a_quarter_of_a_short_ttl(ttl_s: float, margin: float) -> None:
    assert margin_s(ttl_s) == margin


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"role": "two words"}, "role"),
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"max_concurrent": 1_001}, "max_concurrent"),
        ({"max_concurrent": True}, "max_concurrent"),
        ({"interval_s": 5.0, "ttl_s": 9.0}, "ttl_ms"),
        ({"interval_s": 0.01}, "interval_ms"),
        ({"specializations": ["no name"]}, "specializations"),
        ({"pool": "a:b"}, "pool"),
        ({"redis_url": "http://127.0.0.1"}, "scheme"),
    ],
)
def test_a_bad_setting_is_named_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Agent("a", **({"role": "developer"} | settings))


def test_pool_and_address_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALANCER_POOL", "not a name")
    with pytest.raises(ValueError, match="pool"):
        Agent("a", role="developer")
    monkeypatch.setenv("BALANCER_POOL", "other")
    monkeypatch.setenv("BALANCER_REDIS_URL", "nonsense")
    with pytest.raises(ValueError, match="scheme"):
        Agent("a", role="developer")


def test_a_category_has_one_handler_and_a_name() -> None:
    agent = Agent("a", role="developer")
    agent.task("feature", "bug")(print)
    with pytest.raises(ValueError, match="bug"):
        agent.task("bug")
    with pytest.raises(ValueError, match="name"):
        agent.task("two words")


def test_the_guardian_kills_the_groups_that_are_left_and_all_that_carries_the_mark() -> None:
    def started(**more: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "60"], **more)

    left, ended, other = (started(start_new_session=True) for _ in range(3))
    marked = started(env={"PATH": os.environ["PATH"], "MARK": "m1"})
    alike = started(env={"PATH": os.environ["PATH"], "MARK": "m11", "XMARK": "m1"})
    try:
        guard([f"+{left.pid}\n", f"+{ended.pid}\n", f"-{ended.pid}\n", "+999999999\n"], "MARK=m1")
        assert left.wait(10) == marked.wait(10) == -signal.SIGKILL
        assert [process.poll() for process in (ended, other, alike)] == [None] * 3
    finally:
        for process in (left, ended, other, marked, alike):
            process.kill()
            process.wait()


def test_the_guardian_passes_over_no_program_that_is_being_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(50):
        process = subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], "MARK": "m1"})
        try:
            with monkeypatch.context() as patch:
                # Looked at right away, not after all others of the machine: mostly it is not loaded yet.
                patch.setattr(os, "listdir", lambda of, pid=process.pid: [str(pid)])
                found = list(marked("MARK=m1"))
            assert found == [process.pid]
        finally:
            process.kill()
            process.wait()
