"""Making proposals true: the typed twin of commit.lua."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from balancer.core.planner import MOST, Proposal
from balancer.core.strategies import Scores
from balancer.ledger.exchange import Arg, Exchange, exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.script import Script

SCRIPT = Script("commit")
#: Proposals a call.
CAP = MOST


class Outcome(StrEnum):
    """What became of one proposal."""

    ASSIGNED = "assigned"
    ALREADY = "already"
    NOT_PENDING = "not_pending"
    MOVED = "moved"
    NOT_ACCEPTING = "not_accepting"
    FULL = "full"
    NO_AGENT = "no_agent"
    WRONG_ROLE = "wrong_role"
    LACKS_SKILL = "lacks_skill"


class Committed(NamedTuple):
    """The answer for one proposal; `attempt` counts the grants of the task so far."""

    outcome: Outcome
    attempt: int


def pack_scores(scores: Scores) -> str:
    """Named score parts in one short line, as stored with the task."""
    return _packed(tuple(scores.items()))


@lru_cache(maxsize=10_000)
def _packed(scores: tuple[tuple[str, float], ...]) -> str:
    # The same few scores come again and again.
    return ",".join([f"{name}={value:.4g}" for name, value in scores])


def read_scores(text: str) -> Scores:
    """The reverse of pack_scores."""
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {name: float(value) for name, _, value in pairs}


class Grant(NamedTuple):
    """The facts of a task's last grant, as the field `grant` keeps them: one short value instead of
    four.
    """

    granted_us: int
    freed_us: int
    estimate_ms: int
    strategy: str

    @classmethod
    def read(cls, text: str) -> Grant:
        """Parse the stored field."""
        granted_us, freed_us, estimate_ms, strategy = text.split("|")
        return cls(int(granted_us), int(freed_us), int(estimate_ms), strategy)


@exchange
def commit(
    pool: PoolRef, proposals: Sequence[Proposal], unlock: str = ""
) -> Exchange[list[Committed]]:
    """Check each proposal against what is true now and grant those that still hold, in one atomic
    call.

    A proposal need not come from a planner: one for a named task and a named agent is checked alike.
    One that is sent again answers `already`. At most CAP a call. `unlock` is the token of the
    drain lock, to be given back with it when all are granted.
    """
    if not proposals:
        return []
    args: list[Arg] = [unlock]
    for p in proposals:
        facts = f"{round(p.estimate_s * 1000)}|{p.strategy}"
        if p.draw is not None:
            facts += f"|{p.draw:012x}"
        why = f"{p.agent_type}|{pack_scores(p.scores)}"
        args += (p.task, p.agent, p.nonce, facts, why, p.lane)
    (reply,) = yield [pool.call(SCRIPT, args)]
    return [Committed(Outcome(reply[2 * i]), int(reply[2 * i + 1])) for i in range(len(proposals))]
