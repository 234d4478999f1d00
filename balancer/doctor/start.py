"""What a balancer looks at before it serves: what would lose or spoil tasks is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from balancer.doctor import identity, keytypes, memory, server
from balancer.doctor.finding import Finding, Level
from balancer.doctor.visit import Visit


def refusals(visit: Visit) -> list[Finding]:
    """Why this Redis must not be served: too old, a replica, evicting, keys of other types, not the pool meant.

    Raises:
        redis.RedisError: it cannot be asked now.
    """
    checks = (server.version, server.role, memory.eviction, keytypes.key_types)
    found = _failed(visit, *checks)
    # Of keys with a wrong type no more can be asked.
    return found or _failed(visit, identity.identity)


def _failed(visit: Visit, *checks: Callable[[Visit], Iterable[Finding]]) -> list[Finding]:
    return [f for check in checks for f in check(visit) if f.level is Level.FAIL]
