"""Which server this is: version, kind, role, Cluster, replicas."""

from __future__ import annotations

from collections.abc import Iterator

from redis.crc import key_slot

from balancer.doctor.finding import Finding, fail, ok, unknown, warn
from balancer.doctor.visit import Visit

#: The oldest Redis that the scripts run on.
FLOOR = (6, 2)
#: By kind and line: the first release without the known holes of the Lua engine (CVE-2025-49844 and those with it). A
#: line that is not here has none. Systems that mend an old release keep its number.
MENDED: dict[str, dict[tuple[int, int], int | None]] = {
    "redis": {(6, 2): 20, (7, 0): None, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2},
    "valkey": {(7, 2): 11, (8, 0): 6, (8, 1): 4},
}


def version(visit: Visit) -> Iterator[Finding]:
    """New enough, and not known to be bad."""
    kind = "valkey" if visit.info.get("valkey_version") else "redis"
    text = str(visit.info.get(f"{kind}_version") or visit.info.get("redis_version") or "")
    found = numbers(text)
    if not any(found):
        yield unknown("version", "this server does not say its version")
        return
    shown = f"{kind.capitalize()} {text}"
    line, patch = found[:2], found[2]
    mended = MENDED[kind].get(line, 0)
    if line < FLOOR:
        yield fail("version", shown, "Redis 6.2 or newer, or Valkey, is needed", "configuration")
    elif mended is None or patch < mended:
        wanted = f"{line[0]}.{line[1]}.{mended} or newer" if mended else "a newer line"
        yield warn(
            "version",
            f"{shown} has known holes in its Lua engine (CVE-2025-49844), unless your system has mended it",
            f"{wanted}; until then only trusted clients should reach it",
        )
    else:
        yield ok("version", shown)


def numbers(text: str) -> tuple[int, int, int]:
    """Those of a version; zeros where it is none."""
    parts = text.split(".")
    try:
        major, minor, patch = (int(part.split("-")[0]) for part in (*parts, "0", "0")[:3])
    except ValueError:
        return 0, 0, 0
    return major, minor, patch


def role(visit: Visit) -> Iterator[Finding]:
    """A master, and no Sentinel."""
    if visit.info.get("redis_mode") == "sentinel":
        yield fail(
            "role",
            "this is a Sentinel, not a Redis",
            "give redis+sentinel://host:26379/SERVICE/0 as the address",
            "configuration",
        )
        return
    found = visit.info.get("role")
    if found is None:
        yield unknown("role", "this server does not say its role")
    elif found != "master":
        yield fail(
            "role",
            f"a replica of {visit.info.get('master_host')}:{visit.info.get('master_port')}",
            "give the address of the master, or that of the Sentinels (redis+sentinel://)",
            "configuration",
        )
    else:
        yield from _replicas(visit)


def _replicas(visit: Visit) -> Iterator[Finding]:
    count = visit.number("connected_slaves") or 0
    if not count:
        yield ok("role", "master without replicas")
        return
    least = visit.number("min-replicas-to-write")
    shown = f"master with {count} replica{'s' if count > 1 else ''}"
    if least is None:
        yield warn("role", f"{shown}; min-replicas-to-write is unknown", "it should be 1")
    elif least == 0:
        yield warn(
            "role",
            f"{shown}, min-replicas-to-write 0: a master that was cut off takes work that a failover loses",
            "set min-replicas-to-write 1 and min-replicas-max-lag 10 or less",
        )
    else:
        yield ok("role", f"{shown}, min-replicas-to-write {least}")


def cluster(visit: Visit) -> Iterator[Finding]:
    """Of a Cluster: whole, and where the pool is. Nothing is said of a server that is none."""
    if not visit.number("cluster_enabled"):
        return
    slot = key_slot(visit.keys.meta.encode())
    state = str(_cluster_info(visit).get("cluster_state", "unknown"))
    shown = f"state {state}, all keys of the pool in slot {slot}"
    if state == "ok":
        yield ok("cluster", shown)
    else:
        yield fail("cluster", shown, "CLUSTER INFO and CLUSTER NODES say which slots nobody serves")


def _cluster_info(visit: Visit) -> dict[str, str]:
    answer = visit.client.execute_command("CLUSTER INFO")
    if isinstance(answer, dict):
        return answer
    return dict(line.split(":", 1) for line in str(answer).splitlines() if ":" in line)
