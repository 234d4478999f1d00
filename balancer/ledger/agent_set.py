"""What an operator says about an agent: the typed twin of agent_set.lua."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from balancer.core.model import Admin
from balancer.ledger.exchange import Exchange, exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.script import Script

SCRIPT = Script("agent_set")
#: The latest deadline of a retire, seconds from now.
MOST_DEADLINE_S = 30 * 86_400


class Verb(StrEnum):
    """What can be said."""

    PAUSE = "pause"
    RESUME = "resume"
    RETIRE = "retire"


class Outcome(StrEnum):
    """What it did."""

    PAUSED = "paused"
    RESUMED = "resumed"
    RETIRING = "retiring"
    RETIRED = "retired"
    ALREADY = "already"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class AgentSet(NamedTuple):
    """The answer, and how many leases the agent holds."""

    outcome: Outcome
    held: int


class Said(NamedTuple):
    """The stored field `admin` of an agent: what an operator said, and until when."""

    word: Admin
    retires_ms: int | None

    @classmethod
    def read(cls, text: str) -> Said:
        """Parse the stored field."""
        word, _, rest = text.partition("|")
        ms = rest.partition("|")[0]
        return cls(Admin(word or "none"), int(ms) if word == Admin.RETIRING else None)


@exchange
def agent_set(
    pool: PoolRef, agent_id: str, verb: Verb, deadline_s: float = 0.0
) -> Exchange[AgentSet]:
    """Pause, resume or retire an agent. Sent again it changes nothing; a shorter deadline counts.

    Args:
        pool: the pool.
        agent_id: the agent.
        verb: what is said.
        deadline_s: of a retire: how long it may keep what it holds, 0 to MOST_DEADLINE_S.
    """
    (reply,) = yield [pool.call(SCRIPT, [agent_id, verb.value, round(deadline_s * 1000)])]
    return AgentSet(Outcome(reply[0]), int(reply[1]))
