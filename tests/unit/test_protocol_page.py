"""docs/protocol.md is a contract: its tables are held against the models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from balancer.core.model import Mode
from balancer.protocol import Status
from balancer.protocol.events import InboxKind
from balancer.protocol.schema import schema

PAGE = (Path(__file__).parents[2] / "docs/protocol.md").read_text(encoding="utf-8")


def tables(heading: str) -> list[list[list[str]]]:
    """The tables below a heading, up to the next one."""
    text = re.split(r"^#+ ", PAGE.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.M)[0]
    found, rows = [], list[list[str]]()
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line[1:-1].split("|")])
        elif rows:
            found.append(rows[2:])
            rows = []
    return found


def stated(heading: str) -> dict[str, list[str]]:
    """Fields of the first table to their other cells; one row may name several."""
    return {
        name: cells
        for first, *cells in tables(heading)[0]
        for name in re.findall(r"`(\w+)`", first)
    }


INBOX = schema("inbox")["anyOf"]
FORMATS = {
    "Heartbeat": schema("heartbeat"),
    "Completion": schema("completion"),
    "A task": INBOX[0],
    "A cancel": INBOX[1],
    "A retirement": INBOX[2],
}


@pytest.mark.parametrize("heading", FORMATS)
def test_the_fields_are_those_of_the_model(heading: str) -> None:
    assert list(stated(heading)) == list(FORMATS[heading]["properties"])


def kind_of(node: dict[str, Any]) -> str:
    """What the page calls the kind of such a value."""
    pattern = node.get("pattern", "")
    if "maxLength" in node:
        return "number"
    if pattern.startswith("^(0\\."):
        return "decimal"
    if pattern.startswith("^,*") and ":" in pattern:
        return "list of names with " + ("decimals" if "0\\." in pattern else "numbers")
    if pattern.startswith("^,*"):
        return "list of nonces" if "a-f]{32}" in pattern else "list of names"
    return "nonce" if "[0-9a-f]{32}" in pattern else "name" if "A-Za-z" in pattern else ""


@pytest.mark.parametrize("heading", ["Heartbeat", "Completion", "A task", "A retirement"])
def test_the_kinds_are_those_of_the_model(heading: str) -> None:
    for name, (kind, *_) in stated(heading).items():
        node = FORMATS[heading]["properties"][name]
        words = node.get("enum") or ([node["const"]] if "const" in node else [])
        if words:
            assert re.findall(r"`(\w+)`", kind) == words
        elif kind_of(node) and name != "priority" and not kind.startswith("as in"):
            assert kind == kind_of(node)


def bounds(node: dict[str, Any]) -> str | None:
    """The bounds of a number, in the words of the page."""
    found = re.search(
        r"a (?:whole|decimal) number from ([\d,.]+) to ([\d,]+)$", node.get("description", "")
    )
    return f"{found[1]} to {found[2]}" if found else None


@pytest.mark.parametrize("name", ["max_concurrent", "speed", "interval_ms", "ttl_ms"])
def test_the_bounds_of_a_heartbeat_are_those_of_the_model(name: str) -> None:
    said = bounds(FORMATS["Heartbeat"]["properties"][name])
    assert said
    assert said in stated("Heartbeat")[name][1]


@pytest.mark.parametrize("heading", ["Heartbeat", "Completion"])
def test_what_an_absent_field_means_is_what_the_model_says(heading: str) -> None:
    required = FORMATS[heading]["required"]
    for name, cells in stated(heading).items():
        absent = cells[-1].replace(",", "").replace("`", "")
        default = FORMATS[heading]["properties"][name].get("default")
        assert (absent == "rejected") is (name in required), name
        if default:
            assert absent == default, name


def test_every_status_kind_and_mode_is_explained() -> None:
    def named(rows: list[list[str]]) -> list[str]:
        return [word for row in rows for word in re.findall(r"^`(\w+)`", row[0])]

    assert named(tables("Completion")[1]) == [status.value for status in Status]
    assert named(tables("Inbox")[0]) == [kind.value for kind in InboxKind]
    assert named(tables("Heartbeat")[1]) == [mode.value for mode in Mode]
    [cell] = [cells for name, cells in stated("Completion").items() if name == "status"]
    assert re.findall(r"`(\w+)`", cell[0]) == [status.value for status in Status]
