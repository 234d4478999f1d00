"""What a program says about its agent, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from balancer.protocol import (
    Keys,
    new_nonce,
    parse_address,
    pool_name,
    read_heartbeat,
    redis_url,
)
from worker.runtime import Settings


@dataclass(frozen=True)
class Declaration:
    """What the program said, as it said it. The environment is asked when the agent starts."""

    id: str
    role: str
    max_concurrent: int
    redis_url: str | None
    pool: str | None
    type: str | None
    specializations: Sequence[str] | None
    interval_s: float
    ttl_s: float

    def settings(self) -> Settings:
        """Checked and complete.

        Raises:
            ValueError: names the argument and its rule.
        """
        if isinstance(self.max_concurrent, bool) or self.max_concurrent < 1:
            raise ValueError(f"max_concurrent: {self.max_concurrent!r} is not at least 1")
        fields = {
            "agent": self.id,
            "role": self.role,
            "max_concurrent": str(self.max_concurrent),
            "interval_ms": str(round(1_000 * self.interval_s)),
            "ttl_ms": str(round(1_000 * self.ttl_s)),
            "boot": new_nonce(),
            "seq": "1",
        }
        if self.type is not None:
            fields["type"] = self.type
        if self.specializations is not None:
            fields["specializations"] = ",".join(self.specializations)
        pool, url = pool_name(self.pool), redis_url(self.redis_url)
        # Both say what is wrong with a name or an address; neither connects.
        Keys(pool)
        parse_address(url)
        declaration = read_heartbeat(fields)
        return Settings(
            declaration=declaration, units=self.max_concurrent, redis_url=url, pool=pool
        )
