"""Which of the waiting tasks no agent could have: a few round trips, whatever the pool holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from balancer.core.explain.short import shortage
from balancer.core.lanes import AgentClass, Lane, is_unplaceable, read_class, read_lane
from balancer.ledger.exchange import Exchange, exchange
from balancer.ledger.pool import PoolRef

#: What is looked at, at most: classes of a role, those of the most units; lanes of all roles together, the
#: first in line.
MOST_CLASSES, MOST_LANES = 256, 2_000


class Unplaceable(NamedTuple):
    """Pending tasks of a role that none of its agents that accept work could have, and the first of them."""

    tasks: int = 0
    first: str | None = None


@exchange
def unplaceable(pool: PoolRef, roles: Sequence[str]) -> Exchange[list[Unplaceable]]:
    """An answer a role."""
    if not roles:
        return []
    keys, each = pool.keys, max(4, MOST_LANES // len(roles))
    lanes = yield [("ZRANGE", keys.lanes(role), 0, each - 1) for role in roles]
    open_ = yield from open_classes(pool, roles)
    ids = [id_ for page in lanes for id_ in page]
    texts = (yield [("HMGET", keys.lanedef, *ids)])[0] if ids else []
    known = {id_: read_lane(text) for id_, text in zip(ids, texts, strict=True) if text}
    stuck = [
        [id_ for id_ in page if id_ in known and is_unplaceable(known[id_], classes)]
        for page, classes in zip(lanes, open_, strict=True)
    ]
    found = [id_ for page in stuck for id_ in page]
    if not found:
        return [Unplaceable()] * len(roles)
    replies = yield [
        ask
        for id_ in found
        for ask in (("ZCARD", keys.lane(id_)), ("ZRANGE", keys.lane(id_), 0, 0))
    ]
    sizes = dict(zip(found, zip(replies[::2], replies[1::2], strict=True), strict=True))
    return [_summed([sizes[id_] for id_ in page]) for page in stuck]


@exchange
def why_unplaceable(pool: PoolRef, lane: Lane) -> Exchange[str | None]:
    """Why no agent that accepts work could have a task of this lane, in words; None when one could."""
    (classes,) = yield from open_classes(pool, [lane.role])
    return shortage(lane, classes)


def open_classes(
    pool: PoolRef, roles: Sequence[str]
) -> Exchange[list[list[tuple[AgentClass, int]]]]:
    """Of each role the classes whose agents accept work, with the units of all of them."""
    pages = yield [
        ("ZREVRANGE", pool.keys.capacity(role), 0, MOST_CLASSES - 1, "WITHSCORES") for role in roles
    ]
    ids = list(dict.fromkeys(id_ for page in pages for id_, _ in page))
    texts = (yield [("HMGET", pool.keys.classdef, *ids)])[0] if ids else []
    known: Mapping[str, AgentClass] = {
        id_: read_class(text) for id_, text in zip(ids, texts, strict=True) if text
    }
    return [[(known[id_], int(units)) for id_, units in page if id_ in known] for page in pages]


def _summed(lanes: Sequence[tuple[int, Sequence[str]]]) -> Unplaceable:
    first = next((head[0] for _, head in lanes if head), None)
    return Unplaceable(sum(size for size, _ in lanes), first)
