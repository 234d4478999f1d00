"""What a task may carry: plain JSON within bounds, checked before anything is stored."""

from __future__ import annotations

import json
import math
from typing import Any

#: Largest body (description and payload as JSON, UTF-8 bytes), deepest nesting, most keys in total,
#: longest string (characters).
MAX_BODY_BYTES, MAX_DEPTH, MAX_KEYS, MAX_STRING = 65_536, 32, 1_000, 16_384
#: Integers beyond this lose digits in other languages' JSON.
MAX_INT = 2**53 - 1

#: Keys in order: a body that says the same is the same text, whatever order it was written in.
_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, sort_keys=True
).encode
_LEAVES = (str, int, float, bool, type(None))


def check_payload(value: Any) -> Any:
    """Return `value` when it is JSON within bounds.

    Raises:
        ValueError: names the place, the value and the rule.
    """
    if isinstance(value, _LEAVES):
        _check_leaf(value, "payload")
        return value
    keys = 0
    todo: list[tuple[Any, str, int]] = [(value, "payload", 1)]
    while todo:
        node, place, depth = todo.pop()
        if isinstance(node, dict | list | tuple) and depth > MAX_DEPTH:
            raise ValueError(f"payload is nested deeper than {MAX_DEPTH}")
        if isinstance(node, dict):
            items: list[tuple[Any, Any]] = list(node.items())
            for key, _ in items:
                if not isinstance(key, str):
                    raise ValueError(f"{place}: key {key!r} is not a string")
                _check_leaf(key, f"{place} key")
        elif isinstance(node, list | tuple):
            items = list(enumerate(node))
        else:
            _check_leaf(node, place)
            continue
        keys += len(items)
        if keys > MAX_KEYS:
            raise ValueError(f"payload holds more than {MAX_KEYS} keys and items")
        todo.extend((child, f"{place}.{key}"[:80], depth + 1) for key, child in items)
    return value


def _check_leaf(value: Any, place: str) -> None:
    if isinstance(value, str):
        if len(value) > MAX_STRING:
            raise ValueError(f"{place}: a string of {len(value)} characters; at most {MAX_STRING}")
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise ValueError(f"{place}: not valid Unicode (a lone surrogate)") from None
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        if abs(value) > MAX_INT:
            raise ValueError(f"{place}: an integer beyond 2^53 - 1; send it as a string")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place}: {value} is not a finite number")
    else:
        raise ValueError(f"{place}: {type(value).__name__} is not JSON")


def encode_body(description: str, payload: Any) -> str:
    """The stored body: compact JSON, "" when there is nothing to store.

    Raises:
        ValueError: the body is larger than MAX_BODY_BYTES.
    """
    if not description and payload is None:
        return ""
    # Part by part: the encoder writes a plain string without going through all that a dict may hold.
    if not description:
        text = f'{{"payload":{_encode(payload)}}}'
    elif payload is None:
        text = f'{{"description":{_encode(description)}}}'
    else:
        text = f'{{"description":{_encode(description)},"payload":{_encode(payload)}}}'
    size = len(text) if text.isascii() else len(text.encode("utf-8"))
    if size > MAX_BODY_BYTES:
        raise ValueError(
            f"payload: description and payload take {size} bytes as JSON; at most {MAX_BODY_BYTES}"
        )
    return text
