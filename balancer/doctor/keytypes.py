"""Whether the pool's keys are of the types that the scripts expect."""

from __future__ import annotations

from collections.abc import Iterator

from balancer.doctor.finding import Finding, fail, ok
from balancer.doctor.visit import Visit

#: The keys of the pool itself, by type; a test holds them against `balancer.protocol.keys`.
KINDS = {
    "hash": "meta settings rescore lanedef laneref classdef classn pool est est_old",
    "set": "roles",
    "zset": "scheduled expiry blocked release failed leases completed dead cancelled alive gone agent_timers",
    "stream": "heartbeats completions events rejected",
    "list": "wake",
    "string": "drain_lock",
}
#: Tasks and agents whose keys are looked at.
SAMPLE = 50


def key_types(visit: Visit) -> Iterator[Finding]:
    """All keys of the pool itself, those of its roles, and of some tasks and agents."""
    expected = _expected(visit)
    pipe = visit.client.pipeline(transaction=False)
    for key in expected:
        pipe.type(key)
    found = dict(zip(expected, pipe.execute(), strict=True))
    wrong = [
        f"{key} is a {kind}, not a {expected[key]}"
        for key, kind in found.items()
        if kind not in ("none", expected[key])
    ]
    if wrong:
        yield fail(
            "keys",
            f"{len(wrong)} of another type: {'; '.join(wrong[:5])}",
            f"something else writes below {visit.keys.prefix}: find it, then delete or rename these keys",
            "configuration",
        )
    else:
        yield ok(
            "keys",
            f"{sum(kind != 'none' for kind in found.values())} looked at, all of the right type",
        )


def _expected(visit: Visit) -> dict[str, str]:
    keys, client = visit.keys, visit.client
    expected = {
        str(getattr(keys, name)): kind for kind, names in KINDS.items() for name in names.split()
    }
    pipe = client.pipeline(transaction=False)
    pipe.srandmember(keys.roles, SAMPLE)
    for zset in (keys.leases, keys.alive):
        pipe.zrange(zset, 0, SAMPLE - 1)
    roles, tasks, agents = (
        () if isinstance(answer, Exception) else answer
        for answer in pipe.execute(raise_on_error=False)
    )
    for role in roles:
        expected |= {keys.role(role): "hash", keys.pending(role): "zset", keys.lanes(role): "zset"}
        expected |= {keys.free_units(role): "zset", keys.capacity(role): "zset"}
    for task in tasks:
        expected |= {keys.task(task): "hash", keys.body(task): "string"}
    for agent in agents:
        expected |= {keys.agent(agent): "hash", keys.held(agent): "hash"}
        expected[keys.inbox(agent)] = "stream"
    return expected
