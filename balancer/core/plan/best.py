"""The best agent for a task among the classes that may serve it, while a plan takes one after another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from heapq import heappop, heappush, heapreplace
from typing import Any

from balancer.core.lanes import Lane
from balancer.core.plan.free import Beyond, Entry, Ranked
from balancer.core.plan.rules import bars, room_rule
from balancer.core.view import FreeAgent

#: Which of the classes, and which of its entries.
Choice = tuple[int, int]
#: What an agent is worth to a lane, smaller is better: how well it does, units taken, when its last one came free.
_Worth = tuple[Any, ...]


class Best:
    """Classes by what their first agent is worth to lanes that see them alike and cost as much.

    A plan only takes, so what a class is worth only falls: it stands in a heap with what it was worth when it was
    last looked at, and is looked at again where it comes to the front. So a choice costs as many looks as classes
    have changed, however many there are. Of slower classes nobody asks before the faster ones are used up.
    """

    __slots__ = ("_cost", "_heap", "_hidden", "_ranks", "_single", "_speeds", "_tiers")

    def __init__(
        self,
        speeds: Sequence[float],
        ranks: Sequence[Ranked],
        cost: int,
        single: Collection[int] = (),
    ) -> None:
        """`speeds`: of each class, 0 where it may not serve the lanes. `single`: the classes whose agents may only
        while they hold nothing.
        """
        self._single = single
        self._speeds, self._ranks, self._cost = speeds, ranks, cost
        tiers: dict[float, list[int]] = {}
        for at, speed in enumerate(speeds):
            if speed:
                tiers.setdefault(speed, []).append(at)
        #: Those not looked at yet, fastest last.
        self._tiers = sorted(tiers.items())
        self._heap: list[tuple[_Worth, int]] = []
        #: The fastest class that may have a better agent beyond the picture.
        self._hidden = 0.0

    def ranks(self) -> Iterable[Ranked]:
        """The classes that may serve the lanes, but for those that could keep no units free: theirs all are."""
        return (
            self._ranks[at]
            for at, speed in enumerate(self._speeds)
            if speed and at not in self._single
        )

    def may(self, at: int) -> bool:
        """Whether a class may serve the lanes."""
        return self._speeds[at] > 0

    def is_barred(self, lane: Lane, at: int, agent: FreeAgent, now_ms: int) -> bool:
        """Whether this agent of a class that may cannot have the next task of a lane."""
        if agent.used and at in self._single:
            return True
        return bool(bars(lane, agent, now_ms) or room_rule(lane, agent))

    def worth(self, at: int, entry: Entry) -> _Worth:
        """Of an agent of a class."""
        return (self._speeds[at] * entry[0][0], entry[0][1], entry[1])

    def choose(self, lane: Lane, now_ms: int) -> Choice | None:
        """For the next task of a lane; None when nobody has room.

        Raises:
            Beyond: a class has run dry, for this lane, that has more agents than the picture shows.
        """
        heap, tiers, ranks, is_plain = self._heap, self._tiers, self._ranks, lane.is_plain
        single = self._single
        #: The fastest class of those that hide agents from a lane that is not plain.
        hidden = 0.0
        best: tuple[_Worth, Choice] | None = None
        aside: list[tuple[_Worth, int]] = []
        while True:
            if tiers and (not heap or -heap[0][0][0] <= tiers[-1][0]):
                self._fill()
                continue
            if not heap or (best is not None and heap[0][0] >= best[0]):
                break
            worth, at = heap[0]
            entries = ranks[at].entries
            if not entries:
                self._leave(at)
                continue
            rank, freed_us, _, agent, _ = entries[0]
            now = (self._speeds[at] * rank[0], rank[1], freed_us)
            if now != worth:
                # A slower class that was not asked yet may be as good now.
                heapreplace(heap, (now, at))
                continue
            has_room = agent.used + self._cost <= agent.max_concurrent
            if is_plain and has_room and not (single and agent.used and at in single):
                best = (now, (at, 0))
                break
            place = self._first(lane, at, now_ms)
            if place < 0 and is_plain:
                self._leave(at)
                continue
            aside.append(heappop(heap))
            hidden = max(hidden, self._hidden_from(lane, at, place, now_ms))
            if place >= 0:
                found = self.worth(at, entries[place])
                if best is None or found < best[0]:
                    best = (found, (at, place))
        for each in aside:
            heappush(heap, each)
        choice = best[1] if best else None
        if self._hidden or hidden:
            self._look_beyond(choice, max(hidden, self._hidden))
        return choice

    def _look_beyond(self, choice: Choice | None, hidden: float) -> None:
        """Raises Beyond where classes of this speed hide agents that are faster than the choice."""
        if choice is None or self._speeds[choice[0]] < hidden:
            raise Beyond(choice)

    def _fill(self) -> None:
        """Look at the next slower classes: one of them could be as good as the best of the faster ones."""
        for at in self._tiers.pop()[1]:
            entries = self._ranks[at].entries
            if entries:
                heappush(self._heap, (self.worth(at, entries[0]), at))
            elif self._ranks[at].hides:
                self._hidden = max(self._hidden, self._speeds[at])

    def _leave(self, at: int) -> None:
        """The first class of the heap has nobody left for these lanes."""
        heappop(self._heap)
        if self._ranks[at].hides:
            self._hidden = max(self._hidden, self._speeds[at])

    def _hidden_from(self, lane: Lane, at: int, place: int, now_ms: int) -> float:
        """The speed of a class whose best agent for a lane that is not plain may lie beyond the picture, else 0."""
        ranked = self._ranks[at]
        if lane.is_plain or (place >= 0 and ranked.entries[place][2] < 0):
            return 0.0
        return self._speeds[at] if ranked.hides_from(lane, now_ms) else 0.0

    def _first(self, lane: Lane, at: int, now_ms: int) -> int:
        """The best entry of a class for a lane, -1 for none."""
        ranked = self._ranks[at]
        if lane.is_plain:
            if at in self._single:
                return ranked.first_that_is_idle(self._cost)
            return ranked.first_that_holds(self._cost)
        entries, best = ranked.entries, -1
        for place, entry in enumerate(entries):
            if self.is_barred(lane, at, entry[3], now_ms):
                continue
            if place == 0:
                return 0
            if best < 0 or entry[:3] < entries[best][:3]:
                best = place
        return best
