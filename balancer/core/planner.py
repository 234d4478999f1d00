"""Who gets what: a pure function from a view to proposals.

Tasks are taken in the pool's order, whichever lane they stand in. For each, hard rules filter (the
class may serve the lane, the agent is healthy, its units suffice), then the strategy's score
decides among the best agent of each class. The cost is one comparison per class and task, because
the order of agents within a class is the same for every lane.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from random import Random
from typing import NamedTuple

from balancer.core.lanes import Lane, feasible
from balancer.core.names import new_nonces
from balancer.core.settings import PoolSettings
from balancer.core.strategies import Scores, Strategy, make_strategy, reason
from balancer.core.turns import DRAW_BITS, Order, Turns
from balancer.core.view import FreeAgent, FreeClass, RoleView, View

#: Below this plan's own numbers.
FRESH = 1 << 30
#: Most proposals of one plan.
MOST = 128


class Proposal(NamedTuple):
    """A wish: this task to this agent, under a lease of this nonce."""

    task: str
    agent: str
    nonce: str
    cost: int
    estimate_s: float
    scores: Scores
    #: What decided, and the type of the agent; they make the reason that people read.
    strategy: str
    agent_type: str = ""
    #: Where the grant puts the agent in a pool whose order is drawn.
    draw: int | None = None

    @property
    def reason(self) -> str:
        """One line for people."""
        return reason(self.strategy, self.agent_type or self.agent, self.scores)


#: An agent's place within its class: (-score of the agent part, freed_us, number, agent, parts).
#: The number settles ties; it is negative until this plan has used the agent.
_Entry = tuple[float, int, int, FreeAgent, Scores]


class _Ranked:
    """The agents of one class, best first (a heap).

    `fresh` counts those in turn that this plan has not used yet. Where the class has more agents than the
    picture shows, one of those may be better than any that was used already.
    """

    __slots__ = ("entries", "fresh", "partial")

    def __init__(self, entries: list[_Entry], fresh: int, partial: bool) -> None:
        heapify(entries)
        self.entries, self.fresh, self.partial = entries, fresh, partial and fresh > 0


class _Option(NamedTuple):
    """One class that may serve a lane, and what the match is worth."""

    ranked: _Ranked
    match: Scores
    worth: float


class _Beyond(Exception):
    """The best choice lies outside the picture."""


class Planner:
    """Plans for one pool; holds no state between plans."""

    def __init__(self, settings: PoolSettings, strategy: Strategy | None = None) -> None:
        self._settings = settings
        self._strategy = strategy or make_strategy(settings)
        self._rng = Random(settings.seed or None)

    def pivot(self) -> int:
        """Where the next view starts, in a pool whose order is drawn; else 0."""
        return self._rng.getrandbits(DRAW_BITS) if self._strategy.order == Order.DRAW else 0

    def plan(self, view: View, most: int = MOST) -> list[Proposal]:
        """At most `most` proposals, first in line first; no agent beyond its units, no task twice."""
        proposals: list[tuple[float, Proposal]] = []
        for role in view.roles:
            turns = Turns(Order(self._strategy.order), self._rng, view.pivot)
            proposals += self._plan_role(role, min(most, role.units), turns, view.now_ms)
        proposals.sort(key=lambda pair: pair[0])
        return [proposal for _, proposal in proposals[:most]]

    def _plan_role(
        self, role: RoleView, most: int, number: Turns, now_ms: int
    ) -> list[tuple[float, Proposal]]:
        classes = [(fc, self._rank(fc, number)) for fc in role.classes]
        options = [self._options(view.lane, classes) for view in role.lanes]
        estimates_s = [self._settings.estimate_s(view.lane.category) for view in role.lanes]
        nonces = new_nonces(most)
        line = [(lane.heads[0], i, 0) for i, lane in enumerate(role.lanes) if lane.heads]
        heapify(line)
        out: list[tuple[float, Proposal]] = []
        is_kept = False
        while line and len(out) < most:
            head, i, at = heappop(line)
            lane, size, heads = role.lanes[i]
            cost = lane.cost
            try:
                if lane.is_plain:
                    chosen = self._choose(cost, options[i], number)
                else:
                    chosen = self._choose_marked(lane, options[i], number, now_ms)
            except _Beyond:
                break
            if chosen is None:
                if lane.alone and not is_kept:
                    is_kept = _keep_free(options[i])
                continue  # nobody free can take this lane, so none of its tasks
            agent, scores = chosen
            if lane.alone:
                cost = agent.max_concurrent
            out.append((head.order_us, Proposal(
                head.task, agent.id, next(nonces), cost, estimates_s[i], scores, self._strategy.name, agent.type,
                number.draw,
            )))  # fmt: skip
            if at + 1 < len(heads):
                heappush(line, (heads[at + 1], i, at + 1))
            elif size > len(heads):
                break  # the next task of this lane is not in the picture; it may come before all others
        return out

    def _rank(self, fc: FreeClass, number: Turns) -> _Ranked:
        least = self._settings.min_health
        in_turn = len(fc.agents) - fc.extra
        fit = [(at < in_turn, agent) for at, agent in enumerate(fc.agents) if agent.health >= least]
        entries = [
            self._entry(agent, next(number) - (FRESH if is_fresh else 0)) for is_fresh, agent in fit
        ]
        fresh = sum(is_fresh for is_fresh, _ in fit)
        return _Ranked(entries, fresh, fc.size > len(fc.agents))

    def _entry(self, agent: FreeAgent, number: int) -> _Entry:
        parts = self._strategy.agent_part(agent)
        return (-sum(parts.values()), agent.freed_us, number, agent, parts)

    def _options(self, lane: Lane, classes: list[tuple[FreeClass, _Ranked]]) -> list[_Option]:
        out = []
        for fc, ranked in classes:
            if feasible(lane, fc.cls):
                match = self._strategy.match_part(lane, fc.cls)
                out.append(_Option(ranked, match, sum(match.values())))
        return out

    def _choose(
        self, cost: int, options: list[_Option], number: Turns
    ) -> tuple[FreeAgent, Scores] | None:
        """The best agent over all classes, its units taken; None when nobody can.

        Raises:
            _Beyond: a class has run dry that has more agents than the picture shows.
        """
        best_score, best_freed_us, best_at = 0.0, 0, -1
        best: _Option | None = None
        for option in options:
            ranked = option.ranked
            if not ranked.fresh and ranked.partial:
                raise _Beyond
            entries = ranked.entries
            at = _first_that_holds(entries, cost) if entries else -1
            if at < 0:
                continue
            score, freed_us = entries[at][0] - option.worth, entries[at][1]
            if best is None or (score, freed_us) < (best_score, best_freed_us):
                best_score, best_freed_us, best_at, best = score, freed_us, at, option
        if best is None:
            return None
        _, _, _, agent, parts = best.ranked.entries[best_at]
        self._take(best.ranked, best_at, cost, number)
        return agent, parts | best.match

    def _choose_marked(
        self, lane: Lane, options: list[_Option], number: Turns, now_ms: int
    ) -> tuple[FreeAgent, Scores] | None:
        """The best agent for a task that goes alone, or that agents gave back; its units taken.

        Looks at every agent of the picture: such tasks are few. A picture shows at least four agents of a
        class that has them, and a lane avoids three, so a class is never hidden by those it avoids.
        """
        avoid = lane.avoid if now_ms < lane.avoid_until_ms else ()
        found = [
            ((entry[0] - option.worth, entry[1], entry[2]), option, at)
            for option in options
            for at, entry in enumerate(option.ranked.entries)
            if entry[3].id not in avoid and _may_take(lane, entry[3])
        ]
        if not found:
            return None
        _, option, at = min(found, key=lambda each: each[0])
        _, _, _, agent, parts = option.ranked.entries[at]
        units = agent.max_concurrent if lane.alone else lane.cost
        self._take(option.ranked, at, units, number)
        return agent, parts | option.match

    def _take(self, ranked: _Ranked, at: int, cost: int, number: Turns) -> None:
        """The agent at this place has `cost` units less; it leaves when it has none."""
        entries = ranked.entries
        id_, type_, most, used, health, freed_us, turn = entries[at][3]
        turn = number.after_grant(turn)
        if entries[at][2] < 0:
            ranked.fresh -= 1
        if used + cost >= most:
            _pop(entries, at)
            return
        agent = FreeAgent(id_, type_, most, used + cost, health, freed_us, turn)
        left = self._entry(agent, next(number))
        if at == 0:
            heapreplace(entries, left)
        else:
            _pop(entries, at)
            heappush(entries, left)


def _may_take(lane: Lane, agent: FreeAgent) -> bool:
    used = agent.used
    return used == 0 if lane.alone else used + lane.cost <= agent.max_concurrent


def _keep_free(options: list[_Option]) -> bool:
    """Give nothing more to the agent that is nearest to holding nothing: a task that must be alone waits
    for that. Every plan keeps the same one, as it only gets emptier. Whether there was one.
    """
    entries = [
        ((entry[3].used, entry[1], entry[3].id), option, at)
        for option in options
        for at, entry in enumerate(option.ranked.entries)
    ]
    if not entries:
        return False
    _, option, at = min(entries, key=lambda each: each[0])
    if option.ranked.entries[at][2] < 0:
        option.ranked.fresh -= 1
    _pop(option.ranked.entries, at)
    return True


def leaves_nothing(view: View, proposals: list[Proposal]) -> bool:
    """Whether nothing that waited in this view could fit beside these proposals, once all are granted.

    Then there is no need to look again before something changes. Free units that were not in the
    picture, or tasks beyond it while units are left, make it False.
    """
    if view.more or len(proposals) >= MOST:
        return False
    granted: dict[str, list[int]] = {}
    for proposal in proposals:
        granted.setdefault(proposal.agent, []).append(proposal.cost)
    return all(_leaves_nothing(role, granted) for role in view.roles)


def _leaves_nothing(role: RoleView, granted: dict[str, list[int]]) -> bool:
    agents = [agent for fc in role.classes for agent in fc.agents]
    tasks = sum(len(granted.get(agent.id, ())) for agent in agents)
    if tasks == sum(lane.size for lane in role.lanes):
        return True
    if tasks >= role.units or any(fc.size > len(fc.agents) for fc in role.classes):
        return False
    if all(lane.size == len(lane.heads) for lane in role.lanes):
        return True
    return all(
        agent.used + sum(granted.get(agent.id, ())) >= agent.max_concurrent for agent in agents
    )


def _first_that_holds(entries: list[_Entry], cost: int) -> int:
    """Index of the best agent with `cost` units left, -1 for none.

    Nearly always the first; agents too full for this cost keep their place.
    """
    first = entries[0][3]
    if first.used + cost <= first.max_concurrent:
        return 0
    fitting = [
        (entry[:3], at)
        for at, entry in enumerate(entries)
        if entry[3].used + cost <= entry[3].max_concurrent
    ]
    return min(fitting)[1] if fitting else -1


def _pop(entries: list[_Entry], at: int) -> None:
    if at == 0:
        heappop(entries)
        return
    entries[at] = entries[-1]
    entries.pop()
    heapify(entries)
