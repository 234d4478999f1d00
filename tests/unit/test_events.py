"""The wire formats: what is written reads back; what is malformed says how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.protocol import (
    BadEvent,
    Completion,
    Heartbeat,
    Mode,
    Status,
    read_completion,
    read_heartbeat,
    read_inbox_task,
)
from tests.support.names import names

NONCE = "0123456789abcdef0123456789abcdef"
BEAT = {"agent": "a1", "boot": NONCE, "seq": "1", "role": "dev"}
DONE = {"agent": "a1", "task": "t1", "attempt": "1", "lease": NONCE, "status": "completed"}
INBOX = {
    "v": "1", "task": "t1", "attempt": "2", "lease": NONCE, "boot": NONCE, "role": "dev", "category": "bug",
    "priority": "high", "cost": "3", "timeout_ms": "1000", "estimate_ms": "60000", "body": "",
}  # fmt: skip

nonces = st.text("0123456789abcdef", min_size=32, max_size=32)


@given(
    st.builds(
        Heartbeat,
        agent=names,
        boot=nonces,
        seq=st.integers(1, 10**15 - 1),
        role=names,
        type=st.none() | names,
        max_concurrent=st.none() | st.integers(0, 1_000),
        specializations=st.none() | st.lists(names, max_size=5).map(tuple),
        interval_ms=st.integers(100, 10_000),
        ttl_ms=st.integers(20_000, 7 * 86_400_000),
        mode=st.sampled_from(Mode),
        start=st.booleans(),
        held=st.lists(nonces, max_size=5).map(tuple),
    )
)
def test_heartbeat_reads_back_as_it_was(beat: Heartbeat) -> None:
    assert read_heartbeat(beat.fields()) == beat


@given(
    st.builds(
        Completion,
        agent=names,
        task=names,
        attempt=st.integers(1, 1_000_000),
        lease=nonces,
        status=st.sampled_from(Status),
        result=st.text(max_size=50),
        error=st.text(max_size=50),
        duration_ms=st.integers(0, 10**15 - 1),
    )
)
def test_completion_reads_back_as_it_was(done: Completion) -> None:
    assert read_completion(done.fields()) == done


def test_least_heartbeat_has_defaults() -> None:
    beat = read_heartbeat(BEAT)

    assert (beat.type, beat.max_concurrent, beat.specializations) == (None, None, None)
    assert (beat.interval_ms, beat.ttl_ms, beat.mode, beat.start, beat.held) == (
        5_000,
        15_000,
        "running",
        False,
        (),
    )


def test_unknown_fields_are_ignored() -> None:
    assert read_heartbeat(BEAT | {"cpu": "99", "": "x"}) == read_heartbeat(BEAT)
    assert read_completion(DONE | {"tokens": "1e9"}) == read_completion(DONE)
    assert read_inbox_task(INBOX | {"deadline": "soon"}) == read_inbox_task(INBOX)


def test_version_may_be_left_out() -> None:
    assert read_heartbeat(BEAT | {"v": "1"}) == read_heartbeat(BEAT)


@pytest.mark.parametrize("read", [read_heartbeat, read_completion, read_inbox_task])
def test_empty_entry_and_unknown_version_are_refused(read: Callable[[dict[str, str]], Any]) -> None:
    with pytest.raises(BadEvent, match="entry: it has no fields"):
        read({})
    with pytest.raises(BadEvent, match="v: '2' is not a version"):
        read({"v": "2"})


NOT_NUMBERS = [
    "",
    " 1",
    "1 ",
    "1\n",
    "+1",
    "-1",
    "1.0",
    "1e3",
    "0x10",
    "nan",
    "inf",
    "1_000",
    "\N{ARABIC-INDIC DIGIT ONE}",
    "²",
    "1" * 16,
    "None",
]


@pytest.mark.parametrize("text", NOT_NUMBERS)
@pytest.mark.parametrize("field", ["seq", "max_concurrent", "interval_ms", "ttl_ms"])
def test_heartbeat_number_in_any_other_form_is_refused(field: str, text: str) -> None:
    with pytest.raises(BadEvent, match=f"^{field}: .* is not a whole number in plain digits"):
        read_heartbeat(BEAT | {field: text})


@pytest.mark.parametrize("text", NOT_NUMBERS)
@pytest.mark.parametrize("field", ["attempt", "duration_ms"])
def test_completion_number_in_any_other_form_is_refused(field: str, text: str) -> None:
    with pytest.raises(BadEvent, match=f"^{field}: .* is not a whole number in plain digits"):
        read_completion(DONE | {field: text})


@pytest.mark.parametrize("field", ["agent", "boot", "seq", "role"])
def test_heartbeat_without_a_field_is_refused(field: str) -> None:
    with pytest.raises(BadEvent, match=f"^{field}: .*required"):
        read_heartbeat({name: value for name, value in BEAT.items() if name != field})


@pytest.mark.parametrize("field", DONE)
def test_completion_without_a_field_is_refused(field: str) -> None:
    with pytest.raises(BadEvent, match=f"^{field}: .*required"):
        read_completion({name: value for name, value in DONE.items() if name != field})


@pytest.mark.parametrize(
    ("field", "text", "rule"),
    [
        ("agent", "", "pattern"),
        ("agent", "a b", "pattern"),
        ("agent", "a\n", "pattern"),
        ("agent", "x" * 65, "pattern"),
        ("agent", "\ufffd", "pattern"),
        ("boot", NONCE[:-1], "pattern"),
        ("boot", NONCE.upper(), "pattern"),
        ("boot", NONCE + "\n", "pattern"),
        ("role", "{dev}", "pattern"),
        ("seq", "0", "greater than or equal to 1"),
        ("type", "a/b", "pattern"),
        ("max_concurrent", "1001", "less than or equal to 1000"),
        ("interval_ms", "99", "greater than or equal to 100"),
        ("interval_ms", "86400001", "less than or equal to 86400000"),
        ("ttl_ms", "299", "greater than or equal to 300"),
        ("ttl_ms", "604800001", "less than or equal to 604800000"),
        ("ttl_ms", "9999", "less than two intervals of 5000"),
        ("mode", "asleep", "'running', 'stopping' or 'stopped'"),
        ("specializations", "a,b c", "pattern"),
        ("specializations", ",".join(f"s{n}" for n in range(65)), "at most 64"),
        ("held", "x", "pattern"),
        ("held", ",".join([NONCE] * 1_001), "at most 1000"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_heartbeat_out_of_bounds_is_refused_by_field_and_rule(
    field: str, text: str, rule: str
) -> None:
    with pytest.raises(BadEvent) as caught:
        read_heartbeat(BEAT | {field: text})

    assert str(caught.value).startswith(field)
    assert rule in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("field", "text", "rule"),
    [
        ("agent", "ä", "pattern"),
        ("task", "", "pattern"),
        ("task", "t:1", "pattern"),
        ("attempt", "0", "greater than or equal to 1"),
        ("attempt", "1000001", "less than or equal to 1000000"),
        ("lease", "short", "pattern"),
        ("status", "done", "'released' or 'cancelled'"),
        ("status", "", "'released' or 'cancelled'"),
    ],
)
def test_completion_out_of_bounds_is_refused_by_field_and_rule(
    field: str, text: str, rule: str
) -> None:
    with pytest.raises(BadEvent) as caught:
        read_completion(DONE | {field: text})

    assert str(caught.value).startswith(field)
    assert rule in str(caught.value)


@pytest.mark.parametrize(
    ("text", "start"), [("1", True), ("0", False), ("true", False), ("", False)]
)
def test_only_one_means_start(text: str, start: bool) -> None:
    assert read_heartbeat(BEAT | {"start": text}).start is start


def test_empty_lists_are_empty_not_absent() -> None:
    beat = read_heartbeat(BEAT | {"specializations": "", "held": ""})

    assert (beat.specializations, beat.held) == ((), ())


@pytest.mark.parametrize(
    ("body", "description", "payload"),
    [
        ("", "", None),
        ('{"description":"do"}', "do", None),
        ('{"payload":[1,"ü"]}', "", [1, "ü"]),
        ('{"description":"do","payload":{"task":"other"}}', "do", {"task": "other"}),
    ],
)
def test_inbox_entry_carries_the_body(body: str, description: str, payload: object) -> None:
    lease = read_inbox_task(INBOX | {"body": body})

    assert (lease.description, lease.payload) == (description, payload)
    assert (lease.task, lease.attempt, lease.cost, lease.estimate_ms) == ("t1", 2, 3, 60_000)


@pytest.mark.parametrize("body", ["{", "nope", "5", "[]", '"text"', "null"])
def test_inbox_entry_with_a_broken_body_is_refused(body: str) -> None:
    with pytest.raises(BadEvent, match=r"^body: "):
        read_inbox_task(INBOX | {"body": body})


def test_body_cannot_pretend_to_be_the_lease() -> None:
    assert read_inbox_task(INBOX | {"body": '{"task":"other","payload":1}'}).task == "t1"
