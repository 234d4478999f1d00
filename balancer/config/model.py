"""What a process needs to know beside the settings of its pool."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from balancer.core.names import Name
from balancer.protocol.place import DEFAULT_POOL, DEFAULT_URL


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RedisPlace(_Table):
    """Where Redis is."""

    url: str = Field(
        default=DEFAULT_URL,
        min_length=1,
        description="where Redis is; with a password in it, the file must be readable by its owner and group only",
    )
    url_file: str | None = Field(
        default=None,
        min_length=1,
        description="a file that holds the address instead, not readable by everyone",
    )


class PoolPlace(_Table):
    """Which pool."""

    name: Name = Field(default=DEFAULT_POOL, description="which pool")
    genesis: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        default=None,
        description="the identity that the pool must have, as `balancer doctor` shows it: another one, or none,"
        " is then refused at the start instead of created",
    )


class Serving(_Table):
    """How a balancer paces itself."""

    tick_s: Annotated[float, Field(ge=0.01, le=60)] = Field(
        default=0.5, description="the drainer looks this often even if no event wakes it"
    )
    sweep_s: Annotated[float, Field(ge=0.05, le=60)] = Field(
        default=1.0, description="between two looks at what time alone changes"
    )
    silent_s: Annotated[float, Field(ge=12, le=30)] = Field(
        default=30.0,
        description="`balancer health` fails when a loop has not succeeded for this long; more than two passes",
    )

    @model_validator(mode="after")
    def _silence_is_longer_than_a_pass(self) -> Self:
        longest = max(self.tick_s, self.sweep_s)
        if self.silent_s <= 2 * longest:
            raise ValueError(
                f"silent_s of {self.silent_s:g} is not more than two passes of {longest:g} seconds"
                " (tick_s, sweep_s): a loop that is well would count as stuck"
            )
        return self


class Logging(_Table):
    """What is logged, and how."""

    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="auto: text on a terminal, else JSON"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least that is logged; debug tells of every pass"
    )


class Process(_Table):
    """All tables that concern the process and not what decides in its pool."""

    redis: RedisPlace = RedisPlace()
    pool: PoolPlace = PoolPlace()
    serve: Serving = Serving()
    log: Logging = Logging()
