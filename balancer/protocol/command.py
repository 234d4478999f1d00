"""What a program reads on stdin when `worker run -- PROGRAM` runs it for a task, and the exit codes it answers with.
docs/languages.md is the contract.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from balancer.core.model import MAX_UNITS
from balancer.core.names import Name
from balancer.protocol.wire import VERSION, Attempt, Milliseconds, Nonce

#: Exit code by which a program rejects a task: this agent will not do it, another one may (EX_TEMPFAIL).
EXIT_REJECTED = 75


class CommandInput(BaseModel):
    """One try of a task, as one JSON object on one line. Unknown fields are to be ignored: later versions add some."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal["1"] = VERSION
    id: Name = Field(description="the task; the same in every try")
    attempt: Attempt
    lease: Nonce = Field(description="names the grant that this try runs under")
    agent: Name
    pool: Name
    role: Name
    category: Name
    priority: Name = Field(description="critical, high, medium or low")
    cost: int = Field(ge=0, le=MAX_UNITS, description="units it takes")
    timeout_ms: Milliseconds = Field(description="run timeout: it is killed then")
    description: str = Field(description="text from the producer, empty if there is none")
    payload: Any = Field(description="any JSON value from the producer, null if there is none")

    def line(self) -> bytes:
        """The JSON text. ASCII: whatever the payload holds, it can be written."""
        return json.dumps(self.model_dump()).encode("ascii") + b"\n"
