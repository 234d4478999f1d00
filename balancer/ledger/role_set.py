"""Holding, releasing and emptying a role's queue: the typed twin of role_set.lua."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from balancer.ledger.exchange import Arg, Exchange, exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.script import Script

SCRIPT = Script("role_set")
#: In this order nothing slips through: what becomes ready meanwhile is met where it goes.
_STATES = ("scheduled", "failed", "blocked", "pending")


class Outcome(StrEnum):
    """What became of a role's queue."""

    OK = "ok"
    ALREADY = "already"
    UNKNOWN = "unknown"


class Purged(NamedTuple):
    """How many waiting tasks were cancelled."""

    outcome: Outcome
    cancelled: int


@exchange
def pause(pool: PoolRef, role: str) -> Exchange[Outcome]:
    """Hand out no more of a role's work. What agents hold goes on, and new work is accepted."""
    ((outcome, *_),) = yield [pool.call(SCRIPT, [role, "pause"])]
    return Outcome(outcome)


@exchange
def resume(pool: PoolRef, role: str) -> Exchange[Outcome]:
    """Hand out a role's work again."""
    ((outcome, *_),) = yield [pool.call(SCRIPT, [role, "resume"])]
    return Outcome(outcome)


@exchange
def purge(pool: PoolRef, role: str) -> Exchange[Purged]:
    """Cancel all of a role's tasks that waited when this began, in pages of 200. Tasks that an agent
    holds stay, and so does what is submitted meanwhile.

    When a reply is lost and the page is sent again, its tasks are cancelled all the same, but not
    counted here.
    """
    total, moment_us = 0, ""
    for state in _STATES:
        offset = 0
        while offset >= 0:
            args: list[Arg] = [role, "purge", state, offset, moment_us]
            ((outcome, cancelled, offset, moment_us),) = yield [pool.call(SCRIPT, args)]
            if outcome == Outcome.UNKNOWN:
                return Purged(Outcome.UNKNOWN, 0)
            total += int(cancelled)
    return Purged(Outcome.OK, total)
