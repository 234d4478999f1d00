"""What a task may carry."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.payload import MAX_BODY_BYTES, check_payload, encode_body


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**53 - 1), 2**53 - 1, 1.5, "", "x" * 16_384, "ü\U0001f600", [], {}, (1, 2), nested(31), {"": {}},
     list(range(1_000))],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_json_within_bounds_is_returned_as_it_is(value: object) -> None:
    assert check_payload(value) is value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (2**53, "payload: an integer beyond 2^53 - 1; send it as a string"),
        ({"a": {"b": -(2**53)}}, "payload.a.b: an integer beyond"),
        (math.nan, "payload: nan is not a finite number"),
        ([1, math.inf], "payload.1: inf is not a finite number"),
        ("x" * 16_385, "payload: a string of 16385 characters; at most 16384"),
        ({"k" * 16_385: 1}, "payload key: a string of 16385"),
        ("\ud800", "payload: not valid Unicode (a lone surrogate)"),
        ({"\udfff": 1}, "payload key: not valid Unicode"),
        ({1: 2}, "payload: key 1 is not a string"),
        ({"a": {None: 2}}, "payload.a: key None is not a string"),
        ({"when": datetime(2025, 1, 1, tzinfo=UTC)}, "payload.when: datetime is not JSON"),
        (b"x", "payload: bytes is not JSON"),
        ({"s": {1, 2}}, "payload.s: set is not JSON"),
        (nested(33), "payload is nested deeper than 32"),
        (list(range(1_001)), "payload holds more than 1000 keys and items"),
        ({str(n): [n] for n in range(501)}, "payload holds more than 1000 keys and items"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_refusal_names_place_and_rule(value: object, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(says)}"):
        check_payload(value)


def test_value_that_holds_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)

    with pytest.raises(ValueError, match="nested deeper"):
        check_payload(loop)


def test_body_without_content_is_empty() -> None:
    assert encode_body("", None) == ""


@pytest.mark.parametrize(
    ("description", "payload", "body"),
    [
        ("do", None, '{"description":"do"}'),
        ("", 0, '{"payload":0}'),
        ("", "", '{"payload":""}'),
        ("ü", {"a": [1, 2]}, '{"description":"ü","payload":{"a":[1,2]}}'),
    ],
)
def test_body_is_compact_json(description: str, payload: object, body: str) -> None:
    assert encode_body(description, payload) == body


@pytest.mark.parametrize("letter", ["x", "ü"])
def test_body_is_bounded_in_bytes(letter: str) -> None:
    frame = len('{"payload":""}')
    fits = letter * ((MAX_BODY_BYTES - frame) // len(letter.encode()))

    assert len(encode_body("", fits).encode()) <= MAX_BODY_BYTES
    with pytest.raises(
        ValueError, match=r"payload: description and payload take \d+ bytes as JSON; at most 65536"
    ):
        encode_body("", fits + letter)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(st.text(max_size=50), JSON)
def test_body_reads_back_as_it_was(description: str, payload: object) -> None:
    check_payload(payload)

    stored = encode_body(description, payload)

    read = json.loads(stored) if stored else {}
    assert (read.get("description", ""), read.get("payload")) == (description, payload)
