"""The agents of a role that accept work, busy or not, by class: what a free agent is compared with."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

from balancer.core.lanes import AgentClass, Gate, Lane, feasible

#: So many times faster than another is better than that one.
BETTER = 1.05
#: Most lanes whose ladders are remembered.
_MOST_LADDERS = 4_096
#: Most pairs of lane and class whose speeds are remembered.
_MOST_JUDGED = 200_000
_NOTHING: Mapping[float, int] = MappingProxyType({})


class Rung(NamedTuple):
    """What one class is to a lane, beside the others that may serve it."""

    speed: float
    #: How much longer a task takes here than with the fastest: fastest / speed - 1, 0 for the fastest.
    lag: float
    #: Units of the classes that are better, and their mean speed (weighed by units; 0 without any).
    better_units: int
    better_speed: float


class Judged:
    """How fast classes are at the tasks of one lane; 0 where they may not have them. Each is judged once.

    By identity: a class is hashed whole each time, and a plan asks often. Holding it keeps its identity.
    """

    __slots__ = ("_lane", "known")

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.known: dict[int, tuple[AgentClass, float]] = {}

    def speed(self, cls: AgentClass) -> float:
        """Its speed, or 0."""
        one = self.known.get(id(cls))
        if one is None:
            lane = self._lane
            speed = cls.speed_of(lane.category) if feasible(lane, cls) else 0.0
            one = self.known[id(cls)] = (cls, speed)
        return one[1]

    def speeds(self, classes: Sequence[AgentClass]) -> tuple[float, ...]:
        """Of each class its speed, or 0."""
        known = self.known
        try:
            return tuple([known[id(cls)][1] for cls in classes])
        except KeyError:
            return tuple(map(self.speed, classes))


class Steps:
    """The speeds of the classes that are worth waiting for, with how much of each there is."""

    def __init__(
        self, judged: Judged, classes: Iterable[tuple[AgentClass, int]], *, gates: bool = True
    ) -> None:
        self.judged = judged
        able = [pair for pair in classes if judged.speed(pair[0])]
        #: Whether those that are shut out get nothing of it, and those that are probed one task: there are others.
        self.shuts = gates and any(not cls.gate for cls, _ in able)
        self._classes = [pair for pair in able if self.counts(pair[0])]
        self._units: dict[AgentClass, int] = {}
        self.agents = sum(
            units // cls.max_concurrent for cls, units in self._classes if cls.max_concurrent
        )
        by_speed: Counter[float] = Counter()
        for cls, units in self._classes:
            by_speed[judged.speed(cls)] += units
        #: Fastest last; and from each on the units, and their work a second, of all that are as fast or faster.
        self._speeds = sorted(by_speed)
        self._units_from, self._work_from = [0], [0.0]
        for speed in reversed(self._speeds):
            self._units_from.append(self._units_from[-1] + by_speed[speed])
            self._work_from.append(self._work_from[-1] + speed * by_speed[speed])
        self._units_from.reverse()
        self._work_from.reverse()

    def serves(self, cls: AgentClass) -> bool:
        """Whether agents of a class may have tasks of the lane at all."""
        return self.judged.speed(cls) > 0 and not (self.shuts and cls.gate is Gate.SHUT)

    def counts(self, cls: AgentClass) -> bool:
        """Whether agents of a class are somebody to wait for. One that is probed is not: once it holds its one task,
        it gets nothing more until that has ended.
        """
        return self.judged.speed(cls) > 0 and not (self.shuts and cls.gate)

    def speeds(self, classes: Sequence[AgentClass], shut: Sequence[int]) -> tuple[float, ...]:
        """Of each class its speed, 0 where it may not serve the lane. `shut`: which are shut out, where any is."""
        speeds = self.judged.speeds(classes)
        if not (shut and self.shuts):
            return speeds
        own = list(speeds)
        for at in shut:
            own[at] = 0.0
        return tuple(own)

    def units_of(self, cls: AgentClass) -> int:
        """Units of a class, 0 when it is nobody to wait for."""
        if not self._units:
            for one, units in self._classes:
                self._units[one] = self._units.get(one, 0) + units
        return self._units.get(cls, 0)

    def rung(self, speed: float, less: Mapping[float, int]) -> Rung:
        """Where a class of this speed stands when so many units of these speeds are not there."""
        above = bisect_right(self._speeds, BETTER * speed)
        units, work = self._units_from[above], self._work_from[above]
        for one, gone in less.items():
            if one > BETTER * speed:
                units, work = units - gone, work - one * gone
        fastest = next((one for one in reversed(self._speeds) if self._has(one, less)), 0.0)
        lag = max(fastest / speed - 1, 0.0)
        return Rung(speed, lag, units, work / units) if units else Rung(speed, lag, 0, 0.0)

    def _has(self, speed: float, less: Mapping[float, int]) -> bool:
        if speed not in less:
            return True
        at = bisect_right(self._speeds, speed)
        return self._units_from[at - 1] - self._units_from[at] > less[speed]


class Ladder:
    """The classes that may serve a lane, by their speed in its category; without some of their agents."""

    __slots__ = ("_less", "_rungs", "steps")

    def __init__(self, steps: Steps, less: Mapping[float, int] = _NOTHING) -> None:
        """`less`: so many units of these speeds are nobody to wait for."""
        self.steps, self._less = steps, less
        self._rungs: dict[float, Rung] = {}

    @property
    def agents(self) -> int:
        """How many agents the lane may wait for, busy or not."""
        return self.steps.agents

    def without(self, failed: Iterable[AgentClass]) -> Ladder:
        """The same with an agent less of each of these classes. Who may serve the lane is not judged again."""
        less: Counter[float] = Counter()
        for cls, count in Counter(failed).items():
            if units := self.steps.units_of(cls):
                less[self.steps.judged.speed(cls)] += min(count * cls.max_concurrent, units)
        return Ladder(self.steps, less)

    def serves(self, cls: AgentClass) -> bool:
        """Whether agents of a class may have tasks of the lane at all."""
        return self.steps.serves(cls)

    def counts(self, cls: AgentClass) -> bool:
        """Whether agents of a class are somebody to wait for."""
        return self.steps.counts(cls)

    def probes(self, cls: AgentClass) -> bool:
        """Whether agents of a class have tasks of the lane only while they hold nothing, as there are others."""
        return self.steps.shuts and cls.gate is Gate.PROBE

    def rung(self, cls: AgentClass) -> Rung | None:
        """Where a class stands; None when its agents could never serve the lane. One that is gated has its place."""
        speed = self.steps.judged.speed(cls)
        if not speed:
            return None
        rung = self._rungs.get(speed)
        if rung is None:
            rung = self._rungs[speed] = self.steps.rung(speed, self._less)
        return rung


class Fleet:
    """The live, accepting agents of a role, by class. Immutable: what was worked out is remembered."""

    def __init__(
        self,
        classes: Iterable[tuple[AgentClass, int]],
        earlier: Fleet | None = None,
        *,
        gates: bool = True,
        rest: Iterable[tuple[AgentClass, int]] = (),
    ) -> None:
        """`classes`: each with the units of all its agents, used or not. `earlier`: one whose judgements are good
        still, as lanes and classes do not change; only who is there does. `gates`: whether any is shut out. `rest`:
        more classes, where they are too many to compare with each: asked only whether a failed task has others left.
        """
        self.classes, self.rest = tuple(classes), tuple(rest)
        self._rest_agents: dict[Lane, int] = {}
        self._gates = gates
        self._ladders: dict[int, tuple[Lane, Ladder]] = {}
        self._plain: dict[Lane, Ladder] = {}
        self._judged: dict[Lane, Judged] = {}
        if earlier and sum(len(one.known) for one in earlier._judged.values()) <= _MOST_JUDGED:
            self._judged = earlier._judged

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fleet) and self.classes == other.classes

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def ungated(self) -> Fleet:
        """The same, as if nobody were shut out."""
        return Fleet(self.classes, self, gates=False, rest=self.rest)

    def bound(self, gates: bool) -> Fleet:
        """The fleet of a pool that shuts agents out, or does not."""
        return self if gates else self.ungated

    def ladder(self, lane: Lane, tried: Mapping[str, AgentClass] | None = None) -> Ladder:
        """The classes that may serve a lane. The agents that failed its tasks are nobody to wait for:
        `tried` names the class of each.
        """
        known = self._ladders.get(id(lane))
        if known is None:
            if len(self._ladders) >= _MOST_LADDERS:
                self._ladders.clear()
            known = self._ladders[id(lane)] = (lane, self._plain_ladder(lane))
        failed = [tried[id_] for id_ in lane.tried if id_ in tried] if tried else ()
        return known[1].without(failed) if failed else known[1]

    def _plain_ladder(self, lane: Lane) -> Ladder:
        """That of the lane as its producer meant it; many that are not plain share one."""
        plain = lane._replace(alone=False, avoid=(), avoid_until_ms=0, tried=())
        ladder = self._plain.get(plain)
        if ladder is None:
            if len(self._judged) * len(self.classes) >= _MOST_JUDGED:
                self._plain, self._judged, self._ladders = {}, {}, {}
            judged = self._judged.get(plain) or self._judged.setdefault(plain, Judged(plain))
            ladder = self._plain[plain] = Ladder(Steps(judged, self.classes, gates=self._gates))
        return ladder

    def void_tried(self, lane: Lane, tried: Mapping[str, AgentClass]) -> Lane:
        """The lane as it binds: without the agents that failed its tasks, once no other could have them.

        `tried`: the class of each of those that is live and accepts work.
        """
        if not lane.tried:
            return lane
        ladder = self.ladder(lane)
        agents = ladder.agents - sum(
            id_ in tried and ladder.counts(tried[id_]) for id_ in lane.tried
        )
        if agents <= 0 and self.rest:
            agents += self._agents_of_rest(lane, ladder)
        return lane if agents > 0 else lane._replace(tried=())

    def _agents_of_rest(self, lane: Lane, ladder: Ladder) -> int:
        """How many agents of the rest a lane may wait for. Counted once a kind of work."""
        plain = lane._replace(alone=False, avoid=(), avoid_until_ms=0, tried=())
        known = self._rest_agents.get(plain)
        if known is None:
            shuts = ladder.steps.shuts
            known = self._rest_agents[plain] = sum(
                units // cls.max_concurrent
                for cls, units in self.rest
                if not (shuts and cls.gate) and feasible(plain, cls)
            )
        return known
