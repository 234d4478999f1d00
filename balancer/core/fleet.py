"""The agents of a role that accept work, busy or not, by class: what a free agent is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from functools import cached_property
from typing import NamedTuple

from balancer.core.lanes import AgentClass, Gate, Lane, feasible

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

    def __init__(
        self, lane: Lane, classes: Iterable[tuple[AgentClass, int]], *, gates: bool = True
    ) -> None:
        self._lane = lane
        #: How many agents may serve the lane, busy or not.
        self.agents = 0
        self._places: dict[AgentClass, int] = {}
        self._speeds: list[tuple[float, int]] = []
        able = [pair for pair in classes if feasible(lane, pair[0])]
        #: Whether those that are shut out get nothing of it: there are others.
        self._shuts = gates and any(not cls.gate for cls, _ in able)
        for cls, units in able:
            if self.serves(cls):
                self._places[cls] = len(self._speeds)
                self._speeds.append((cls.speed_of(lane.category), units))
                self.agents += units // cls.max_concurrent if cls.max_concurrent else 0
        self._whole: Ladder | None = None
        self._climb()

    def serves(self, cls: AgentClass) -> bool:
        """Whether agents of a class may have tasks of the lane at all."""
        return feasible(self._lane, cls) and not (self._shuts and cls.gate is Gate.SHUT)

    def _climb(self) -> None:
        self._fastest = max((speed for speed, _ in self._speeds), default=0.0)
        self._rungs: dict[float, Rung] = {}
        #: By identity: a class is hashed whole each time, and a plan asks often. Holding it keeps its identity.
        self._known: dict[int, tuple[AgentClass, Rung | None]] = {}

    def without(self, failed: Iterable[AgentClass]) -> Ladder:
        """The same with an agent less of each of these classes. Who may serve the lane is not judged again."""
        less = copy(self)
        less._whole, speeds = self, list(self._speeds)
        for cls in failed:
            place = self._places.get(cls)
            if place is not None:
                speed, units = speeds[place]
                speeds[place] = (speed, units - cls.max_concurrent)
        less._speeds = [(speed, units) for speed, units in speeds if units > 0]
        less._climb()
        return less

    def rung(self, cls: AgentClass) -> Rung | None:
        """Where a class stands; None when its agents could never serve the lane. One that is shut out has its place."""
        if self._whole is not None:
            whole = self._whole.rung(cls)
            return whole and self._at(whole.speed)
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

    def __init__(self, classes: Iterable[tuple[AgentClass, int]], *, gates: bool = True) -> None:
        """`classes`: each with the units of all its agents, used or not. `gates`: whether any is shut out."""
        self.classes = tuple(classes)
        #: Whether those who are probed get one task at a time: there are others to do the work.
        self.probes = gates and any(not cls.gate for cls, _ in self.classes)
        self._gates = gates
        self._ladders: dict[int, tuple[Lane, Ladder]] = {}
        self._plain: dict[Lane, Ladder] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fleet) and self.classes == other.classes

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def ungated(self) -> Fleet:
        """The same, as if nobody were shut out."""
        return Fleet(self.classes, gates=False)

    def bound(self, gates: bool) -> Fleet:
        """The fleet of a pool that shuts agents out, or does not."""
        return self if gates else self.ungated

    def ladder(self, lane: Lane, tried: Mapping[str, AgentClass] | None = None) -> Ladder:
        """The classes that may serve a lane. The agents that failed its tasks are nobody to wait for:
        `tried` names the class of each.
        """
        if not lane.is_plain:
            failed = [(tried or {})[id_] for id_ in lane.tried if id_ in (tried or {})]
            whole = self._plain_ladder(lane)
            return whole.without(failed) if failed else whole
        known = self._ladders.get(id(lane))
        if known is None:
            if len(self._ladders) >= _MOST_LADDERS:
                self._ladders.clear()
            known = self._ladders[id(lane)] = (lane, Ladder(lane, self.classes, gates=self._gates))
        return known[1]

    def _plain_ladder(self, lane: Lane) -> Ladder:
        """That of the lane as its producer meant it; many that are not plain share one."""
        plain = lane._replace(alone=False, avoid=(), avoid_until_ms=0, tried=())
        ladder = self._plain.get(plain)
        if ladder is None:
            if len(self._plain) >= _MOST_LADDERS:
                self._plain.clear()
            ladder = self._plain[plain] = Ladder(plain, self.classes, gates=self._gates)
        return ladder

    def void_tried(self, lane: Lane, tried: Mapping[str, AgentClass]) -> Lane:
        """The lane as it binds: without the agents that failed its tasks, once no other could have them.

        `tried`: the class of each of those that is live and accepts work.
        """
        if not lane.tried:
            return lane
        ladder = self._plain_ladder(lane)
        agents = ladder.agents
        agents -= sum(id_ in tried and ladder.serves(tried[id_]) for id_ in lane.tried)
        return lane if agents > 0 else lane._replace(tried=())
