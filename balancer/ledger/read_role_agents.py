"""The agents of a role as an explanation looks at them: live ones, what they hold, and those that were lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from balancer.core.explain.judge import MOST_NAMED
from balancer.core.explain.picture import Running, Seen, refusal
from balancer.core.health import health
from balancer.core.invariants import Lease
from balancer.core.lanes import AgentClass, Lane, feasible
from balancer.core.model import AgentState
from balancer.core.turns import Order, nearness
from balancer.core.view import FreeAgent
from balancer.ledger.agent_set import Said
from balancer.ledger.beat import Declared
from balancer.ledger.commit import Grant
from balancer.ledger.exchange import Exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.read_picture import Around, effort_ms

#: Leases that are looked at, at most.
MOST_LEASES = 1_000
#: Agents that are gone are looked at, too, where none is live.
MOST_GONE = 200
#: What is read of an agent.
AGENT = (
    *("role", "class", "max", "used", "n", "freed_us", "beat_ms", "d", "mode", "admin", "turn"),
    "state",
)


def seen_of(
    id_: str, row: Mapping[str, str], cls: AgentClass, around: Around, order: Order
) -> Seen:
    """An agent, from what was read of it."""
    declared = Declared.read(row["d"])
    silent_ms = around.mark_ms - int(row["beat_ms"])
    turn = int(row["turn"] or 0)
    near = 0.0
    if order is Order.GRANT:
        near = (around.now_us - turn) / 1e6
    elif order is Order.DRAW:
        near = nearness(turn, 0)
    agent = FreeAgent(
        id_,
        declared.type,
        cls.max_concurrent,
        int(row["used"]),
        health(silent_ms, declared.interval_ms, declared.ttl_ms),
        int(row["freed_us"]),
        near,
    )
    return Seen(cls, row["class"], agent, refusal(row["mode"], Said.read(row["admin"] or "").word))


def read_running(
    pool: PoolRef,
    around: Around,
    lane: Lane,
    agents: Sequence[Seen],
    rows: Mapping[str, Mapping[str, str]],
) -> Exchange[list[Running]]:
    """What those hold that could have the task; the holder of the task first."""
    holder = around.fields.get("agent")
    able = [seen.agent.id for seen in agents if feasible(lane, seen.cls)]
    able.sort(key=lambda id_: id_ != holder)
    asked, left = [], MOST_LEASES
    for id_ in able:
        left -= int(rows[id_]["n"])
        if left < 0:
            break
        if int(rows[id_]["n"]):
            asked.append(id_)
    if not asked:
        return []
    held = yield [("HVALS", pool.keys.held(id_)) for id_ in asked]
    leases = [
        (id_, Lease.read(record))
        for id_, records in zip(asked, held, strict=True)
        for record in records
    ]
    # The task of its own lease first: whoever asks for it finds it there.
    leases.sort(key=lambda pair: pair[1].task != around.task_id)
    if not leases:
        return []
    facts = yield [("HMGET", pool.keys.task(lease.task), "grant", "e") for _, lease in leases]
    return [
        _running(id_, lease, fact[0], fact[1], around.now_us)
        for (id_, lease), fact in zip(leases, facts, strict=True)
        if fact[0]
    ]


def _running(agent: str, lease: Lease, packed: str, effort: str | None, now_us: int) -> Running:
    grant = Grant.read(packed)
    estimate_s = grant.estimate_ms / 1e3
    elapsed_s = max(0.0, (now_us - grant.granted_us) / 1e6)
    mean_ms, p90_ms = effort_ms(effort)
    return Running(agent, lease.cost, elapsed_s, estimate_s, estimate_s * p90_ms / mean_ms)


def read_lost(pool: PoolRef, role: str) -> Exchange[list[str]]:
    """Agents of the role that were lost, the last ones first."""
    (gone,) = yield [("ZREVRANGE", pool.keys.gone, 0, MOST_GONE - 1)]
    if not gone:
        return []
    rows = yield [("HMGET", pool.keys.agent(id_), "role", "state") for id_ in gone]
    lost = [id_ for id_, row in zip(gone, rows, strict=True) if row == [role, AgentState.LOST]]
    return lost[:MOST_NAMED]
