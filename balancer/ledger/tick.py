"""What time alone changes: the typed twin of tick.lua."""

from __future__ import annotations

from typing import NamedTuple

from redis.exceptions import ResponseError

from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("tick")
#: A pause of this length between ticks (nobody swept: an outage, a stopped fleet) starts a grace
#: period, milliseconds.
GAP_MS = 5_000
#: Length of a grace period beyond the gap itself, milliseconds: every live agent can be heard of
#: within it.
GRACE_MS = 15_000
#: Heartbeats older than this are trimmed, milliseconds.
KEEP_MS = 600_000
#: An agent that is gone this long is forgotten, milliseconds.
FORGET_MS = 86_400_000


class Memory(NamedTuple):
    """Redis' memory in bytes. A limit of 0: there is none, or it is not known."""

    used: int
    limit: int


NO_LIMIT = Memory(0, 0)


def read_memory(pool: Pool) -> Memory:
    """What Redis says of its memory; NO_LIMIT where it does not let us ask."""
    try:
        info = pool.client.info("memory")
    except ResponseError:
        return NO_LIMIT
    return Memory(int(info.get("used_memory", 0)), int(info.get("maxmemory", 0)))


class Ticked(NamedTuple):
    """What is due now. `tries_due`: retries or scheduled tasks. `agents`: at most 200 to call reclaim for.
    `memory_full`: new tasks are refused, so that completions fit. `rescore_due`: waiting tasks have
    the place that earlier settings gave them.
    """

    in_grace: bool
    tries_due: bool
    leases_due: bool
    release_due: bool
    agents: list[str]
    expiry_due: bool
    memory_full: bool
    rescore_due: bool
    settings_ver: int


def tick(
    pool: Pool,
    grace_ms: int = GRACE_MS,
    gap_ms: int = GAP_MS,
    keep_ms: int = KEEP_MS,
    forget_ms: int = FORGET_MS,
    *,
    memory: Memory = NO_LIMIT,
) -> Ticked:
    """Notice a stopped or jumping clock, trim heartbeats, judge Redis' memory, and say what is due."""
    high_permille = round(1000 * pool.settings.memory_high_share)
    args = [grace_ms, gap_ms, keep_ms, forget_ms, memory.used, memory.limit, high_permille]
    grace, tries, leases, release, agents, expiry, full, rescore, ver = pool.run(SCRIPT, args)
    return Ticked(
        bool(grace),
        bool(tries),
        bool(leases),
        bool(release),
        list(agents),
        bool(expiry),
        bool(full),
        bool(rescore),
        int(ver),
    )
