"""Planning with `fit`: the smallest index of core/plan/fit.py first.

A lane stands in a queue with the index that its first task has with the fastest agents; where it comes to the
front and only slower ones are free, it goes back behind. So an assignment costs one step in that
queue, and one in that of the classes (best.py).
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace

from balancer.core.fleet import Fleet, Ladder, Rung
from balancer.core.lanes import AgentClass, Gate, Lane
from balancer.core.names import new_nonces
from balancer.core.plan.best import Best, Choice
from balancer.core.plan.fit import Formula, kept_share
from balancer.core.plan.free import Beyond, Entry, Ranked, rank
from balancer.core.plan.preferred import PREFERRED
from balancer.core.plan.proposal import Proposal, RolePlan
from balancer.core.plan.reserve import reserve
from balancer.core.settings import PoolSettings
from balancer.core.strategies import Fit, Scores
from balancer.core.turns import Turns
from balancer.core.view import FreeAgent, Head, LaneView, RoleView

_NO_SCORES: Scores = {}
_NOBODY: frozenset[int] = frozenset()
_NO_RUNG = Rung(0.0, 0.0, 0, 0.0)


class _Line:
    """A lane while a plan is made: its tasks in order, and the classes that may serve it."""

    __slots__ = ("at", "best", "heads", "id", "ladder", "lane", "rung", "size", "speed")

    def __init__(self, view: LaneView) -> None:
        self.lane, self.size, self.heads, self.id = view.lane, view.size, view.heads, view.id
        #: None: nobody has looked yet.
        self.best: Best | None = None
        self.ladder: Ladder | None = None
        self.at = 0
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
            (fc.cls, rank(fc, _entry, number, self._least_health, kept)) for fc in role.classes
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
        self._formula, self._role, self._now_ms = formula, role, now_ms
        self._classes, self._ranks = [cls for cls, _ in classes], [ranked for _, ranked in classes]
        self._shut = [at for at, cls in enumerate(self._classes) if cls.gate is Gate.SHUT]
        self._probed = frozenset(
            at for at, cls in enumerate(self._classes) if cls.gate is Gate.PROBE
        )
        self._places: dict[AgentClass, int] = {}
        #: Of each class, by the steps of a ladder.
        self._speeds: dict[int, tuple[float, ...]] = {}
        self._bests: dict[tuple[tuple[float, ...], int, frozenset[int]], Best] = {}
        self._fleet, self._named = fleet, role.named_classes
        self._lines = [_Line(view) for view in role.lanes if view.heads]

    def _look_for(self, line: _Line) -> tuple[Best, Ladder]:
        """Who may serve a lane; looked for when it first comes to the front."""
        if line.best is None or line.ladder is None:
            lane = self._fleet.void_tried(line.lane, self._named)
            line.ladder = ladder = self._fleet.ladder(
                line.lane, self._named if lane.tried else None
            )
            line.lane = lane
            line.best = self._best(ladder, lane.cost)
        return line.best, line.ladder

    def _best(self, ladder: Ladder, cost: int) -> Best:
        """Lanes to which all classes are alike share one."""
        known = self._speeds.get(id(ladder.steps))
        if known is None:
            known = self._speeds[id(ladder.steps)] = ladder.steps.speeds(self._classes, self._shut)
        single = self._probed if ladder.steps.shuts else _NOBODY
        best = self._bests.get((known, cost, single))
        if best is None:
            best = self._bests[known, cost, single] = Best(known, self._ranks, cost, single)
        return best

    def _choose(self, lane: Lane, best: Best) -> tuple[Choice | None, bool]:
        """The best agent in the picture for a lane, and whether a better one may lie beyond it."""
        try:
            return best.choose(lane, self._now_ms), False
        except Beyond as beyond:
            return beyond.instead, True

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
            best, ladder = self._look_for(line)
            choice, is_hidden = self._choose(line.lane, best)
            is_whole = is_whole and not is_hidden
            # Where nothing was given yet the next picture may show no more, and others must not wait for it.
            if is_hidden and (wishes or line.lane.is_plain):
                break
            if choice is None:
                heappop(queue)
                if kept is None and not is_hidden:
                    kept = reserve(
                        line.lane, best.ranks(), self._now_ms, self._role.held, self._role.longer
                    )
                    kept_for = kept and head.task
                continue
            rung = ladder.rung(self._classes[choice[0]]) or _NO_RUNG
            if rung.speed != line.speed:
                line.speed, line.rung = rung.speed, rung
                self._line_up(line)
                heapreplace(queue, (place(line.heads[line.at], rung), n))
                continue
            if rung.better_units and self._is_held_back(line, head, rung):
                heappop(queue)
                held.setdefault(choice[0], []).append(n)
                continue
            its = rung
            if head.preference is not None:
                choice = self._preferred(line, head, best, choice)
                its = ladder.rung(self._classes[choice[0]]) or rung
            wishes.append((index_us, self._grant(line, its, choice, next(nonces), number)))
            line.at += 1
            if line.at < len(line.heads):
                heapreplace(queue, (place(line.heads[line.at], rung), n))
            elif line.size > len(line.heads):
                # The next task of this lane is not in the picture; it may come before all others.
                is_whole = False
                break
            else:
                heappop(queue)
            if held and (choice[0] in self._probed or not self._ranks[choice[0]].entries):
                # It has run dry, or gave one that is probed its task: those held back from it are looked at again.
                for other in held.pop(choice[0], ()):
                    waiting = lines[other]
                    heappush(queue, (place(waiting.heads[waiting.at], waiting.rung), other))
        return RolePlan(wishes, is_whole and not queue, kept, kept_for)

    def _grant(
        self, line: _Line, rung: Rung, choice: Choice, nonce: str, number: Turns
    ) -> Proposal:
        head, (which, at) = line.heads[line.at], choice
        ranked = self._ranks[which]
        agent = ranked.entries[at][3]
        cost = agent.max_concurrent if line.lane.alone else line.lane.cost
        ranked.take(at, cost, number)
        is_preferred = head.preference is not None and head.preference.agent == agent.id
        return Proposal(
            head.task, agent.id, nonce, cost, head.estimate_s / rung.speed, _scores(rung, agent, is_preferred),
            Fit.name, agent.type, None, line.id,
        )  # fmt: skip

    def _line_up(self, line: _Line) -> None:
        """In the order of the index with agents as slow as these: a lane's own order is that with its fastest, and
        a long task at its head would keep the short ones behind it waiting longer than their index allows.
        """
        rung, rest = line.rung, line.heads[line.at :]
        if rung.lag and len(rest) > 1:
            place = self._formula.index_us
            rest.sort(key=lambda head: place(head, rung))
            line.heads = [*line.heads[: line.at], *rest]

    def _is_held_back(self, line: _Line, head: Head, rung: Rung) -> bool:
        left = line.size - line.at
        return self._formula.holds_back(head, rung, self._role.service_s, left, self._now_ms)

    def _preferred(self, line: _Line, head: Head, best: Best, first: Choice) -> Choice:
        """The agent that the task would rather have, where it is free and not much slower; else the first."""
        wish = head.preference
        named = self._role.named.get(wish.agent) if wish else None
        if wish is None or named is None:
            return first
        if 1_000 * (self._now_ms - wish.for_ms) > self._formula.ready_us(head):
            return first
        if not self._places:
            self._places = {cls: at for at, cls in enumerate(self._classes)}
        which = self._places.get(named.cls, -1)
        if which < 0 or not best.may(which):
            return first
        for at, entry in enumerate(self._ranks[which].entries):
            if entry[3].id == wish.agent:
                barred = best.is_barred(line.lane, which, entry[3], self._now_ms)
                worth = PREFERRED * self._fitness(best, (which, at))
                return (which, at) if not barred and worth >= self._fitness(best, first) else first
        return first

    def _fitness(self, best: Best, choice: Choice) -> float:
        """What an agent is worth to a lane: its speed, a little less where its health is low."""
        which, at = choice
        return -float(best.worth(which, self._ranks[which].entries[at])[0])


def _entry(agent: FreeAgent, number: int) -> Entry:
    rank = (-kept_share(agent.health), agent.used - agent.max_concurrent)
    return (rank, agent.freed_us, number, agent, _NO_SCORES)


def _scores(rung: Rung, agent: FreeAgent, is_preferred: bool) -> Scores:
    """The parts of what decided on the agent: its speed, what its health takes off, what a preference adds."""
    speed = rung.speed
    scores = {"speed": speed}
    if agent.health < 1:
        scores["health"] = speed * (kept_share(agent.health) - 1)
    if is_preferred:
        scores["preferred"] = sum(scores.values()) * (PREFERRED - 1)
    return scores
