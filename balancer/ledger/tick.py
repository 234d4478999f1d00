"""What time alone changes: the typed twin of tick.lua."""

from __future__ import annotations

from typing import NamedTuple

from balancer.ledger.pool import Pool
from balancer.ledger.script import Script

SCRIPT = Script("tick")
#: A pause of this length between ticks (nobody swept: an outage, a stopped fleet) starts a grace
#: period, milliseconds.
GAP_MS = 10_000
#: Length of a grace period beyond the gap itself, milliseconds: every live agent can be heard of
#: within it.
GRACE_MS = 15_000
#: Heartbeats older than this are trimmed, milliseconds.
KEEP_MS = 600_000
#: An agent that is gone this long is forgotten, milliseconds.
FORGET_MS = 86_400_000


class Ticked(NamedTuple):
    """What is due now. `agents`: at most 200 to call reclaim for."""

    in_grace: bool
    tries_due: bool
    leases_due: bool
    release_due: bool
    agents: list[str]


def tick(
    pool: Pool,
    grace_ms: int = GRACE_MS,
    gap_ms: int = GAP_MS,
    keep_ms: int = KEEP_MS,
    forget_ms: int = FORGET_MS,
) -> Ticked:
    """Notice a stopped or jumping clock, trim heartbeats, and say what is due."""
    grace, tries, leases, release, agents = pool.run(SCRIPT, [grace_ms, gap_ms, keep_ms, forget_ms])
    return Ticked(bool(grace), bool(tries), bool(leases), bool(release), list(agents))
