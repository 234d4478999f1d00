"""What `balancer submit` is told of a task in pairs: required skills, and features of its size."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from balancer.core.errors import InvalidInput

_DIGITS = re.compile(r"\d{1,9}", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,16}(\.\d{1,20})?", re.ASCII)


def required(pairs: Sequence[str]) -> dict[str, int]:
    """Least levels by skill, from words like `python:3`; without a level any will do.

    Raises:
        InvalidInput: a word is none of that, or a skill is named twice.
    """
    out: dict[str, int] = {}
    for pair in pairs:
        skill, colon, level = pair.partition(":")
        if colon and not _DIGITS.fullmatch(level):
            raise InvalidInput(
                f"--require: {pair[:80]!r} is not a skill and a level such as python:3"
            )
        if skill in out:
            raise InvalidInput(f"--require: {skill[:80]!r} is named twice")
        out[skill] = int(level) if colon else 1
    return out


def featured(pairs: Sequence[str]) -> dict[str, str | int | float | bool]:
    """Features from words like `files=12`, `ci=true` and `language=python`; `"12"` is a text, too.

    Raises:
        InvalidInput: a word is none of that, or a feature is named twice.
    """
    out: dict[str, str | int | float | bool] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidInput(
                f"--feature: {pair[:80]!r} is not a name and a value such as files=12"
            )
        if name in out:
            raise InvalidInput(f"--feature: {name[:80]!r} is named twice")
        out[name] = _value(value)
    return out


def _value(text: str) -> str | int | float | bool:
    if text in ("true", "false"):
        return text == "true"
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text
    return text
