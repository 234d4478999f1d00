"""Points in time that people give: always with a zone, and within bounds that every clock here can hold."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Nothing later is accepted: microseconds stay far below 2^53.
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
TIME_RULE = "is not a time with a zone, such as 2026-11-27T13:00:00Z"


def _spoken(value: Any) -> Any:
    """Text in ISO 8601 or a datetime: a number could mean seconds, milliseconds or a mistake."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\d[T ]\d\d", value, re.ASCII):
        raise ValueError(TIME_RULE)
    return value


def _within(value: datetime) -> datetime:
    if value >= LATEST:
        raise ValueError("is beyond the year 2200")
    return value


#: A datetime with a zone, before the year 2200; text in ISO 8601 is read.
Moment = Annotated[AwareDatetime, BeforeValidator(_spoken), AfterValidator(_within)]


def to_us(moment: datetime) -> int:
    """Whole microseconds since 1970; 1 for what is earlier, as 0 stands for never."""
    return max(1, (moment - EPOCH) // timedelta(microseconds=1))
