"""Who gets what: a pure function from a view to proposals.

Tasks are taken in the pool's order, whichever lane they stand in. For each, hard rules filter (the
class may serve the lane, the agent is healthy, its units suffice), then the strategy's score
decides among the best agent of each class. The cost is one comparison per class and task, because
the order of agents within a class is the same for every lane.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from typing import NamedTuple

from balancer.core.lanes import AgentClass, Lane, feasible
from balancer.core.names import new_nonce
from balancer.core.settings import PoolSettings
from balancer.core.strategies import Scores, Strategy, make_strategy


class Head(NamedTuple):
    """One of the first tasks of a lane."""

    order_us: float
    task: str


class LaneView(NamedTuple):
    """The first tasks of a lane, and how many it holds."""

    lane: Lane
    size: int
    heads: list[Head]


class FreeAgent(NamedTuple):
    """An agent with units left, as it was at the time of the view."""

    id: str
    type: str
    max_concurrent: int
    used: int
    health: float
    freed_us: int


class FreeClass(NamedTuple):
    """The first free agents of a class, and how many it has."""

    cls: AgentClass
    size: int
    agents: list[FreeAgent]


class RoleView(NamedTuple):
    """What waits and what is free in one role."""

    role: str
    lanes: list[LaneView]
    classes: list[FreeClass]


class View(NamedTuple):
    """A bounded picture of a pool at one instant. `more`: there are lanes beyond this page."""

    now_ms: int
    more: bool
    roles: list[RoleView]


class Proposal(NamedTuple):
    """A wish: this task to this agent, under a lease of this nonce."""

    task: str
    agent: str
    nonce: str
    cost: int
    estimate_s: float
    scores: Scores
    reason: str


#: An agent's place within its class: (-score of the agent part, freed_us, number, agent, parts).
_Entry = tuple[float, int, int, FreeAgent, Scores]


class Planner:
    """Plans for one pool; holds no state between plans."""

    def __init__(self, settings: PoolSettings, strategy: Strategy | None = None) -> None:
        self._settings = settings
        self._strategy = strategy or make_strategy(settings)

    def plan(self, view: View, most: int = 128) -> list[Proposal]:
        """At most `most` proposals, first in line first; no agent beyond its units, no task twice."""
        proposals: list[tuple[float, Proposal]] = []
        for role in view.roles:
            proposals += self._plan_role(role, most)
        proposals.sort(key=lambda pair: pair[0])
        return [proposal for _, proposal in proposals[:most]]

    def _plan_role(self, role: RoleView, most: int) -> list[tuple[float, Proposal]]:
        number = count()
        classes = [(fc.cls, self._rank(fc.agents, number)) for fc in role.classes]
        line = [(lane.heads[0], i, 0) for i, lane in enumerate(role.lanes) if lane.heads]
        heapify(line)
        out: list[tuple[float, Proposal]] = []
        while line and len(out) < most:
            head, i, at = heappop(line)
            lane, size, heads = role.lanes[i]
            chosen = self._choose(lane, classes, number)
            if chosen is None:
                continue  # nobody free can take this lane, so none of its tasks
            agent, scores = chosen
            out.append((head.order_us, self._proposal(head.task, lane, agent, scores)))
            if at + 1 < len(heads):
                heappush(line, (heads[at + 1], i, at + 1))
            elif size > len(heads):
                break  # the next task of this lane is not in the picture; it may come before all others
        return out

    def _rank(self, agents: list[FreeAgent], number: count[int]) -> list[_Entry]:
        entries = [
            self._entry(agent, number)
            for agent in agents
            if agent.health >= self._settings.min_health
        ]
        heapify(entries)
        return entries

    def _entry(self, agent: FreeAgent, number: count[int]) -> _Entry:
        parts = self._strategy.agent_part(agent)
        return (-sum(parts.values()), agent.freed_us, next(number), agent, parts)

    def _choose(
        self, lane: Lane, classes: list[tuple[AgentClass, list[_Entry]]], number: count[int]
    ) -> tuple[FreeAgent, Scores] | None:
        """The best agent over all classes, its units taken; None when nobody can."""
        best: tuple[float, int] | None = None
        place: tuple[list[_Entry], int, Scores] | None = None
        for cls, ranked in classes:
            if not ranked or not feasible(lane, cls):
                continue
            at = _first_that_holds(ranked, lane.cost)
            if at is None:
                continue
            match = self._strategy.match_part(lane, cls)
            key = (ranked[at][0] - sum(match.values()), ranked[at][1])
            if best is None or key < best:
                best, place = key, (ranked, at, match)
        if place is None:
            return None
        ranked, at, match = place
        _, _, _, agent, parts = _pop(ranked, at)
        left = agent._replace(used=agent.used + lane.cost)
        if left.used < left.max_concurrent:
            heappush(ranked, self._entry(left, number))
        return agent, parts | match

    def _proposal(self, task: str, lane: Lane, agent: FreeAgent, scores: Scores) -> Proposal:
        name = self._strategy.name.replace("_", " ").capitalize()
        reason = f"{name}: {agent.type or agent.id} (score: {sum(scores.values()):.2f})"
        estimate_s = self._settings.estimate_s(lane.category)
        return Proposal(task, agent.id, new_nonce(), lane.cost, estimate_s, scores, reason)


def leaves_nothing(view: View, proposals: list[Proposal]) -> bool:
    """Whether nothing that waited in this view could fit beside these proposals, once all are granted.

    Then there is no need to look again before something changes. Free units that were not in the
    picture, or tasks beyond it while units are left, make it False.
    """
    if view.more:
        return False
    spent: dict[str, int] = {}
    for proposal in proposals:
        spent[proposal.agent] = spent.get(proposal.agent, 0) + proposal.cost
    for role in view.roles:
        if any(fc.size > len(fc.agents) for fc in role.classes):
            return False
        agents = [agent for fc in role.classes for agent in fc.agents]
        units_left = any(
            agent.used + spent.get(agent.id, 0) < agent.max_concurrent for agent in agents
        )
        if units_left and any(lane.size > len(lane.heads) for lane in role.lanes):
            return False
    return True


def _first_that_holds(ranked: list[_Entry], cost: int) -> int | None:
    """Index of the best agent with `cost` units left. Nearly always the first; agents too full for
    this cost keep their place.
    """
    if ranked[0][3].used + cost <= ranked[0][3].max_concurrent:
        return 0
    fitting = [
        (entry, at)
        for at, entry in enumerate(ranked)
        if entry[3].used + cost <= entry[3].max_concurrent
    ]
    return min(fitting, key=lambda pair: pair[0][:3])[1] if fitting else None


def _pop(ranked: list[_Entry], at: int) -> _Entry:
    if at == 0:
        return heappop(ranked)
    entry, ranked[at] = ranked[at], ranked[-1]
    ranked.pop()
    heapify(ranked)
    return entry
