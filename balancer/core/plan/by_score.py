"""Strategies that score agents: tasks are taken in the pool's order, whichever lane they stand in.

For each, the hard rules filter, then the score decides among the best agent of each class. The cost is
one comparison per class and task, because the order of agents within a class is the same for every lane.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import NamedTuple

from balancer.core.fleet import Ladder
from balancer.core.lanes import Lane
from balancer.core.names import new_nonces
from balancer.core.plan.free import Beyond, Entry, Idle, Ranked, rank
from balancer.core.plan.preferred import Preferences, bonus
from balancer.core.plan.proposal import Proposal, RolePlan
from balancer.core.plan.reserve import reserve
from balancer.core.plan.rules import bars, room_rule
from balancer.core.settings import PoolSettings
from balancer.core.strategies import Scores, Strategy
from balancer.core.turns import Turns
from balancer.core.view import FreeAgent, FreeClass, RoleView


class _Option(NamedTuple):
    """One class that may serve a lane, and what the match is worth."""

    ranked: Ranked
    match: Scores
    worth: float
    speed: float
    #: Whether its agents may only while they hold nothing.
    is_single: bool


#: A class, and which of its entries.
_Choice = tuple[_Option, int]


class ByScore:
    """Plans by a strategy's score."""

    def __init__(self, strategy: Strategy, settings: PoolSettings) -> None:
        self._strategy, self._least_health = strategy, settings.min_health
        self._gates, self._preferences = settings.gates, Preferences(strategy, settings)

    def plan_role(
        self, role: RoleView, most: int, number: Turns, now_ms: int, kept: str | None
    ) -> RolePlan:
        """At most `most` proposals for this role. `kept`: an agent that gets nothing."""
        fleet, named = role.accepting.bound(self._gates), role.named_classes
        classes = [
            (fc, rank(fc, self._entry, number, self._least_health, kept)) for fc in role.classes
        ]
        lanes = [fleet.void_tried(view.lane, named) for view in role.lanes]
        ladders = [
            fleet.ladder(view.lane, named if lane.tried else None)
            for view, lane in zip(role.lanes, lanes, strict=True)
        ]
        #: By lane, when it first comes to the front.
        known: dict[int, list[_Option]] = {}
        nonces = new_nonces(most)
        line = [(view.heads[0], i, 0) for i, view in enumerate(role.lanes) if view.heads]
        heapify(line)
        out: list[tuple[float, Proposal]] = []
        is_whole, kept_for = True, None
        while line and len(out) < most:
            head, i, at = heappop(line)
            lane, (_, size, heads, *_) = lanes[i], role.lanes[i]
            options = known.get(i)
            if options is None:
                options = known[i] = self._options(lane, ladders[i], classes)
            is_hidden = False
            try:
                choice = (
                    _choose(lane.cost, options)
                    if lane.is_plain
                    else _choose_marked(lane, options, now_ms)
                )
            except Beyond as beyond:
                is_whole = False
                if out or lane.is_plain:
                    break
                # Nothing was given yet, so the next picture may show no more: others must not wait for it.
                choice, is_hidden = beyond.instead, True
            if choice is None:
                # Nobody free can take this lane, so none of its tasks.
                if kept is None and not is_hidden:
                    # Who may have one task has all its units free for it.
                    several = (option.ranked for option in options if not option.is_single)
                    kept = reserve(lane, several, now_ms, role.held, role.longer)
                    kept_for = kept and head.task
                continue
            scores: Scores = {}
            if head.preference is not None:
                wanted = self._preferences.wanted(head, now_ms)
                if wanted is not None:
                    best_score = _score(choice)
                    choice = _preferred(lane, options, wanted, choice, now_ms)
                    if _agent(choice).id == wanted:
                        scores = {"preferred": bonus(best_score)}
            (ranked, match, _, speed, *_), entry = choice
            _, _, _, agent, parts = ranked.entries[entry]
            cost = agent.max_concurrent if lane.alone else lane.cost
            ranked.take(entry, cost, number)
            out.append((head.order_us, Proposal(
                head.task, agent.id, next(nonces), cost, head.estimate_s / speed, parts | match | scores,
                self._strategy.name, agent.type, number.draw, role.lanes[i].id,
            )))  # fmt: skip
            if at + 1 < len(heads):
                heappush(line, (heads[at + 1], i, at + 1))
            elif size > len(heads):
                # The next task of this lane is not in the picture; it may come before all others.
                is_whole = False
                break
        return RolePlan(out, is_whole and not line, kept, kept_for)

    def _entry(self, agent: FreeAgent, number: int) -> Entry:
        parts = self._strategy.agent_part(agent)
        return (-sum(parts.values()), agent.freed_us, number, agent, parts)

    def _options(
        self, lane: Lane, ladder: Ladder, classes: list[tuple[FreeClass, Ranked]]
    ) -> list[_Option]:
        out = []
        for fc, ranked in classes:
            rung, is_gated = ladder.rung(fc.cls), bool(fc.cls.gate)
            if rung is None or (is_gated and not ladder.serves(fc.cls)):
                continue
            match = self._strategy.match_part(lane, fc.cls)
            is_single = is_gated and ladder.probes(fc.cls)
            able = Idle(ranked) if is_single else ranked
            out.append(_Option(able, match, sum(match.values()), rung.speed, is_single))
        return out


