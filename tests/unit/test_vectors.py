"""Golden vectors: entries with what reading them gives, or the start of the error. Our parser and the JSON Schemas that
`balancer schema` prints are held against the same ones; other languages may use them, too (docs/languages.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.protocol import BadEvent, read_completion, read_heartbeat, read_inbox
from balancer.protocol.events import IN_BODY
from balancer.protocol.schema import NAMES, number_pattern, schema
from balancer.protocol.wire import Wire

READERS: dict[str, Callable[[Mapping[str, str]], Wire | None]] = {
    "heartbeat": read_heartbeat,
    "completion": read_completion,
    "inbox": read_inbox,
}
FILES = {name: Path(__file__).parents[1] / "vectors" / f"{name}.json" for name in READERS}
SCHEMAS = {name: schema(name) for name in READERS}
VALIDATORS = {name: jsonschema_rs.validator_for(SCHEMAS[name]) for name in READERS}


@cache
def of(name: str) -> list[dict[str, Any]]:
    """The vectors of a format."""
    found: list[dict[str, Any]] = json.loads(FILES[name].read_text(encoding="utf-8"))
    return found


def read(name: str, fields: Mapping[str, str]) -> Any:
    """What the parser reads, as JSON; null for an entry that is to be ignored."""
    entry = READERS[name](fields)
    return None if entry is None else entry.model_dump(mode="json")


def branch(name: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """The part of the schema that is about such an entry: an inbox has several kinds."""
    of_name = SCHEMAS[name]
    for one in of_name.get("anyOf", ()):
        kind = one["properties"]["kind"]
        if kind.get("const") == fields.get("kind", kind.get("default")):
            return dict(one)
    return of_name["anyOf"][-1] if "anyOf" in of_name else of_name


@pytest.mark.parametrize(
    ("name", "vector"),
    [(name, vector) for name in READERS for vector in of(name)],
    ids=lambda value: value if isinstance(value, str) else value["name"],
)
def test_the_parser_reads_what_the_vector_says(name: str, vector: dict[str, Any]) -> None:
    if "reads" in vector:
        assert read(name, vector["fields"]) == vector["reads"]
        return
    with pytest.raises(BadEvent) as caught:
        READERS[name](vector["fields"])
    assert str(caught.value).startswith(vector["error"])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", READERS)
def test_the_schema_agrees_but_for_what_it_cannot_say(name: str) -> None:
    for vector in of(name):
        is_valid = "reads" in vector or vector.get("beyond_schema", False)
        assert VALIDATORS[name].is_valid(vector["fields"]) is is_valid, vector["name"]


@pytest.mark.parametrize("name", READERS)
def test_a_version_more_or_less_changes_nothing(name: str) -> None:
    """A later version adds fields, an earlier one lacks those that may be absent."""
    for vector in of(name):
        if "reads" not in vector:
            continue
        fields, reads = vector["fields"], vector["reads"]
        later = fields | {"added_later": "nan", "": ""}
        assert read(name, later) == reads, vector["name"]
        assert VALIDATORS[name].is_valid(later), vector["name"]
        required = branch(name, fields)["required"]
        earlier = {field: fields[field] for field in required}
        assert VALIDATORS[name].is_valid(earlier), vector["name"]
        known = read(name, earlier)
        assert (known is None) is (reads is None), vector["name"]
        if known is not None:
            assert {field: known[field] for field in required} == {
                field: reads[field] for field in required
            }, vector["name"]


@pytest.mark.parametrize("name", READERS)
def test_every_field_has_a_good_and_a_bad_vector(name: str) -> None:
    parts = SCHEMAS[name].get("anyOf", [SCHEMAS[name]])
    for part in parts:
        good: set[str] = set()
        bad = {"kind", "start", "result", "error"}  # another kind is another part; any text will do
        for vector in of(name):
            if branch(name, vector["fields"])["properties"] != part["properties"]:
                continue
            if "reads" in vector:
                good |= vector["fields"].keys()
            else:
                field = re.split("[:.]", vector["error"])[0]
                bad.add("body" if field in IN_BODY else field)
        assert part["properties"].keys() - good == set()
        assert part["properties"].keys() - bad - {"v"} == set()


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_is_one(name: str) -> None:
    said = schema(name)
    assert jsonschema_rs.meta.is_valid(said)
    assert said["$id"].endswith(name)
    assert all(part["type"] == "object" for part in said.get("anyOf", [said]))


@given(st.integers(0, 10**15 - 1), st.integers(0, 10**15 - 1), st.data())
def test_a_pattern_holds_exactly_the_numbers_between(
    one: int, other: int, data: st.DataObject
) -> None:
    low, high = sorted((one, other))
    validator = jsonschema_rs.validator_for({"pattern": f"^({number_pattern(low, high)})$"})
    edges = [low - 1, low, low + 1, high - 1, high, high + 1, 0, 10 ** len(str(low))]
    for number in [*edges, data.draw(st.integers(0, 10**15))]:
        if number >= 0:
            assert validator.is_valid(str(number)) is (low <= number <= high), number
