"""Telling children that a parent ended: the typed twin of release.lua."""

from __future__ import annotations

from typing import NamedTuple

from balancer.ledger.exchange import Exchange, exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.script import Script

SCRIPT = Script("release")
#: Children and parents a call.
CAP = 200


class Released(NamedTuple):
    """How many children became ready, how many died of their parent or were cancelled for it, and
    whether work is left.
    """

    ready: int
    dead: int
    skipped: int
    more: bool


@exchange
def release(pool: PoolRef) -> Exchange[Released]:
    """Work off at most 200 children of finished parents."""
    ((ready, dead, skipped, more),) = yield [pool.call(SCRIPT)]
    return Released(int(ready), int(dead), int(skipped), bool(more))
