"""What a program says about its agent, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from balancer.protocol import (
    Keys,
    is_name,
    new_nonce,
    parse_address,
    pool_name,
    read_heartbeat,
    redis_url,
)
from worker.runtime import Settings

#: Longest interval and time to live, seconds.
_MOST_S = 7 * 86_400


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
    skills: Mapping[str, int] | None = None
    speed: float | None = None
    speeds: Mapping[str, float] | None = None

    def settings(self) -> Settings:
        """Checked and complete.

        Raises:
            ValueError: names the argument and its rule.
        """
        units: object = self.max_concurrent
        if isinstance(units, bool) or not isinstance(units, int) or units < 1:
            raise ValueError(f"max_concurrent: {units!r:.80} is not a whole number of at least 1")
        if isinstance(self.specializations, str):
            raise ValueError(
                f"specializations: {self.specializations!r:.80} is not a list of names"
            )
        fields = {
            "agent": self.id,
            "role": self.role,
            "max_concurrent": str(self.max_concurrent),
            "interval_ms": _milliseconds("interval_s", self.interval_s),
            "ttl_ms": _milliseconds("ttl_s", self.ttl_s),
            "boot": new_nonce(),
            "seq": "1",
        }
        if self.type is not None:
            fields["type"] = self.type
        if self.specializations is not None:
            fields["specializations"] = ",".join(self.specializations)
        if self.skills:
            fields["skills"] = _figures("skills", self.skills)
        if self.speed is not None:
            fields["speed"] = str(self.speed)
        if self.speeds:
            fields["speeds"] = _figures("speeds", self.speeds)
        pool, url = pool_name(self.pool), redis_url(self.redis_url)
        # Both say what is wrong with a name or an address; neither connects.
        Keys(pool)
        parse_address(url)
        declaration = read_heartbeat(fields)
        return Settings(
            declaration=declaration, units=self.max_concurrent, redis_url=url, pool=pool
        )


def _figures(name: str, figures: object) -> str:
    """As a heartbeat says them; text is taken as that. The figures are checked where it is read."""
    if isinstance(figures, str):
        return figures
    if not isinstance(figures, Mapping):
        raise ValueError(f"{name}: {figures!r:.80} is not a mapping of names to numbers")
    for key in figures:
        if not is_name(key):
            raise ValueError(f"{name}: {key!r:.80} is not a name")
    return ",".join(f"{key}:{value}" for key, value in figures.items())


def _milliseconds(name: str, seconds: object) -> str:
    """As a heartbeat says it; its own bounds are checked where it is read."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds <= _MOST_S:  # type: ignore[operator]
        raise ValueError(f"{name}: {seconds!r:.80} is not a number of seconds from 0 to {_MOST_S}")
    return str(round(1_000 * seconds))  # type: ignore[operator]
