"""What was read of a role, put together: the picture that `core/explain` judges, and in it the view of a planner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from balancer.core.explain.answer import Examined
from balancer.core.explain.picture import Ahead, Picture, Running, Seen
from balancer.core.fleet import Fleet
from balancer.core.lanes import AgentClass, Lane, is_unplaceable
from balancer.core.plan.reserve import overruns
from balancer.core.turns import Order
from balancer.core.view import FreeAgent, FreeClass, Head, Held, LaneView, Named, RoleView, View
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
    """All that was read. `facts`: fields d, e, p, state and lane by task."""

    around: Around
    counts: Counts
    classes: Mapping[str, AgentClass]
    lanes: Sequence[LaneRead]
    facts: Mapping[str, Sequence[str | None]]
    agents: Sequence[Seen]
    running: Sequence[Running]
    looked_at: int
    lost: Sequence[str]

    @property
    def is_whole(self) -> bool:
        """Whether all live agents were looked at: then nothing else says what units there are."""
        return self.looked_at >= self.counts.alive_of


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
    open_ = _units(found, counts.capacity, _all_units)
    free = _units(found, counts.free, _free_units)
    able = [lane for lane in found.lanes if not is_unplaceable(lane.lane, open_.items())]
    ahead = [
        Ahead(one.order_us, lane.lane, one.estimate_s, _p90_s(found, one.task))
        for lane in able
        for one in shown[lane.id]
        if one.order_us < around.order_us
    ]
    return Picture(
        view=View(around.now_us // 1_000, False, [_role_view(found, shown, open_, free)]),
        lane=counts.lane,
        head=head,
        p90_s=_p90_s(found, own_id),
        before=counts.before,
        size=own.size if own else 0,
        is_paused="paused" in counts.counters,
        agents=list(found.agents),
        class_ids={cls: id_ for id_, cls in found.classes.items()},
        live=len(found.agents) if found.is_whole else int(counts.counters.get("agents", 0)),
        free_units=free,
        ahead=ahead,
        ahead_of=sum(lane.before for lane in able),
        unplaceable_ahead=sum(lane.before for lane in found.lanes)
        - sum(lane.before for lane in able),
        lost=list(found.lost),
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


def _role_view(
    found: Found,
    shown: Mapping[str, list[Head]],
    open_: Mapping[AgentClass, int],
    free_units: Mapping[AgentClass, int],
) -> RoleView:
    counts = found.counts
    accepting = [seen for seen in found.agents if seen.refusal is None]
    free: dict[AgentClass, list[FreeAgent]] = {cls: [] for cls in free_units}
    for seen in accepting:
        if seen.cls in free and _free_units(seen):
            free[seen.cls].append(seen.agent)
    for agents in free.values():
        agents.sort(key=_in_turn)
    waiting = sum(lane.size for lane in found.lanes)
    return RoleView(
        found.around.fields["role"],
        [LaneView(lane.lane, lane.size, shown[lane.id], lane.id) for lane in found.lanes],
        [FreeClass(cls, len(some), some) for cls, some in free.items()],
        min(MOST_UNITS, sum(free_units.values()), waiting),
        Fleet(open_.items()),
        float(counts.counters.get("service_us", 0)) / 1_000_000,
        {seen.agent.id: Named(seen.cls, seen.agent) for seen in accepting},
        _held(found),
        overruns((one.estimate_s, one.elapsed_s) for one in found.running),
    )


def _held(found: Found) -> dict[str, list[Held]]:
    """What agents hold of whom all leases were read."""
    held: dict[str, list[Held]] = {}
    for one in found.running:
        granted_ms = found.around.now_us // 1_000 - round(1_000 * one.elapsed_s)
        held.setdefault(one.agent, []).append(Held(one.cost, granted_ms, one.estimate_s))
    used = {seen.agent.id: seen.agent.used for seen in found.agents}
    return {id_: own for id_, own in held.items() if sum(one.units for one in own) == used[id_]}


def _in_turn(agent: FreeAgent) -> tuple[float, int, int, str]:
    """Its place in the index of its class, as agent.lua ranks it."""
    load = 1_000 * agent.used // agent.max_concurrent
    return (-agent.turn, load, agent.freed_us // 1_000, agent.id)


def _all_units(seen: Seen) -> int:
    return seen.agent.max_concurrent


def _free_units(seen: Seen) -> int:
    return max(0, seen.agent.max_concurrent - seen.agent.used)


def _units(
    found: Found, index: Mapping[str, int], units_of: Callable[[Seen], int]
) -> dict[AgentClass, int]:
    """Units of the agents that accept work, by class, the most first: as those have them that were looked at, and
    where some were not, as the index says.
    """
    sums: dict[AgentClass, int] = {}
    for seen in found.agents:
        if seen.refusal is None and (units := units_of(seen)):
            sums[seen.cls] = sums.get(seen.cls, 0) + units
    if not found.is_whole:
        for id_, units in index.items():
            if cls := found.classes.get(id_):
                sums[cls] = max(units, sums.get(cls, 0))
    ids = {cls: id_ for id_, cls in found.classes.items()}
    return dict(sorted(sums.items(), key=lambda each: (each[1], ids[each[0]]), reverse=True))


def _heads(found: Found, tasks: Sequence[tuple[str, float]]) -> list[Head]:
    words: list[str] = []
    for task, at_us in tasks:
        d, e, p, *_ = found.facts[task]
        words += [task, str(at_us), e or "", (d or "")[:1] + (p or "")]
    return read_heads(words)


def _p90_s(found: Found, task: str) -> float:
    return effort_ms(found.facts[task][1])[1] / 1_000
