"""The agents of a role that accept work, busy or not, by class: what a free agent is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from balancer.core.lanes import AgentClass, Lane, feasible

#: So many times faster than another is better than that one.
BETTER = 1.05
#: Most lanes whose ladders are remembered.
_MOST_LADDERS = 4_096


class Rung(NamedTuple):
    """What one class is to a lane, beside the others that may serve it."""

    speed: float
    #: How much longer a task takes here than with the fastest: fastest / speed - 1, 0 for the fastest.
    lag: float
    #: Units of the classes that are better, and their mean speed (weighed by units; 0 without any).
    better_units: int
    better_speed: float


class Ladder:
    """The classes that may serve a lane, by their speed in its category."""

    def __init__(self, lane: Lane, classes: Iterable[tuple[AgentClass, int]]) -> None:
        self._lane = lane
        self._speeds = [
            (cls.speed_of(lane.category), units) for cls, units in classes if feasible(lane, cls)
        ]
        self._fastest = max((speed for speed, _ in self._speeds), default=0.0)
        self._rungs: dict[float, Rung] = {}
        #: By identity: a class is hashed whole each time, and a plan asks often. Holding it keeps its identity.
        self._known: dict[int, tuple[AgentClass, Rung | None]] = {}

    def rung(self, cls: AgentClass) -> Rung | None:
        """Where a class stands; None when it may not serve the lane."""
        known = self._known.get(id(cls))
        if known is None:
            rung = (
                self._at(cls.speed_of(self._lane.category)) if feasible(self._lane, cls) else None
            )
            known = self._known[id(cls)] = (cls, rung)
        return known[1]

    def _at(self, speed: float) -> Rung:
        rung = self._rungs.get(speed)
        if rung is None:
            better = [(one, units) for one, units in self._speeds if one > BETTER * speed]
            units = sum(units for _, units in better)
            mean = sum(one * units for one, units in better) / units if units else 0.0
            rung = Rung(speed, max(self._fastest / speed - 1, 0.0), units, mean)
            self._rungs[speed] = rung
        return rung


class Fleet:
    """The live, accepting agents of a role, by class. Immutable: what was worked out is remembered."""

    def __init__(self, classes: Iterable[tuple[AgentClass, int]]) -> None:
        """`classes`: each with the units of all its agents, used or not."""
        self.classes = tuple(classes)
        self._ladders: dict[int, tuple[Lane, Ladder]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fleet) and self.classes == other.classes

    __hash__ = None  # type: ignore[assignment]

    def ladder(self, lane: Lane, tried: Mapping[str, AgentClass] | None = None) -> Ladder:
        """The classes that may serve a lane. The agents that failed its tasks are nobody to wait for:
        `tried` names the class of each.
        """
        failed = [(tried or {})[id_] for id_ in lane.tried if id_ in (tried or {})]
        if failed:
            less = [(cls, -cls.max_concurrent) for cls in failed]
            return Ladder(lane, _summed([*self.classes, *less]))
        known = self._ladders.get(id(lane))
        if known is None:
            if len(self._ladders) >= _MOST_LADDERS:
                self._ladders.clear()
            known = self._ladders[id(lane)] = (lane, Ladder(lane, self.classes))
        return known[1]

    def void_tried(self, lane: Lane, tried: Mapping[str, AgentClass]) -> Lane:
        """The lane as it binds: without the agents that failed its tasks, once no other could have them.

        `tried`: the class of each of those that is live and accepts work.
        """
        if not lane.tried:
            return lane
        agents = sum(
            units // cls.max_concurrent
            for cls, units in self.classes
            if cls.max_concurrent and feasible(lane, cls)
        )
        agents -= sum(id_ in tried and feasible(lane, tried[id_]) for id_ in lane.tried)
        return lane if agents > 0 else lane._replace(tried=())


def _summed(classes: Iterable[tuple[AgentClass, int]]) -> list[tuple[AgentClass, int]]:
    sums: dict[AgentClass, int] = {}
    for cls, units in classes:
        sums[cls] = sums.get(cls, 0) + units
    return [(cls, units) for cls, units in sums.items() if units > 0]
