"""One role as a planner would see it, and more: agents that are busy or accept nothing, and what they hold.

At most seven round trips. What is read is bounded whatever the pool holds; `examined` says what was left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from balancer.core.explain.picture import Picture
from balancer.core.lanes import AgentClass, feasible, read_class, read_lane
from balancer.core.turns import Order
from balancer.ledger.exchange import Command, Exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.read_picture import MOST_UNITS, Around, Counts, Found, LaneRead, picture_of
from balancer.ledger.read_role_agents import AGENT, read_lost, read_running, seen_of

#: What is looked at, at most. Tasks: heads of lanes.
MOST_AGENTS, MOST_CLASSES, MOST_LANES, MOST_TASKS = 1_000, 256, 256, 1_000
#: What is read of a task; the last two say whether it is where it was.
_TASK = ("d", "e", "p", "state", "lane")


def read_role(pool: PoolRef, around: Around) -> Exchange[Picture | None]:
    """The role of a task. None when the task has moved meanwhile, and nothing describes where it was any more.

    The pool works on between two round trips. So all that says who has room for what comes of one, the one that
    reads the agents: who is full, what is free, and which tasks still wait.
    """
    counts = yield from _read_counts(pool, around)
    if counts is None:
        return None
    lanes, classes = yield from _read_lanes(pool, around, counts)
    first = yield from _first_free(pool, counts, classes)
    ids = list(dict.fromkeys([*counts.lane.tried, *counts.lane.avoid, *first, *counts.alive]))
    ids = ids[:MOST_AGENTS]
    tasks = [*(task for lane in lanes for task, _ in lane.heads), around.task_id]
    role = around.fields["role"]
    free, *replies = yield [
        ("ZREVRANGE", pool.keys.free_units(role), 0, MOST_CLASSES - 1, "WITHSCORES"),
        *(("HMGET", pool.keys.agent(id_), *AGENT) for id_ in ids),
        *(("HMGET", pool.keys.task(task), *_TASK) for task in tasks),
    ]
    facts = dict(zip(tasks, replies[len(ids) :], strict=True))
    if facts[around.task_id][3:] != [around.fields["state"], around.fields.get("lane")]:
        return None
    rows = {
        id_: row
        for id_, reply in zip(ids, replies, strict=False)
        if (row := dict(zip(AGENT, reply, strict=True)))["role"] == role and row["state"] == "live"
    }
    unknown = {row["class"] for row in rows.values()} - classes.keys()
    classes |= yield from _read_classes(pool, sorted(unknown))
    agents = [
        seen_of(id_, row, classes[row["class"]], around, counts.order)
        for id_, row in rows.items()
        if row["class"] in classes
    ]
    running = yield from read_running(pool, around, counts.lane, agents, rows)
    lost = [] if agents else (yield from read_lost(pool, role))
    lanes = [_waiting(lane, facts, around) for lane in lanes]
    counts = counts._replace(free={id_: int(units) for id_, units in free})
    return picture_of(Found(around, counts, classes, lanes, facts, agents, running, len(ids), lost))


def _waiting(lane: LaneRead, facts: Mapping[str, Sequence[str | None]], around: Around) -> LaneRead:
    """The lane without those that have left it since it was read."""
    heads = [(task, at) for task, at in lane.heads if facts[task][3:] == ["pending", lane.id]]
    gone = len(lane.heads) - len(heads)
    if not gone:
        return lane
    before = sum(at < around.order_us for _, at in lane.heads)
    before -= sum(at < around.order_us for _, at in heads)
    return lane._replace(heads=heads, size=lane.size - gone, before=lane.before - before)


def _read_counts(pool: PoolRef, around: Around) -> Exchange[Counts | None]:
    keys, role, lane_id = pool.keys, around.fields["role"], around.fields.get("lane", "")
    replies = yield [
        ("HGET", keys.lanedef, lane_id),
        ("HGETALL", keys.role(role)),
        ("ZREVRANGE", keys.capacity(role), 0, MOST_CLASSES - 1, "WITHSCORES"),
        ("ZCARD", keys.capacity(role)),
        ("ZREVRANGE", keys.free_units(role), 0, MOST_CLASSES - 1, "WITHSCORES"),
        ("ZRANGE", keys.lanes(role), 0, MOST_LANES - 1, "WITHSCORES"),
        ("ZCARD", keys.lanes(role)),
        ("ZRANGE", keys.alive, 0, MOST_AGENTS - 1),
        ("ZCARD", keys.alive),
        ("ZRANK", keys.lane(lane_id), around.task_id),
        ("HGET", keys.meta, "order"),
    ]
    definition, counters, capacity, classes_of, free, lanes, lanes_of, alive, alive_of = replies[:9]
    rank, order = replies[9:]
    if definition is None or (rank is None and around.fields["state"] == "pending"):
        return None
    lanes = {id_: float(score) for id_, score in lanes}
    if rank is not None:
        # Its own lane may stand behind those of the page.
        lanes.setdefault(lane_id, around.order_us)
    return Counts(
        read_lane(definition),
        counters,
        {id_: int(units) for id_, units in capacity},
        classes_of,
        {id_: int(units) for id_, units in free},
        lanes,
        lanes_of,
        alive,
        alive_of,
        rank or 0,
        # Behind `|` stands whether turns are kept beside it.
        Order(order.partition("|")[0]),
    )


def _read_classes(pool: PoolRef, ids: Sequence[str]) -> Exchange[dict[str, AgentClass]]:
    if not ids:
        return {}
    (texts,) = yield [("HMGET", pool.keys.classdef, *ids)]
    return _classes(ids, texts)


def _classes(ids: Sequence[str], texts: Sequence[str | None]) -> dict[str, AgentClass]:
    return {id_: read_class(text) for id_, text in zip(ids, texts, strict=True) if text}


def _read_lanes(
    pool: PoolRef, around: Around, counts: Counts
) -> Exchange[tuple[list[LaneRead], dict[str, AgentClass]]]:
    """The lanes with their first tasks, and the classes."""
    keys, ids = pool.keys, list(counts.lanes)
    most = max(4, MOST_TASKS // max(1, len(ids)))
    asks: list[Command] = []
    for id_ in ids:
        # Of its own lane as many as a plan may place.
        own = min(counts.before + 1, MOST_UNITS) if id_ == around.fields["lane"] else 0
        asks += [
            ("HGET", keys.lanedef, id_),
            ("ZCARD", keys.lane(id_)),
            ("ZCOUNT", keys.lane(id_), "-inf", f"({around.fields['order_us']}"),
            ("ZRANGE", keys.lane(id_), 0, max(most, own) - 1, "WITHSCORES"),
        ]
    class_ids = list(dict.fromkeys([*counts.capacity, *counts.free]))
    asks += [("HMGET", keys.classdef, *class_ids)] if class_ids else []
    replies = (yield asks) if asks else []
    lanes = [
        LaneRead(id_, read_lane(text), size, before, [(task, float(at)) for task, at in heads])
        for id_, (text, size, before, heads) in zip(ids, _fours(replies), strict=True)
        if text and size
    ]
    return lanes, _classes(class_ids, replies[-1]) if class_ids else {}


def _first_free(
    pool: PoolRef, counts: Counts, classes: Mapping[str, AgentClass]
) -> Exchange[list[str]]:
    """The free agents that a plan would look at first, where there are more live ones than are read anyway."""
    able = [id_ for id_ in counts.free if id_ in classes and feasible(counts.lane, classes[id_])]
    if not able or counts.alive_of <= len(counts.alive):
        return []
    each = max(4, MOST_AGENTS // 2 // len(able))
    pages = yield [("ZRANGE", pool.keys.free(id_), 0, each - 1) for id_ in able]
    return [id_ for page in pages for id_ in page]


def _fours(replies: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (replies[at : at + 4] for at in range(0, len(replies) - 3, 4))
