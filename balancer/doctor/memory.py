"""Whether Redis may throw tasks away, and how full it is."""

from __future__ import annotations

from collections.abc import Iterator

from balancer.core.settings import PoolSettings
from balancer.doctor.finding import Finding, fail, ok, unknown, warn
from balancer.doctor.visit import Visit

#: Above this share of maxmemory somebody should look.
HIGH_SHARE = 0.7


def eviction(visit: Visit) -> Iterator[Finding]:
    """Nothing may be thrown away."""
    policy = visit.info.get("maxmemory_policy") or visit.settings.get("maxmemory-policy")
    if policy is None:
        yield unknown("eviction", "this server does not say its maxmemory-policy")
    elif policy != "noeviction":
        yield fail(
            "eviction",
            f"maxmemory-policy {policy}: Redis throws tasks away when memory is short",
            "set maxmemory-policy noeviction, in redis.conf or by CONFIG SET",
            "configuration",
        )
    else:
        yield ok("eviction", "maxmemory-policy noeviction")
    if evicted := visit.number("evicted_keys"):
        yield warn(
            "eviction",
            f"{evicted} keys were thrown away since Redis started",
            "run `balancer audit`: what it misses is gone",
        )


def memory(visit: Visit) -> Iterator[Finding]:
    """How full it is."""
    used, most = visit.number("used_memory"), visit.number("maxmemory")
    if used is None or most is None:
        yield unknown("memory", "this server does not say how much it uses")
        return
    if most == 0:
        yield warn(
            "memory",
            f"{_mib(used)} used, no maxmemory: the machine ends Redis when memory runs out",
            "set maxmemory to about 70 % of what the machine has; Redis then refuses what is new",
        )
        return
    share = used / most
    shown = f"{_mib(used)} of {_mib(most)} used ({share:.0%})"
    settings = visit.pool.settings if visit.pool else PoolSettings()
    full = settings.memory_high_share
    if share >= full:
        advice = "more memory for Redis (maxmemory), fewer waiting tasks, smaller payloads"
        yield fail("memory", f"{shown}: new work is refused above {full:.0%}", advice)
    elif share >= HIGH_SHARE:
        yield warn("memory", shown, f"above {full:.0%} new work is refused: give it more in time")
    else:
        yield ok("memory", shown)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MiB"
