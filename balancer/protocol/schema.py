"""The formats as JSON Schema, made from the models that read them, so that no rule is written twice.

Entries of streams are objects of strings there, as Redis hands them out: what a number may be is said by a pattern.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from balancer.core.model import Task
from balancer.core.settings import PoolSettings
from balancer.protocol.command import CommandInput
from balancer.protocol.events import (
    IN_BODY,
    Completion,
    Heartbeat,
    InboxCancel,
    InboxKind,
    InboxRetire,
    InboxTask,
)
from balancer.protocol.wire import MAX_DIGITS, MAX_FRACTION, VERSION, Kind, Wire, kinds

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TEXT = {"type": "string"}


def entry_schema(model: type[Wire], in_body: tuple[str, ...] = ()) -> dict[str, Any]:
    """The schema of a stream entry.

    Args:
        model: what reads it.
        in_body: its fields that stand in the JSON of the field `body`.
    """
    source = model.model_json_schema()
    definitions = source.get("$defs", {})
    properties: dict[str, Any] = {"v": {**_TEXT, "enum": [VERSION], "default": VERSION}}
    body: dict[str, Any] = {}
    for name, node in source["properties"].items():
        if name in in_body:
            body[name] = _without(node, "in", "title")
        else:
            properties[name] = _as_text(_resolved(node, definitions), kinds(model)[name])
    if body:
        properties["body"] = {
            **_TEXT,
            "description": "empty, or a JSON object",
            "contentMediaType": "application/json",
            "contentSchema": {"type": "object", "properties": body},
        }
    return {
        "description": _paragraph(source["description"]),
        "type": "object",
        "properties": properties,
        "required": [name for name in source["required"] if name not in in_body],
        "additionalProperties": {**_TEXT, "description": "ignored"},
    }


def inbox_schema() -> dict[str, Any]:
    """The schema of an inbox entry, of whatever kind."""
    unknown = {**_TEXT, "not": {"enum": [kind.value for kind in InboxKind]}}
    return {
        "description": "An entry of an agent's inbox.",
        "anyOf": [
            entry_schema(InboxTask, IN_BODY),
            entry_schema(InboxCancel),
            entry_schema(InboxRetire),
            {
                "description": "Of a kind that a later version adds: to be ignored.",
                "type": "object",
                "properties": {"kind": unknown},
                "required": ["kind"],
                "additionalProperties": _TEXT,
            },
        ],
    }


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The node of a value that is there: absent fields are left out of an entry, so null is none of them."""
    for choice in node.get("anyOf", ()):
        if choice.get("type") != "null":
            node = {**_without(node, "anyOf"), **choice}
    if "$ref" in node:
        node = {**definitions[node["$ref"].rpartition("/")[2]], **_without(node, "$ref")}
    return node


def _as_text(node: dict[str, Any], kind: Kind) -> dict[str, Any]:
    said = {name: node[name] for name in ("description",) if name in node}
    default = node.get("default")
    if isinstance(default, str | int) and kind is not Kind.FLAG:
        said["default"] = str(default)
    if kind is Kind.FLAG:
        return {**_TEXT, **said, "examples": ["1"]}
    if kind is Kind.LIST:
        return {
            **_TEXT,
            **said,
            "pattern": _list_pattern(node["items"]["pattern"], node["maxItems"]),
        }
    if kind in (Kind.NUMBERS, Kind.DECIMALS):
        [(name, value)] = node["patternProperties"].items()
        made = number_pattern if kind is Kind.NUMBERS else decimal_pattern
        number = made(value["minimum"], value["maximum"])
        zeros = "0*" if kind is Kind.NUMBERS else ""
        one = f"{_inner(name)}:{zeros}({number})"
        return {**_TEXT, **said, "pattern": _list_pattern(one, node["maxProperties"])}
    if kind is Kind.DECIMAL:
        low, high = node["minimum"], node["maximum"]
        what = f"a decimal number from {low:g} to {high:g}"
        said["description"] = f"{said['description']}; {what}" if "description" in said else what
        return {**_TEXT, **said, "pattern": f"^({decimal_pattern(low, high)})$"}
    if kind is Kind.NUMBER:
        low, high = node["minimum"], node["maximum"]
        what = f"a whole number from {low:,} to {high:,}"
        said["description"] = f"{said['description']}; {what}" if "description" in said else what
        # Zeros may stand before it.
        return {
            **_TEXT,
            **said,
            "maxLength": MAX_DIGITS,
            "pattern": f"^0*({number_pattern(low, high)})$",
        }
    kept: dict[str, Any] = {
        name: value for name, value in node.items() if name in {"pattern", "enum", "const"}
    }
    if "enum" in node and "description" in said:
        said["description"] = _paragraph(said["description"])
    return {**_TEXT, **said, **kept}


