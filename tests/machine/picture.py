"""The whole of a pool, read back from Redis; what must fit together in it; and the part of it that a model can say."""

from __future__ import annotations

from typing import Any

from balancer.ledger import Pool
from tests.machine.model import FINAL, Stored
from tests.support.factories import READ_ALL, plain, structure_violations

Picture = dict[str, Any]


def take(pool: Pool) -> Picture:
    """Every key of the pool, without its prefix. One round trip."""
    prefix = pool.keys.prefix
    found = pool.client.eval(READ_ALL, 0)
    return {name.removeprefix(prefix): plain(kind, value) for name, kind, value, _ in found}


def without_noise(picture: Picture) -> Picture:
    """What an event that comes too late must leave as it was.

    All but the tails, the streams it came by, its own count, and how far the streams are read.
    """
    noise = {"events", "rejected", "heartbeats", "completions"}
    left = {name: value for name, value in picture.items() if name not in noise}
    counts = picture.get("pool", {}).items()
    own = ("completions_", "heartbeats_")
    left["pool"] = {name: n for name, n in counts if not name.startswith(own)}
    left["meta"] = {name: it for name, it in picture["meta"].items() if name != "hb_mark_ms"}
    return left


def under(picture: Picture, family: str) -> dict[str, Any]:
    """The keys of one family (`task`, `lane`, ...) by what follows its name."""
    start = f"{family}:"
    return {name[len(start) :]: it for name, it in picture.items() if name.startswith(start)}


def tasks(picture: Picture) -> Stored:
    """What `Model.tasks_as_stored` says, as Redis has it."""
    out: Stored = {}
    for id_, f in under(picture, "task").items():
        counts = tuple(int(f.get(name, 0)) for name in ("attempt", "failures", "losses"))
        # While a lease is open, `close` still says how the one before it closed.
        close = "" if f["state"] == "assigned" else f.get("close", "")
        lease = (f.get("agent", ""), f.get("nonce", ""), close)
        parents, result = picture.get(f"parents:{id_}", set()), picture.get(f"result:{id_}", "")
        history = picture.get(f"hist:{id_}", [])
        since = (f["lane"], history, f["d"].split("|")[0], "cancel" in f)
        out[id_] = (f["state"], counts, lease, parents, result, since)
    return out


def places(picture: Picture) -> dict[str, int]:
    """Where each pending task stands in its lane."""
    return {
        id_: int(place) for lane in under(picture, "lane").values() for id_, place in lane.items()
    }


def agents(picture: Picture) -> Stored:
    """What `Model.agents_as_stored` says, as Redis has it."""
    out: Stored = {}
    for id_, f in under(picture, "agent").items():
        held = {
            nonce: (*record.split(" ")[:3], " orphaned" in record, " cancel=" in record)
            for nonce, record in picture.get(f"held:{id_}", {}).items()
        }
        numbers = tuple(int(f[name]) for name in ("used", "n", "max", "seq", "beat_ms"))
        numbers += (int(f["d"].split("|")[0]),)
        words = (f["role"], f["state"], f["mode"], f["boot"])
        word, until_ms, _ = [*f["admin"].split("|"), "0", ""][:3]
        said = (word, int(until_ms) if word == "retiring" else 0)
        out[id_] = (words, f["boots"].split(), numbers, held, said)
    return out


def disagreements(picture: Picture, latest_ms: int, grace_ms: int) -> list[str]:
    """Where two keys tell different stories.

    `latest_ms` is the latest time that the pool was told, `grace_ms` the latest end of a grace.
    """
    return structure_violations(picture, "") + _forgotten(picture, latest_ms, grace_ms)


def _forgotten(picture: Picture, latest_ms: int, grace_ms: int) -> list[str]:
    """What nobody will ever look at again."""
    out, timers = [], picture.get("agent_timers", {})
    for id_, agent in under(picture, "agent").items():
        records = picture.get(f"held:{id_}", {}).values()
        orphaned = sum(" orphaned" in record for record in records)
        by_ms = latest_ms
        if agent["state"] == "live" and not orphaned:
            lost_ms = int(agent["beat_ms"]) + int(agent["d"].split("|")[0])
            by_ms = max(lost_ms, latest_ms, grace_ms) + 1
            if agent["admin"].startswith("retiring"):
                by_ms = min(by_ms, max(int(agent["admin"].split("|")[1]), latest_ms))
        if (agent["state"] == "live" or records) and timers.get(id_, by_ms + 1) > by_ms:
            out.append(
                f"{id_} is {agent['state']}, {orphaned} leases orphaned, its timer {timers.get(id_)}"
            )
    known, untold = under(picture, "task"), picture.get("release", {})
    for id_, parents in under(picture, "parents").items():
        # What a dead task waited for is kept, and of no account until it is retried.
        for parent in parents if known[id_]["state"] == "blocked" else ():
            if known[parent]["state"] in FINAL and parent not in untold:
                out.append(f"{id_} waits for {parent}, which has ended and tells nobody")
            if id_ not in picture.get(f"children:{parent}", {}):
                out.append(f"{id_} waits for {parent}, which does not know it")
    return out


def left_over(picture: Picture) -> Picture:
    """What is still there, of what must be gone when all work has ended and all agents have left."""
    names = {
        "leases", "failed", "blocked", "scheduled", "expiry", "release", "laneref", "lanedef", "classn", "classdef",
        "alive", "agent_timers",
    }  # fmt: skip
    families = (
        "pending:",
        "lane:",
        "lanes:",
        "held:",
        "free:",
        "turn:",
        "fc:",
        "parents:",
        "children:",
    )
    known = under(picture, "task")
    #: For a retry.
    kept = {f"parents:{id_}" for id_, task in known.items() if task["state"] == "dead"}
    left = {
        n: it
        for n, it in picture.items()
        if n in names or (n.startswith(families) and n not in kept)
    }
    for id_, inbox in under(picture, "inbox").items():
        # What a retired agent was told stays until it is forgotten.
        if any(fields.get("kind") != "retire" for fields in inbox.values()):
            left[f"inbox:{id_}"] = inbox
    for name in ("pool", *(f"role:{role}" for role in under(picture, "role"))):
        for field in ("capacity", "used", "running", "agents"):
            if int(picture.get(name, {}).get(field, 0)):
                left[f"{name} {field}"] = picture[name][field]
    return left
