"""Applying heartbeats: the typed twin of beat.lua."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from balancer.core.lanes import AgentClass, class_definition
from balancer.ledger.exchange import Arg
from balancer.ledger.pool import Pool
from balancer.ledger.script import Script
from balancer.protocol.events import Heartbeat

SCRIPT = Script("beat")
#: Heartbeats a call; and how many of them may be the first of a boot (each of those looks through
#: its agent's leases).
CAP, CAP_STARTS = 100, 20


class Outcome(StrEnum):
    """What a heartbeat did."""

    JOINED = "joined"
    OK = "ok"
    CHANGED = "changed"
    NEW_BOOT = "new_boot"
    STALE = "stale"
    OTHER_BOOT = "other_boot"
    TOO_MANY_AGENTS = "too_many_agents"
    TOO_MANY_ROLES = "too_many_roles"
    RETIRED = "retired"
    BAD = "bad"


class BeatEntry(NamedTuple):
    """One entry of the heartbeat stream: a heartbeat, or why it is none with what stood there."""

    entry: str
    beat: Heartbeat | None
    reason: str = ""
    raw: str = ""


class Declared(NamedTuple):
    """What an agent declares beside its class, as the field `d` keeps it: one short value instead of
    three.
    """

    ttl_ms: int
    interval_ms: int
    type: str

    def packed(self) -> str:
        """The stored field."""
        return f"{self.ttl_ms}|{self.interval_ms}|{self.type}"

    @classmethod
    def read(cls, text: str) -> Declared:
        """Parse the stored field."""
        ttl_ms, interval_ms, type_ = text.split("|")
        return cls(int(ttl_ms), int(interval_ms), type_)


def pack_figures(figures: Iterable[tuple[str, float]]) -> str:
    """Skills or speeds as an agent's fields keep them."""
    return ",".join(f"{name}:{value!r}" for name, value in figures)


def read_figures(text: str | None) -> dict[str, float]:
    """The reverse of pack_figures."""
    pairs = (part.rpartition(":") for part in text.split(",")) if text else ()
    return {name: float(value) for name, _, value in pairs}


def _speeds(beat: Heartbeat) -> tuple[tuple[str, float], ...]:
    """Declared speeds, to three digits: whoever is nearly as fast is of one class. A base speed of 1 is
    what an agent has that declares none.
    """
    said = dict(beat.speeds or {})
    if beat.speed is not None and float(f"{beat.speed:.3g}") != 1:
        said[""] = beat.speed
    return tuple((name, float(f"{said[name]:.3g}")) for name in sorted(said))


def _args(pool: Pool, item: BeatEntry) -> list[Arg]:
    beat = item.beat
    if beat is None:
        return [
            "bad", item.entry, item.reason, item.raw, 0, 0, "", "", "", "", "", "", "", 0, "", 0,
        ]  # fmt: skip
    settings = pool.settings
    max_concurrent = beat.max_concurrent
    if max_concurrent is None:
        max_concurrent = settings.max_concurrent_of(beat.role)
    specializations = beat.specializations
    if specializations is None:
        specializations = settings.specializations_of(beat.role, beat.type or "")
    specializations = tuple(sorted(set(specializations)))
    skills, speeds = tuple(sorted((beat.skills or {}).items())), _speeds(beat)
    class_id, definition = class_definition(
        AgentClass(beat.role, specializations, max_concurrent, skills, speeds)
    )
    return [
        "beat", item.entry, beat.agent, beat.boot, beat.seq, int(beat.start), beat.role,
        Declared(beat.ttl_ms, beat.interval_ms, beat.type or "").packed(), ",".join(specializations),
        pack_figures(skills), pack_figures(speeds), class_id, definition, max_concurrent, beat.mode.value,
        *([len(beat.held), *beat.held] if beat.start else [0]),
    ]  # fmt: skip


def beat(pool: Pool, entries: Sequence[BeatEntry], *, caught_up: bool) -> list[Outcome]:
    """Apply heartbeats in stream order, in one atomic call; what they leave out is filled from the
    role's and type's defaults.

    Args:
        pool: the pool.
        entries: at most CAP, at most CAP_STARTS of them the first of a boot.
        caught_up: the stream was read to its end: whoever is silent now is silent in truth.
    """
    args: list[Arg] = [int(caught_up), pool.settings.max_losses]
    for item in entries:
        args += _args(pool, item)
    return [Outcome(word) for word in pool.run(SCRIPT, args)]
