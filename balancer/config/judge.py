"""Holding what was said against a model: every broken rule, in words, with its key and origin."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from balancer.config.keys import Path, every_key, key_at
from balancer.config.said import Said
from balancer.config.sources import NOTHING
from balancer.inputs import NAME_IN_WORDS

M = TypeVar("M", bound=BaseModel)

_KINDS = {
    "float_type": "number",
    "int_type": "integer",
    "int_from_float": "integer",
    "finite_number": "number",
    "bool_type": "boolean",
    "string_type": "string",
    "tuple_type": "array",
    "list_type": "array",
}
_WORDS = {
    "number": "is not a number",
    "integer": "is not a whole number",
    "boolean": "is neither true nor false",
    "string": "is not a text",
    "array": "is not a list of names",
}
_BOUNDS = ("greater_than", "less_than")


def judged(
    model: type[M], tree: dict[str, Any], place: Callable[[Path], Path], said: Said
) -> M | None:
    """The model of a tree; None when a rule is broken, and then it is said of each what.

    Args:
        model: what it is to be.
        tree: what was said.
        place: where a path of the model stands in the file.
        said: who said what, and what is wrong with it.
    """
    try:
        # As JSON, because there a list may become a tuple, and nothing else becomes something else.
        return model.model_validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        for row in error.errors(include_url=False):
            path = tuple(str(part) for part in row["loc"] if part != "[key]")
            _tell(row, place(path) if path else ("pool",), said)
    return None


def _tell(row: Any, path: Path, said: Said) -> None:
    kind, value = row["type"], row["input"]
    if said.is_full:
        said.wrong(path, NOTHING, "")
    elif kind == "extra_forbidden":
        said.wrong(path, NOTHING, _unknown(path))
    else:
        # Of a table as a whole there is nothing to show.
        is_table = isinstance(value, dict) and kind not in _KINDS
        said.wrong(path, NOTHING if is_table else value, _rule(row, kind, path))


def _rule(row: Any, kind: str, path: Path) -> str:
    key = key_at(path) or key_at(path[:-1])
    if kind == "string_pattern_mismatch" and (key is None or key.bounds in ("a name", "names")):
        return NAME_IN_WORDS
    if kind == "dict_type":
        return f"is not a table; write [{'.'.join(path)}]"
    if kind in _KINDS:
        rule = _WORDS[_KINDS[kind]]
        return f"{rule} (a plain number of {key.unit})" if key and key.unit else rule
    if key and kind.startswith(_BOUNDS):
        return f"is not within {key.bounds}{f' {key.unit}' if key.unit else ''}"
    if kind == "literal_error" and key:
        return f"is none of {key.bounds}"
    text = str(row["msg"]).removeprefix("Value error, ").removeprefix(f"{row['input']!r} ")
    return text[:1].lower() + text[1:]


def _unknown(path: Path) -> str:
    """What to say of a key that there is not; the nearest of those beside it."""
    beside = {
        key.path[len(path) - 1]
        for key in every_key()
        if len(key.path) >= len(path)
        and all(own in ("*", part) for own, part in zip(key.path, path[:-1], strict=False))
    }
    near = difflib.get_close_matches(path[-1], sorted(beside - {"*"}), 1)
    return "unknown key" + (f", did you mean {near[0]!r}?" if near else "")