def _inner(pattern: str) -> str:
    return pattern.removeprefix("^").removesuffix("$")


def decimal_pattern(low: float, high: float) -> str:
    """A pattern of exactly the decimal numbers from `low` to `high`, both powers of ten, the one below 1
    and the other above.
    """
    places, digits = round(-math.log10(low)), round(math.log10(high))
    fraction = rf"(\.[0-9]{{1,{MAX_FRACTION}}})?"
    return "|".join((
        *(rf"0\.{'0' * (at - 1)}[1-9][0-9]{{0,{MAX_FRACTION - at}}}" for at in range(1, places + 1)),
        f"[1-9][0-9]{{0,{digits - 1}}}{fraction}",
        rf"1{'0' * digits}(\.0{{1,{MAX_FRACTION}}})?",
    ))  # fmt: skip


def _list_pattern(item: str, most: int) -> str:
    one = _inner(item)
    return f"^,*({one}(,+{one}){{0,{most - 1}}})?,*$"


def number_pattern(low: int, high: int) -> str:
    """A pattern of exactly the whole numbers from `low` to `high`, both at least 0, without zeros before them."""
    return "|".join(_between(low, high))


def _between(low: int, high: int) -> Iterator[str]:
    if low == 0:
        yield "0"
    whole: list[int] = []
    for length in range(len(str(low)), len(str(high)) + 1):
        first, last = 10 ** (length - 1), 10**length - 1
        if low <= first and last <= high:
            whole.append(length)
        elif max(low, first) <= high:
            yield from _of_length(str(max(low, first)), str(min(high, last)))
    if whole:
        yield f"[1-9][0-9]{{{whole[0] - 1},{whole[-1] - 1}}}"


def _of_length(low: str, high: str) -> Iterator[str]:
    """Patterns of the numbers between two of the same length."""
    rest = len(low) - 1
    if rest < 0:
        yield ""
        return
    first, last = int(low[0]), int(high[0])
    if first == last:
        yield from (low[0] + tail for tail in _of_length(low[1:], high[1:]))
        return
    if low[1:] != "0" * rest:
        yield from (low[0] + tail for tail in _of_length(low[1:], "9" * rest))
        first += 1
    is_cut = high[1:] != "9" * rest
    last -= is_cut
    if first <= last:
        yield f"[{first}-{last}]" + "[0-9]" * rest
    if is_cut:
        yield from (high[0] + tail for tail in _of_length("0" * rest, high[1:]))


def _without(node: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in node.items() if name not in names}


def _paragraph(text: str) -> str:
    return re.sub(r"\s+", " ", text)


#: What there is a schema of. Entries of the two streams and of an inbox; what a program reads on stdin; what
#: `balancer submit` reads; what `balancer serve --settings` reads.
_SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "heartbeat": lambda: entry_schema(Heartbeat),
    "completion": lambda: entry_schema(Completion),
    "inbox": inbox_schema,
    "command": CommandInput.model_json_schema,
    "task": Task.model_json_schema,
    "settings": PoolSettings.model_json_schema,
}
NAMES = tuple(_SCHEMAS)


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of this name, one of NAMES."""
    return {"$schema": _DIALECT, "$id": f"urn:workload-balancer:{VERSION}:{name}"} | _SCHEMAS[
        name
    ]()
