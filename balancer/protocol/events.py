"""What travels between agents and the balancer, as flat string fields of stream entries.
docs/protocol.md is the contract.

Unknown fields are ignored. A malformed entry raises BadEvent, which names the field, the value and
the rule; it is set aside with that text and never stops the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from balancer.core.model import MAX_UNITS, Mode
from balancer.core.names import Name

#: Version of the formats below; the field `v` of every entry.
VERSION: Literal["1"] = "1"
#: Largest result or error text, bytes of UTF-8. A larger result is dropped and marked; the task
#: still completes.
MAX_RESULT_BYTES = 4_096
#: What is kept of an error text, bytes of UTF-8.
MAX_ERROR_BYTES = 2_048

_HEX = r"^[0-9a-f]{32}$"
Nonce = Annotated[str, Field(pattern=_HEX)]
Attempt = Annotated[int, Field(ge=1, le=1_000_000, description="counts the grants of a task")]
#: Most digits of a number, so that it is exact wherever numbers are doubles.
MAX_DIGITS = 15
Milliseconds = Annotated[int, Field(ge=0, le=10**MAX_DIGITS - 1)]
_NUMBER = re.compile(rf"[0-9]{{1,{MAX_DIGITS}}}", re.ASCII)


class BadEvent(ValueError):
    """A stream entry that breaks its format. The text names the field, the value and the rule."""


class Status(StrEnum):
    """How a try ended."""

    COMPLETED = "completed"
    FAILED = "failed"


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


T = TypeVar("T", bound=_Wire)


class Heartbeat(_Wire):
    """An agent says: I am here, this is what I can carry and what I hold. Every heartbeat is
    complete.
    """

    agent: Name
    boot: Nonce
    seq: int = Field(ge=1, le=2**53 - 1, description="counts up within a boot")
    role: Name
    type: Name | None = None
    max_concurrent: int | None = Field(
        default=None, ge=0, le=MAX_UNITS, description="units; absent: the role's default"
    )
    specializations: tuple[Name, ...] | None = Field(
        default=None, max_length=64, description="absent: the default"
    )
    interval_ms: int = Field(default=5_000, ge=100, le=86_400_000)
    ttl_ms: int = Field(
        default=15_000, ge=300, le=7 * 86_400_000, description="lost after this silence"
    )
    mode: Mode = Mode.RUNNING
    start: bool = Field(
        default=False,
        description="of a boot not confirmed yet: takes over, and resumes the nonces in held",
    )
    held: tuple[Nonce, ...] = Field(
        default=(), max_length=MAX_UNITS, description="nonces of the leases it holds"
    )

    def fields(self) -> dict[str, str]:
        """The stream entry."""
        out = {
            "v": VERSION,
            "agent": self.agent,
            "boot": self.boot,
            "seq": str(self.seq),
            "role": self.role,
        }
        if self.type is not None:
            out["type"] = self.type
        if self.max_concurrent is not None:
            out["max_concurrent"] = str(self.max_concurrent)
        if self.specializations is not None:
            out["specializations"] = ",".join(self.specializations)
        out |= {
            "interval_ms": str(self.interval_ms),
            "ttl_ms": str(self.ttl_ms),
            "mode": self.mode.value,
        }
        if self.start:
            out["start"] = "1"
        out["held"] = ",".join(self.held)
        return out


class Completion(_Wire):
    """An agent says: this try ended so."""

    agent: Name
    task: Name
    attempt: int = Field(ge=1, le=1_000_000)
    lease: Nonce
    status: Status
    result: str = Field(default="", description="JSON text; empty for none")
    error: str = ""
    duration_ms: int = Field(default=0, ge=0, le=2**53 - 1)

    def fields(self) -> dict[str, str]:
        """The stream entry."""
        out = {
            "v": VERSION,
            "agent": self.agent,
            "task": self.task,
            "attempt": str(self.attempt),
            "lease": self.lease,
            "status": self.status.value,
            "duration_ms": str(self.duration_ms),
        }
        if self.result:
            out["result"] = self.result
        if self.error:
            out["error"] = self.error
        return out


class InboxTask(_Wire):
    """An open lease, as the agent finds it in its inbox."""

    task: Name
    attempt: int
    lease: str
    boot: str = Field(description="the boot that the lease was granted to")
    role: str
    category: str
    priority: str
    cost: int
    timeout_ms: int
    estimate_ms: int
    description: str = ""
    payload: Any = None


def read_heartbeat(fields: Mapping[str, str]) -> Heartbeat:
    """Parse a heartbeat entry.

    Raises:
        BadEvent: it breaks the format.
    """
    raw = _checked(fields, numbers=("seq", "max_concurrent", "interval_ms", "ttl_ms"))
    for field in ("specializations", "held"):
        if field in raw:
            raw[field] = tuple(part for part in fields[field].split(",") if part)
    if "start" in raw:
        raw["start"] = fields["start"] == "1"
    beat = _build(Heartbeat, raw)
    if beat.ttl_ms < 2 * beat.interval_ms:
        raise BadEvent(f"ttl_ms: {beat.ttl_ms} is less than two intervals of {beat.interval_ms}")
    return beat


def read_completion(fields: Mapping[str, str]) -> Completion:
    """Parse a completion entry.

    Raises:
        BadEvent: it breaks the format.
    """
    return _build(Completion, _checked(fields, numbers=("attempt", "duration_ms")))


def read_inbox(fields: Mapping[str, str]) -> InboxTask:
    """Parse an inbox entry.

    Raises:
        BadEvent: it breaks the format.
    """
    raw = _checked(fields, numbers=("attempt", "cost", "timeout_ms", "estimate_ms"))
    body = raw.pop("body", "")
    try:
        parsed = json.loads(body) if body else {}
    except ValueError as error:
        raise BadEvent(f"body: not JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise BadEvent("body: not a JSON object")
    raw |= {name: parsed[name] for name in ("description", "payload") if name in parsed}
    return _build(InboxTask, raw)


def _checked(fields: Mapping[str, str], numbers: tuple[str, ...]) -> dict[str, Any]:
    """A copy with its numbers parsed. Only plain ASCII digits are numbers: no sign, no 1e3, no nan,
    no other scripts.
    """
    if not fields:
        raise BadEvent("entry: it has no fields")
    version = fields.get("v", VERSION)
    if version != VERSION:
        raise BadEvent(f"v: {version[:20]!r} is not a version this balancer knows ({VERSION})")
    raw: dict[str, Any] = dict(fields)
    for field in numbers:
        if field in raw:
            if not _NUMBER.fullmatch(fields[field]):
                raise BadEvent(
                    f"{field}: {fields[field][:40]!r} is not a whole number in plain digits"
                )
            raw[field] = int(fields[field])
    return raw


def _build(model: type[T], raw: dict[str, Any]) -> T:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "entry"
        raise BadEvent(f"{place}: {str(first.get('input'))[:60]!r}: {first['msg']}") from None
