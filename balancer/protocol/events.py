"""What travels between agents and the balancer, as flat string fields of stream entries.
docs/protocol.md is the contract.

Unknown fields are ignored. A malformed entry raises BadEvent, which names the field, the value and
the rule; it is set aside with that text and never stops the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from balancer.core.model import MAX_UNITS, Level, Mode
from balancer.core.names import Name
from balancer.protocol.wire import (
    MAX_DIGITS,
    VERSION,
    Attempt,
    BadEvent,
    Milliseconds,
    Nonce,
    Wire,
    read_wire,
)

#: Largest result or error text, bytes of UTF-8. A larger result is dropped and marked; the task
#: still completes.
MAX_RESULT_BYTES = 4_096
#: What is kept of an error text, bytes of UTF-8.
MAX_ERROR_BYTES = 2_048


#: Marks fields that do not stand in the entry itself but in the JSON object of its field `body`.
BODY: dict[str, Any] = {"in": "body"}


#: Highest and lowest speed that an agent may declare; 1 is normal.
MIN_SPEED, MAX_SPEED = 0.01, 100.0
Speed = Annotated[float, Field(ge=MIN_SPEED, le=MAX_SPEED, allow_inf_nan=False)]


class Status(StrEnum):
    """How a try ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    #: The agent will not do it; another one may. Counts neither as a failure nor as a loss.
    REJECTED = "rejected"
    #: The agent gives it back, e.g. because it stops. Nothing is counted.
    RELEASED = "released"
    #: The agent stopped a task that was being cancelled.
    CANCELLED = "cancelled"


class InboxKind(StrEnum):
    """What an inbox entry is, in its field `kind`. Agents ignore kinds that they do not know."""

    TASK = "task"
    CANCEL = "cancel"
    RETIRE = "retire"


class Heartbeat(Wire):
    """An agent says: I am here, this is what I can carry and what I hold. Every heartbeat is
    complete. `ttl_ms` is at least twice `interval_ms`.
    """

    agent: Name
    boot: Nonce
    seq: int = Field(ge=1, le=10**MAX_DIGITS - 1, description="counts up within a boot")
    role: Name
    type: Name | None = None
    max_concurrent: int | None = Field(
        default=None, ge=0, le=MAX_UNITS, description="units; absent: the role's default"
    )
    specializations: tuple[Name, ...] | None = Field(
        default=None, max_length=64, description="absent: the default"
    )
    skills: dict[Name, Level] | None = Field(
        default=None, max_length=64, description="what it can do and how well; absent: none"
    )
    speed: Speed | None = Field(
        default=None, description="how fast it is, 1 is normal; absent: normal"
    )
    speeds: dict[Name, Speed] | None = Field(
        default=None,
        max_length=64,
        description="how fast it is with a category; of others: `speed`, with a quarter more for a specialization",
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
        if self.skills:
            out["skills"] = _pairs(self.skills)
        if self.speed is not None:
            out["speed"] = repr(self.speed)
        if self.speeds:
            out["speeds"] = _pairs(self.speeds)
        out |= {
            "interval_ms": str(self.interval_ms),
            "ttl_ms": str(self.ttl_ms),
            "mode": self.mode.value,
        }
        if self.start:
            out["start"] = "1"
        out["held"] = ",".join(self.held)
        return out


def _pairs(values: Mapping[str, float]) -> str:
    return ",".join(f"{name}:{value!r}" for name, value in values.items())


class Completion(Wire):
    """An agent says: this try ended so."""

    agent: Name
    task: Name
    attempt: Attempt
    lease: Nonce
    status: Status
    result: str = Field(default="", description="JSON text; empty for none")
    error: str = ""
    duration_ms: Milliseconds = 0

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


class InboxTask(Wire):
    """An open lease, as the agent finds it in its inbox."""

    kind: Literal[InboxKind.TASK] = InboxKind.TASK
    task: Name
    attempt: Attempt
    lease: Nonce = Field(description="names this grant")
    boot: Nonce = Field(description="the boot that the lease was granted to")
    role: Name
    category: Name
    priority: Name = Field(description="critical, high, medium or low; taken into account already")
    cost: int = Field(ge=0, le=MAX_UNITS, description="units it takes of max_concurrent")
    timeout_ms: Milliseconds = Field(description="run timeout, from when the try begins")
    estimate_ms: Milliseconds = Field(description="how long the balancer expects it to take")
    description: str = Field(
        default="", description="text from the producer", json_schema_extra=BODY
    )
    payload: Any = Field(
        default=None, description="any JSON value from the producer", json_schema_extra=BODY
    )


class InboxCancel(Wire):
    """The task of an open lease is being cancelled: stop it. Its completion ends it, and the entry, too."""

    kind: Literal[InboxKind.CANCEL]
    task: Name
    attempt: Attempt
    lease: Nonce = Field(description="the one in whose entry the task is")


class InboxRetire(Wire):
    """An operator lets the agent go: it gets nothing new."""

    kind: Literal[InboxKind.RETIRE]
    deadline_ms: Milliseconds = Field(
        description="since 1970, by Redis' clock: what is still held then is taken back"
    )


InboxEntry = InboxTask | InboxCancel | InboxRetire


def read_heartbeat(fields: Mapping[str, str]) -> Heartbeat:
    """Parse a heartbeat entry.

    Raises:
        BadEvent: it breaks the format.
    """
    beat = read_wire(Heartbeat, fields)
    if beat.ttl_ms < 2 * beat.interval_ms:
        raise BadEvent(f"ttl_ms: {beat.ttl_ms} is less than two intervals of {beat.interval_ms}")
    return beat


def read_completion(fields: Mapping[str, str]) -> Completion:
    """Parse a completion entry.

    Raises:
        BadEvent: it breaks the format.
    """
    return read_wire(Completion, fields)


def read_inbox(fields: Mapping[str, str]) -> InboxEntry | None:
    """Parse an inbox entry; None if it is of a kind that is not known here, which is no error.

    Raises:
        BadEvent: it breaks the format.
    """
    kind = fields.get("kind", InboxKind.TASK)
    if kind == InboxKind.CANCEL:
        return read_wire(InboxCancel, fields)
    if kind == InboxKind.RETIRE:
        return read_wire(InboxRetire, fields)
    return read_inbox_task(fields) if kind == InboxKind.TASK else None


def read_inbox_task(fields: Mapping[str, str]) -> InboxTask:
    """Parse an inbox entry that is a lease.

    Raises:
        BadEvent: it breaks the format.
    """
    body = fields.get("body", "")
    try:
        parsed = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise BadEvent(f"body: not JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise BadEvent("body: not a JSON object")
    own = {name: text for name, text in fields.items() if name not in IN_BODY}
    said = {name: parsed[name] for name in IN_BODY if name in parsed}
    return read_wire(InboxTask, own, **said)


#: The fields of an inbox entry that its `body` carries.
IN_BODY = tuple(
    name for name, field in InboxTask.model_fields.items() if field.json_schema_extra is BODY
)