def _choose(cost: int, options: list[_Option]) -> _Choice | None:
    """The best agent over all classes; None when nobody can.

    Raises:
        Beyond: a class has run dry that has more agents than the picture shows.
    """
    best_score, best_freed_us, best_at = 0.0, 0, -1
    best: _Option | None = None
    for option in options:
        ranked = option.ranked
        if not ranked.fresh and ranked.partial:
            raise Beyond
        at = ranked.first_that_holds(cost)
        if at < 0:
            continue
        entry = ranked.entries[at]
        score, freed_us = entry[0] - option.worth, entry[1]
        if best is None or (score, freed_us) < (best_score, best_freed_us):
            best_score, best_freed_us, best_at, best = score, freed_us, at, option
    return (best, best_at) if best is not None else None


def _choose_marked(lane: Lane, options: list[_Option], now_ms: int) -> _Choice | None:
    """The best agent for a task to which something befell: looks at the first agent of a class, and at all of
    them where that one is out of the question. A picture shows more agents of a class than a lane bars, so a
    class is never hidden by those.

    Raises:
        Beyond: of a class that has more agents than the picture shows all are used that the lane does not bar.
    """
    best: _Choice | None = None
    best_key = (0.0, 0, 0)
    hides = False
    for option in options:
        for at, entry in enumerate(option.ranked.entries):
            if _is_barred(lane, option, entry[3], now_ms):
                continue
            key = (entry[0] - option.worth, entry[1], entry[2])
            if best is None or key < best_key:
                best, best_key = (option, at), key
            if at == 0:
                break
        if option.ranked.partial and not hides:
            hides = option.ranked.hides_from(lane, now_ms)
    if hides:
        raise Beyond(best)
    return best


def _preferred(
    lane: Lane, options: list[_Option], agent_id: str, best: _Choice, now_ms: int
) -> _Choice:
    """This agent where it may have the task and is near to the best; else the best."""
    score = _score(best)
    for option in options:
        for at, entry in enumerate(option.ranked.entries):
            if entry[3].id == agent_id:
                barred = _is_barred(lane, option, entry[3], now_ms)
                is_near = _score((option, at)) + bonus(score) >= score
                return (option, at) if is_near and not barred else best
    return best


def _is_barred(lane: Lane, option: _Option, agent: FreeAgent, now_ms: int) -> bool:
    """Whether this agent of a class that may cannot have the next task of a lane."""
    if agent.used and option.is_single:
        return True
    return bool(room_rule(lane, agent) or bars(lane, agent, now_ms))


def _score(choice: _Choice) -> float:
    """What the agent of a choice is worth to the lane; higher is better."""
    option, at = choice
    return option.worth - float(option.ranked.entries[at][0])


def _agent(choice: _Choice) -> FreeAgent:
    option, at = choice
    return option.ranked.entries[at][3]
