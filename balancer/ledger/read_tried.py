"""On whom a task failed, and whether that keeps it from them: a few round trips, whatever the pool holds."""

from __future__ import annotations

from typing import NamedTuple

from balancer.core.explain.picture import refusal
from balancer.core.fleet import Fleet
from balancer.core.lanes import Lane, read_class
from balancer.core.model import AgentState
from balancer.ledger.agent_set import Said
from balancer.ledger.exchange import Exchange, exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.read_unplaceable import open_classes


class Tried(NamedTuple):
    """The agents on which a task failed. `is_void`: all that could have it have failed it, so they may again."""

    agents: tuple[str, ...] = ()
    is_void: bool = False


@exchange
def tried(pool: PoolRef, lane: Lane | None) -> Exchange[Tried]:
    """Of the tasks of this lane, by the planner's rule."""
    if lane is None or not lane.tried:
        return Tried()
    (classes,) = yield from open_classes(pool, [lane.role])
    rows = yield [
        ("HMGET", pool.keys.agent(id_), "class", "state", "mode", "admin") for id_ in lane.tried
    ]
    accepting = {
        id_: class_id
        for id_, (class_id, state, mode, admin) in zip(lane.tried, rows, strict=True)
        if state == AgentState.LIVE and refusal(mode, Said.read(admin or "").word) is None
    }
    texts = (yield [("HMGET", pool.keys.classdef, *accepting.values())])[0] if accepting else ()
    named = {id_: read_class(text) for id_, text in zip(accepting, texts, strict=True) if text}
    return Tried(lane.tried, not Fleet(classes).void_tried(lane, named).tried)
