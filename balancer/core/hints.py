"""What a producer says of a task that helps to place it: how much work it is, and who should have it.

None of it is a condition. What must hold (`requires`) stands in the task's lane.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import PlainValidator, WithJsonSchema

from balancer.core.payload import MAX_INT

#: Longest text of a group or a feature, characters; most features, and most required skills, of a task.
MAX_TEXT, MAX_FEATURES, MAX_REQUIRED = 128, 16, 16
#: Largest and smallest estimate of a task, and time for which a preference holds, seconds.
MIN_ESTIMATE_S, MAX_ESTIMATE_S = 0.001, 30 * 86_400
#: Highest level of a skill.
MAX_LEVEL = 100
#: Hex digits that name a group, or the features of a task, in Redis: what users write never becomes a key.
DIGITS = 12

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Hints(NamedTuple):
    """As they are sent and stored. `prior_ms`: what the task takes at normal speed as far as its producer
    and the settings can tell, by one of two ladders (`basis`): `m`, the minutes of its category times
    its complexity, or `e`, the producer's own estimate.
    """

    prior_ms: int
    basis: str
    group: str
    features: str
    prefer_agent: str
    prefer_ms: int

    def packed(self) -> str:
        """The word of a submit."""
        return (
            f"{self.prior_ms}|{self.basis}|{self.group}|{self.features}"
            f"|{self.prefer_agent}|{self.prefer_ms}"
        )


def check_group(value: str) -> str:
    """Return a group that may be used.

    Raises:
        ValueError: it holds a control character.
    """
    if _CONTROL.search(value):
        raise ValueError("holds a control character")
    return value


def check_feature(value: Any) -> str | int | float | bool:
    """Return a feature's value that may be used.

    Raises:
        ValueError: it is neither a short text, nor a number within bounds, nor true or false.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        # Neither nan nor an infinity is within.
        if abs(value) <= MAX_INT:
            return value
        raise ValueError(f"is not a number from -{MAX_INT} to {MAX_INT}")
    if not isinstance(value, str):
        raise ValueError("is neither a text, nor a number, nor true or false")
    if len(value) > MAX_TEXT or _CONTROL.search(value):
        raise ValueError(
            f"is not a text of at most {MAX_TEXT} characters without control characters"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode (a lone surrogate)") from None
    return value


#: What a feature may be.
Feature = Annotated[
    str | int | float | bool,
    PlainValidator(check_feature),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": MAX_TEXT},
                {"type": "number", "minimum": -MAX_INT, "maximum": MAX_INT},
                {"type": "boolean"},
            ]
        }
    ),
]


def features_text(features: Mapping[str, str | int | float | bool]) -> str:
    """Features in one canonical line: numbers by the power of two that they lie in, texts as they are."""
    return ",".join(f"{name}={_bucket(features[name])}" for name in sorted(features))


def _bucket(value: str | float | bool) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value == 0:
        return "0"
    return f"{'-' if value < 0 else ''}2^{math.frexp(value)[1] - 1}"


def short_name(text: str) -> str:
    """What a group or a line of features is called in Redis; empty for none."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS] if text else ""


def canonical(said: Mapping[str, Any]) -> str:
    """What a producer said, as one text that defines the task together with the rest."""
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
