"""What was read of a role, put together: the picture that `core/explain` judges, and in it the view of a planner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from balancer.core.explain.answer import Examined
from balancer.core.explain.picture import Ahead, Picture, Running, Seen
from balancer.core.fleet import Fleet
from balancer.core.lanes import AgentClass, Lane
from balancer.core.turns import Order
from balancer.core.view import FreeAgent, FreeClass, Head, LaneView, Named, RoleView, View
from balancer.ledger.view import UNKNOWN_S, read_heads

#: A plan is made for so many units.
MOST_UNITS = 128


class Around(NamedTuple):
    """The task around which a role is read: its fields, and the pool's time."""

    task_id: str
    fields: Mapping[str, str]
    now_us: int
    #: Silence is judged against this: heartbeats up to then were applied.
    mark_ms: int
    #: Whether a balancer serves the pool.
    unserved: Mapping[str, Any]

    @property
    def order_us(self) -> float:
        """Its place in line."""
        return float(self.fields["order_us"])


class Counts(NamedTuple):
    """What the role's indexes say."""

    lane: Lane
    counters: Mapping[str, str]
    capacity: dict[str, int]
    classes_of: int
    free: dict[str, int]
    lanes: dict[str, float]
    lanes_of: int
    alive: list[str]
    alive_of: int
    before: int
    order: Order


class LaneRead(NamedTuple):
    """One lane: its definition, size, tasks that stand before ours, and the first tasks with their places."""

    id: str
    lane: Lane
    size: int
    before: int
    heads: list[tuple[str, float]]


class Found(NamedTuple):
    """All that was read. `facts`: fields d, e and p by task."""

    around: Around
    counts: Counts
    classes: Mapping[str, AgentClass]
    lanes: Sequence[LaneRead]
    facts: Mapping[str, Sequence[str | None]]
    agents: Sequence[Seen]
    running: Sequence[Running]
    looked_at: int


def effort_ms(effort: str | None) -> tuple[int, int]:
    """Mean and p90 of what a task is expected to take."""
    if not effort:
        return round(1_000 * UNKNOWN_S), round(1_000 * UNKNOWN_S)
    mean_ms, p90_ms, *_ = effort.split("|")
    return max(1, int(mean_ms)), max(1, int(p90_ms))


def picture_of(found: Found) -> Picture:
    """The picture around one task."""
    around, counts, own_id = found.around, found.counts, found.around.task_id
    shown = {lane.id: _heads(found, lane.heads) for lane in found.lanes}
    (head,) = _heads(found, [(own_id, around.order_us)])
    own = next((lane for lane in found.lanes if lane.id == around.fields["lane"]), None)
    ahead = [
        Ahead(one.order_us, lane.lane, one.estimate_s, _p90_s(found, one.task))
        for lane in found.lanes
        for one in shown[lane.id]
        if one.order_us < around.order_us
    ]
    return Picture(
        view=View(around.now_us // 1_000, False, [_role_view(found, shown)]),
        lane=counts.lane,
        head=head,
        p90_s=_p90_s(found, own_id),
        before=counts.before,
        size=own.size if own else 0,
        is_paused="paused" in counts.counters,
        agents=list(found.agents),
        class_ids={cls: id_ for id_, cls in found.classes.items()},
        live=int(counts.counters.get("agents", 0)),
        free_units=_by_class(found, counts.free),
        ahead=ahead,
        ahead_of=sum(lane.before for lane in found.lanes),
        running=list(found.running),
        is_served=around.unserved["is_served"],
        unserved_s=around.unserved["unserved_s"],
        examined=Examined(
            agents=len(found.agents),
            pool_agents=found.looked_at,
            pool_agents_of=max(found.looked_at, counts.alive_of),
            classes=len(counts.capacity),
            classes_of=counts.classes_of,
            lanes=len(counts.lanes),
            lanes_of=max(len(counts.lanes), counts.lanes_of),
        ),
    )


def _role_view(found: Found, shown: Mapping[str, list[Head]]) -> RoleView:
    counts = found.counts
    accepting = [seen for seen in found.agents if seen.refusal is None]
    free: dict[str, list[FreeAgent]] = {id_: [] for id_ in counts.free if id_ in found.classes}
    for seen in accepting:
        if seen.class_id in free and seen.agent.used < seen.agent.max_concurrent:
            free[seen.class_id].append(seen.agent)
    for agents in free.values():
        agents.sort(key=_in_turn)
    waiting = sum(lane.size for lane in found.lanes)
    return RoleView(
        found.around.fields["role"],
        [LaneView(lane.lane, lane.size, shown[lane.id], lane.id) for lane in found.lanes],
        [FreeClass(found.classes[id_], len(some), some) for id_, some in free.items()],
        min(MOST_UNITS, sum(counts.free.values()), waiting),
        Fleet(_by_class(found, counts.capacity).items()),
        float(counts.counters.get("service_us", 0)) / 1_000_000,
        {seen.agent.id: Named(seen.cls, seen.agent) for seen in accepting},
    )


def _in_turn(agent: FreeAgent) -> tuple[float, int, int, str]:
    """Its place in the index of its class, as agent.lua ranks it."""
    load = 1_000 * agent.used // agent.max_concurrent
    return (-agent.turn, load, agent.freed_us // 1_000, agent.id)


def _by_class(found: Found, units: Mapping[str, int]) -> dict[AgentClass, int]:
    sums: dict[AgentClass, int] = {}
    for id_, n in units.items():
        if cls := found.classes.get(id_):
            sums[cls] = sums.get(cls, 0) + n
    return sums


def _heads(found: Found, tasks: Sequence[tuple[str, float]]) -> list[Head]:
    words: list[str] = []
    for task, at_us in tasks:
        d, e, p = found.facts[task]
        words += [task, str(at_us), e or "", (d or "")[:1] + (p or "")]
    return read_heads(words)


def _p90_s(found: Found, task: str) -> float:
    return effort_ms(found.facts[task][1])[1] / 1_000
