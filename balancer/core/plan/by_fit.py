"""Planning with `fit`: the smallest index of core/plan/fit.py first.

A lane stands in a queue with the index that its first task has with the fastest agents; where it comes to the
front and only slower ones are free, it goes back behind. So an assignment costs one step in that
queue, and a look at the classes that are equally fast for one lane.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace

from balancer.core.fleet import Fleet, Rung
from balancer.core.lanes import AgentClass, Lane
from balancer.core.names import new_nonces
from balancer.core.plan.fit import PREFERRED, Formula, kept_share
from balancer.core.plan.free import Beyond, Entry, Ranked, rank
from balancer.core.plan.proposal import Proposal, RolePlan
from balancer.core.plan.reserve import reserve
from balancer.core.plan.rules import bars, room_rule
from balancer.core.settings import PoolSettings
from balancer.core.strategies import Fit, Scores
from balancer.core.turns import Turns
from balancer.core.view import FreeAgent, Head, LaneView, RoleView

_NO_SCORES: Scores = {}
_NO_RUNG = Rung(0.0, 0.0, 0, 0.0)
_Option = tuple[Rung, Ranked]
#: A class, and which of its entries.
_Choice = tuple[Rung, Ranked, int]


class _Line:
    """A lane while a plan is made: its tasks in order, and the classes that may serve it."""

    __slots__ = ("at", "first", "heads", "id", "lane", "options", "rung", "size", "speed")

    def __init__(self, view: LaneView) -> None:
        self.lane, self.size, self.heads, self.id = view.lane, view.size, view.heads, view.id
        #: Fastest first; those before `first` have run dry. None: nobody has looked yet.
        self.options: list[_Option] | None = None
        self.first = self.at = 0
        #: What its place in line was computed with.
        self.rung, self.speed = _NO_RUNG, 0.0


class ByFit:
    """Plans by expected size, relative speed and age."""

    def __init__(self, settings: PoolSettings) -> None:
        self._least_health, self._formula = settings.min_health, Formula(settings)
        self._gates = settings.gates

    def plan_role(
        self, role: RoleView, most: int, number: Turns, now_ms: int, kept: str | None
    ) -> RolePlan:
        """At most `most` proposals for this role. `kept`: an agent that gets nothing."""
        fleet = role.accepting.bound(self._gates)
        classes = [
            (fc.cls, rank(fc, _entry, number, self._least_health, kept, probes=fleet.probes))
            for fc in role.classes
        ]
        return _RoleFit(self._formula, role, fleet, classes, now_ms).plan(most, number, kept)


class _RoleFit:
    """One plan of one role."""

    def __init__(
        self,
        formula: Formula,
        role: RoleView,
        fleet: Fleet,
        classes: list[tuple[AgentClass, Ranked]],
        now_ms: int,
    ) -> None:
        self._formula, self._role, self._classes, self._now_ms = formula, role, classes, now_ms
        self._fleet, self._named = fleet, role.named_classes
        self._lines = [_Line(view) for view in role.lanes if view.heads]

    def _options(self, line: _Line) -> list[_Option]:
        """The classes that may serve a lane; looked for when it first comes to the front."""
        if line.options is None:
            lane = self._fleet.void_tried(line.lane, self._named)
            ladder = self._fleet.ladder(line.lane, self._named if lane.tried else None)
            line.lane = lane
            line.options = [
                (rung, ranked)
                for cls, ranked in self._classes
                if ladder.serves(cls) and (rung := ladder.rung(cls)) is not None
            ]
            line.options.sort(key=_by_speed)
        return line.options

    def plan(self, most: int, number: Turns, kept: str | None) -> RolePlan:
        """The proposals for this role."""
        lines, place = self._lines, self._formula.index_us
        nonces = new_nonces(most)
        queue = [(line.heads[0].order_us, n) for n, line in enumerate(lines)]
        heapify(queue)
        #: Lanes that the guard holds back, by the class whose agent it refused.
        held: dict[int, list[int]] = {}
        wishes: list[tuple[float, Proposal]] = []
        is_whole, kept_for = True, None
        while queue and len(wishes) < most:
            index_us, n = queue[0]
            line = lines[n]
            head = line.heads[line.at]
            options = self._options(line)
            try:
                choice = _choose(line, options, self._now_ms)
            except Beyond:
                is_whole = False
                break
            if choice is None:
                heappop(queue)
                if kept is None:
                    kept = reserve(line.lane, (one for _, one in options), self._now_ms)
                    kept_for = kept and head.task
                continue
            rung, ranked, _ = choice
            if rung.speed != line.speed:
                line.speed, line.rung = rung.speed, rung
                heapreplace(queue, (place(head, rung), n))
                continue
            if rung.better_units and self._is_held_back(line, head, rung):
                heappop(queue)
                held.setdefault(id(ranked), []).append(n)
                continue
            if head.preference is not None:
                choice = self._preferred(line, head, choice)
            wishes.append((index_us, self._grant(line, head, choice, next(nonces), number)))
            line.at += 1
            if line.at < len(line.heads):
                heapreplace(queue, (place(line.heads[line.at], rung), n))
            elif line.size > len(line.heads):
                # The next task of this lane is not in the picture; it may come before all others.
                is_whole = False
                break
            else:
                heappop(queue)
            if held and not choice[1].entries:
                # The class has run dry: those that were held back from it are looked at again.
                for other in held.pop(id(choice[1]), ()):
                    waiting = lines[other]
                    heappush(queue, (place(waiting.heads[waiting.at], waiting.rung), other))
        return RolePlan(wishes, is_whole and not queue, kept, kept_for)

    def _grant(
        self, line: _Line, head: Head, choice: _Choice, nonce: str, number: Turns
    ) -> Proposal:
        rung, ranked, at = choice
        agent = ranked.entries[at][3]
        cost = agent.max_concurrent if line.lane.alone else line.lane.cost
        ranked.take(at, cost, number)
        is_preferred = head.preference is not None and head.preference.agent == agent.id
        return Proposal(
            head.task, agent.id, nonce, cost, head.estimate_s / rung.speed, _scores(rung, agent, is_preferred),
            Fit.name, agent.type, None, line.id,
        )  # fmt: skip

    def _is_held_back(self, line: _Line, head: Head, rung: Rung) -> bool:
        left = line.size - line.at
        return self._formula.holds_back(head, rung, self._role.service_s, left, self._now_ms)

    def _preferred(self, line: _Line, head: Head, best: _Choice) -> _Choice:
        """The agent that the task would rather have, where it is free and not much slower; else the best."""
        wish = head.preference
        named = self._role.named.get(wish.agent) if wish else None
        if wish is None or named is None:
            return best
        if 1_000 * (self._now_ms - wish.for_ms) > self._formula.ready_us(head):
            return best
        for rung, ranked in self._options(line):
            for at, (_, _, _, agent, _) in enumerate(ranked.entries):
                if agent.id == wish.agent:
                    barred = room_rule(line.lane, agent) or bars(line.lane, agent, self._now_ms)
                    is_near = PREFERRED * _fitness(rung, ranked, at) >= _fitness(*best)
                    return (rung, ranked, at) if is_near and not barred else best
        return best


def _entry(agent: FreeAgent, number: int) -> Entry:
    rank = (-kept_share(agent.health), agent.used - agent.max_concurrent)
    return (rank, agent.freed_us, number, agent, _NO_SCORES)


def _by_speed(option: _Option) -> float:
    return -option[0].speed


def _fitness(rung: Rung, ranked: Ranked, at: int) -> float:
    """What the agent of an entry is worth to a lane: its speed, a little less where its health is low."""
    return -rung.speed * float(ranked.entries[at][0][0])


def _choose(line: _Line, options: list[_Option], now_ms: int) -> _Choice | None:
    """The fastest agent for the next task of a lane; None when nobody has room.

    Raises:
        Beyond: a class has run dry that has more agents than the picture shows.
    """
    if not line.lane.is_plain:
        return _choose_marked(line.lane, options, now_ms)
    cost = line.lane.cost
    best: _Choice | None = None
    best_key, hidden = (0.0, 0, 0), 0.0
    for i in range(line.first, len(options)):
        rung, ranked = options[i]
        speed = rung.speed
        if speed < hidden or speed < -best_key[0]:
            break
        at = ranked.first_that_holds(cost)
        if at < 0:
            if ranked.hides:
                hidden = speed
            elif i == line.first and not ranked.entries:
                line.first += 1
            continue
        (share, full), freed_us, *_ = ranked.entries[at]
        key = (speed * share, full, freed_us)
        if best is None or key < best_key:
            best, best_key = (rung, ranked, at), key
    if hidden and (best is None or best[0].speed < hidden):
        raise Beyond
    return best


def _choose_marked(lane: Lane, options: list[_Option], now_ms: int) -> _Choice | None:
    """The same for a task to which something befell: looks at the first agent of a class, and at all of
    them where that one is out of the question.
    """
    best: _Choice | None = None
    best_key = (0.0, 0, 0, 0)
    for rung, ranked in options:
        if rung.speed < -best_key[0]:
            break
        for at, entry in enumerate(ranked.entries):
            if bars(lane, entry[3], now_ms) or room_rule(lane, entry[3]):
                continue
            key = (rung.speed * entry[0][0], entry[0][1], *entry[1:3])
            if best is None or key < best_key:
                best, best_key = (rung, ranked, at), key
            if at == 0:
                break
    return best


def _scores(rung: Rung, agent: FreeAgent, is_preferred: bool) -> Scores:
    """The parts of what decided on the agent: its speed, what its health takes off, what a preference adds."""
    speed = rung.speed
    scores = {"speed": speed}
    if agent.health < 1:
        scores["health"] = speed * (kept_share(agent.health) - 1)
    if is_preferred:
        scores["preferred"] = sum(scores.values()) * (PREFERRED - 1)
    return scores
