"""What survives what, from the live settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from balancer.doctor.finding import Finding, fail, ok, unknown, warn
from balancer.doctor.visit import Visit


class Durability(NamedTuple):
    """What is lost of what was acknowledged, by how Redis keeps it. docs/operations.md has the same table."""

    kept: str
    killed: str
    power: str


DURABILITY = {
    "nothing": Durability("no append-only file, no snapshots", "everything", "everything"),
    "snapshots": Durability("snapshots only", "all since the last one", "all since the last one"),
    "no": Durability("append-only file, appendfsync no", "nothing", "up to 30 seconds, or more"),
    "everysec": Durability(
        "append-only file, appendfsync everysec",
        "nothing; while the disk is slow, up to 2 seconds",
        "about 2 seconds",
    ),
    "always": Durability(
        "append-only file, appendfsync always", "nothing", "nothing; a full disk ends Redis"
    ),
}
_ADVICE = "set appendonly yes and appendfsync everysec (or always), in redis.conf or by CONFIG SET"


def persistence(visit: Visit) -> Iterator[Finding]:
    """The row of the durability table that holds now."""
    aof = visit.number("aof_enabled")
    if aof is None:
        yield unknown("persistence", "this server does not say how it keeps its data")
        return
    if aof:
        kind = visit.settings.get("appendfsync")
        if kind not in DURABILITY:
            yield warn(
                "persistence",
                "append-only file; appendfsync is unknown, CONFIG may not be asked here",
                "it should be everysec or always; killing Redis then loses nothing",
            )
        elif kind == "no":
            yield warn("persistence", _row(kind), _ADVICE)
        else:
            yield ok("persistence", _row(kind))
        return
    saves = visit.settings.get("save")
    if saves is None:
        yield warn(
            "persistence",
            "no append-only file; whether there are snapshots is unknown, CONFIG may not be asked here",
            _ADVICE,
        )
    elif saves:
        yield warn("persistence", _row("snapshots"), _ADVICE)
    else:
        yield fail("persistence", _row("nothing"), _ADVICE)


def _row(kind: str) -> str:
    row = DURABILITY[kind]
    return f"{row.kept}. Lost when Redis is killed: {row.killed}; when the machine loses power: {row.power}"


def last_saves(visit: Visit) -> Iterator[Finding]:
    """What Redis last wrote came to the disk."""
    known = {
        "aof_last_write_status": "writing the append-only file",
        "aof_last_bgrewrite_status": "rewriting the append-only file",
        "rdb_last_bgsave_status": "the last snapshot",
    }
    if visit.info.get("loading") in (1, "1"):
        yield fail("disk", "Redis is loading its file", "wait; it answers when it has read it all")
    failed = [text for name, text in known.items() if visit.info.get(name, "ok") != "ok"]
    if failed:
        yield fail(
            "disk",
            f"failed: {', '.join(failed)}",
            "look at the log of Redis and the free space of its disk; it refuses writes meanwhile (MISCONF)",
        )
    elif "rdb_last_bgsave_status" in visit.info:
        yield ok("disk", "what was written last came to the disk")
