"""How a model travels as flat string fields: read here, and said as JSON Schema in schema.py, from the same model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum, auto
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

#: Version of the formats; the field `v` of every entry.
VERSION: Literal["1"] = "1"
#: Most digits of a number, so that it is exact wherever numbers are doubles.
MAX_DIGITS = 15
_NUMBER = re.compile(rf"[0-9]{{1,{MAX_DIGITS}}}", re.ASCII)
#: Most digits behind a point: as many as languages write of a double from 0.01 on.
MAX_FRACTION = 20
_DECIMAL = re.compile(rf"(0|[1-9][0-9]{{0,2}})(\.[0-9]{{1,{MAX_FRACTION}}})?", re.ASCII)

Nonce = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Attempt = Annotated[int, Field(ge=1, le=1_000_000, description="counts the grants of a task")]
Milliseconds = Annotated[int, Field(ge=0, le=10**MAX_DIGITS - 1)]


class BadEvent(ValueError):
    """A stream entry that breaks its format. The text names the field, the value and the rule."""


class Wire(BaseModel):
    """What an entry says. Fields that a later version adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Kind(Enum):
    """How a value is written as text."""

    TEXT = auto()
    NUMBER = auto()
    """Plain ASCII digits: no sign, no 1e3, no nan, no other scripts."""
    LIST = auto()
    """Values separated by commas; empty ones count for nothing."""
    FLAG = auto()
    """`1` is yes, anything else is no."""
    DECIMAL = auto()
    """ASCII digits, and a point with more of them where there is a fraction."""
    NUMBERS = auto()
    """Like a list, of `name:number`; no name twice."""
    DECIMALS = auto()
    """Like a list, of `name:decimal`; no name twice."""


W = TypeVar("W", bound=Wire)


@cache
def kinds(model: type[Wire]) -> dict[str, Kind]:
    """How each field of the model is written."""
    return {name: _kind(field) for name, field in model.model_fields.items()}


def _kind(field: FieldInfo) -> Kind:
    of = field.annotation
    inner = {getattr(part, "__origin__", part) for part in (of, *get_args(of))}
    if bool in inner:
        return Kind.FLAG
    if tuple in inner:
        return Kind.LIST
    if dict in inner:
        return Kind.DECIMALS if "float" in str(of) else Kind.NUMBERS
    if float in inner:
        return Kind.DECIMAL
    return Kind.NUMBER if int in inner else Kind.TEXT


def read_wire(model: type[W], fields: Mapping[str, str], **more: Any) -> W:
    """Parse an entry; `more` are values that are none of its own fields.

    Raises:
        BadEvent: it breaks the format.
    """
    if not fields:
        raise BadEvent("entry: it has no fields")
    version = fields.get("v", VERSION)
    if version != VERSION:
        raise BadEvent(f"v: {version[:20]!r} is not a version that is known here ({VERSION})")
    known = kinds(model)
    raw = {name: _parsed(name, text, known[name]) for name, text in fields.items() if name in known}
    try:
        return model.model_validate(raw | more)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "entry"
        raise BadEvent(f"{place}: {str(first.get('input'))[:60]!r}: {first['msg']}") from None


def _parsed(name: str, text: str, kind: Kind) -> Any:
    if kind is Kind.NUMBER:
        return _number(name, text)
    if kind is Kind.DECIMAL:
        return _decimal(name, text)
    if kind is Kind.LIST:
        return tuple(part for part in text.split(",") if part)
    if kind is Kind.NUMBERS:
        return _pairs(name, text, _number)
    if kind is Kind.DECIMALS:
        return _pairs(name, text, _decimal)
    return text == "1" if kind is Kind.FLAG else text


def _number(name: str, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise BadEvent(f"{name}: {text[:40]!r} is not a whole number in plain digits")
    return int(text)


def _decimal(name: str, text: str) -> float:
    if not _DECIMAL.fullmatch(text):
        raise BadEvent(f"{name}: {text[:40]!r} is not a decimal number such as 0.5, 1 or 12.25")
    return float(text)


def _pairs(name: str, text: str, read: Callable[[str, str], float]) -> dict[str, float]:
    out: dict[str, float] = {}
    for part in text.split(","):
        if part:
            key, colon, value = part.rpartition(":")
            if not colon:
                raise BadEvent(f"{name}: {part[:40]!r} is not a name and a number such as python:3")
            if key in out:
                raise BadEvent(f"{name}: {key[:40]!r} is named twice")
            out[key] = read(f"{name}.{key[:20]}", value)
    return out
