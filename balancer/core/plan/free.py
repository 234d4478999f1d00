"""The free agents of one class while a plan is made: best first, and what the plan took of them."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any

from balancer.core.lanes import Lane
from balancer.core.plan.rules import bars
from balancer.core.strategies import Scores
from balancer.core.turns import Turns
from balancer.core.view import FreeAgent, FreeClass

#: Below this plan's own numbers.
FRESH = 1 << 30

#: An agent's place within its class: (rank, smaller is better; freed_us, number, agent, parts of the score).
#: The number settles ties; it is negative until this plan has used the agent.
Entry = tuple[Any, int, int, FreeAgent, Scores]


class Ranked:
    """The agents of one class, best first (a heap).

    `fresh` counts those in turn that this plan has not used yet. Where the class has more agents than the
    picture shows, one of those may be better than any that was used already.
    """

    __slots__ = ("_enter", "entries", "fresh", "partial")

    def __init__(self, entries: list[Entry], fresh: int, partial: bool, enter: Enter) -> None:
        heapify(entries)
        self.entries, self.fresh, self.partial = entries, fresh, partial and fresh > 0
        self._enter = enter

    @property
    def hides(self) -> bool:
        """Whether the picture's agents are all used, and there are more."""
        return self.partial and not self.fresh

    def hides_from(self, lane: Lane, now_ms: int) -> bool:
        """The same for the tasks of a lane that bars some of them: those are nobody who could be used yet."""
        if not self.partial or not self.fresh:
            return self.partial
        return all(each[2] >= 0 or bars(lane, each[3], now_ms) for each in self.entries)

    def first_that_holds(self, cost: int) -> int:
        """Index of the best agent with `cost` units left, -1 for none.

        Nearly always the first; agents too full for this cost keep their place.
        """
        entries = self.entries
        if not entries:
            return -1
        first = entries[0][3]
        if first.used + cost <= first.max_concurrent:
            return 0
        fitting = [
            (entry[:3], at)
            for at, entry in enumerate(entries)
            if entry[3].used + cost <= entry[3].max_concurrent
        ]
        return min(fitting)[1] if fitting else -1

    def first_that_is_idle(self, cost: int) -> int:
        """Index of the best agent that holds nothing and has `cost` units, -1 for none."""
        idle = [
            (entry[:3], at)
            for at, entry in enumerate(self.entries)
            if not entry[3].used and cost <= entry[3].max_concurrent
        ]
        return min(idle)[1] if idle else -1

    def take(self, at: int, cost: int, number: Turns) -> None:
        """The agent at this place has `cost` units less; it leaves when it has none."""
        entries = self.entries
        id_, type_, most, used, health, freed_us, turn = entries[at][3]
        turn = number.after_grant(turn)
        if entries[at][2] < 0:
            self.fresh -= 1
        if used + cost >= most:
            self._pop(at)
            return
        agent = FreeAgent(id_, type_, most, used + cost, health, freed_us, turn)
        left = self._enter(agent, next(number))
        if at == 0:
            heapreplace(entries, left)
        else:
            self._pop(at)
            heappush(entries, left)

    def keep(self, at: int) -> None:
        """The agent at this place gets nothing more."""
        if self.entries[at][2] < 0:
            self.fresh -= 1
        self._pop(at)

    def _pop(self, at: int) -> None:
        entries = self.entries
        if at == 0:
            heappop(entries)
            return
        entries[at] = entries[-1]
        entries.pop()
        heapify(entries)


class Idle(Ranked):
    """The same agents to a lane that only those may have that hold nothing."""

    __slots__ = ("_of",)

    def __init__(self, of: Ranked) -> None:
        self._of = of
        self.entries, self.partial, self._enter = of.entries, of.partial, of._enter

    @property
    def fresh(self) -> int:
        """As many as of all of them."""
        return self._of.fresh

    @fresh.setter
    def fresh(self, count: int) -> None:
        self._of.fresh = count

    def first_that_holds(self, cost: int) -> int:
        """Index of the best agent that holds nothing and has `cost` units, -1 for none."""
        return self.first_that_is_idle(cost)


#: Makes an agent's entry, under a number.
Enter = Callable[[FreeAgent, int], Entry]


def rank(
    fc: FreeClass, enter: Enter, number: Turns, least_health: float, kept: str | None
) -> Ranked:
    """The agents of a class that may be given work at all."""
    in_turn = len(fc.agents) - fc.extra
    entries, fresh = [], 0
    for at, agent in enumerate(fc.agents):
        if agent.health < least_health or agent.id == kept:
            continue
        is_fresh = at < in_turn
        fresh += is_fresh
        entries.append(enter(agent, next(number) - (FRESH if is_fresh else 0)))
    return Ranked(entries, fresh, fc.size > len(fc.agents), enter)


class Beyond(Exception):
    """The best choice may lie outside the picture. `instead`: the best one in it."""

    def __init__(self, instead: Any = None) -> None:
        super().__init__()
        self.instead = instead
