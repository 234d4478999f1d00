"""The real planner in the simulation without Redis: its views are made here, whole or bounded as the script bounds
them.
"""

from __future__ import annotations

import math
import random
from bisect import insort
from collections import defaultdict
from collections.abc import Sequence

from balancer.core.fleet import Fleet
from balancer.core.lanes import AgentClass, Lane
from balancer.core.model import Priority
from balancer.core.planner import Planner
from balancer.core.queue_order import Queue, QueueOrder
from balancer.core.settings import PoolSettings
from balancer.core.view import FreeAgent, FreeClass, Head, LaneView, RoleView, View
from balancer.simulate.engine import Run, Simulation
from balancer.simulate.fleet import Fleet as SimFleet
from balancer.simulate.trace import Trace

#: Where the clock of a simulation stands at its 0, so that times look like those of a pool.
START_US = 1_700_000_000_000_000
#: view.lua's bounds.
MOST_UNITS, MOST_CLASSES, MOST_AGENTS = 128, 256, 512


class Planned:
    """A policy of the simulation that asks the planner. `estimates_s` by task; `bounded` views as the script makes
    them, else everything is in the picture.
    """

    def __init__(
        self,
        sim: Simulation,
        settings: PoolSettings,
        estimates_s: Sequence[float],
        *,
        bounded: bool,
    ) -> None:
        self._sim, self._estimates_s, self._bounded = sim, estimates_s, bounded
        self._planner = Planner(settings)
        self._order = QueueOrder.of(settings, Queue.EFFORT)
        self._lanes: dict[str, dict[int, list[tuple[float, int]]]] = defaultdict(dict)
        self._made: dict[tuple[str, int], Lane] = {}
        self._used = [0] * len(sim.fleet.agents)
        self._freed_us = [START_US] * len(sim.fleet.agents)
        self._service: dict[str, tuple[int, float]] = {}
        names = sim.trace.categories
        self._class_of: list[AgentClass] = []
        known: dict[AgentClass, AgentClass] = {}
        for agent in sim.fleet.agents:
            speeds = tuple(sorted(zip(names, agent.speeds, strict=True)))
            cls = AgentClass(agent.role, (), agent.slots, speeds=speeds)
            self._class_of.append(known.setdefault(cls, cls))
        units: dict[str, dict[AgentClass, int]] = defaultdict(lambda: defaultdict(int))
        for cls in self._class_of:
            units[cls.role][cls] += cls.max_concurrent
        self._fleets = {role: Fleet(classes.items()) for role, classes in units.items()}
        #: Free agents of each class, best first: (used, freed_us, place).
        self._free: dict[str, dict[int, tuple[AgentClass, list[tuple[int, int, int]]]]] = (
            defaultdict(dict)
        )
        for place, cls in enumerate(self._class_of):
            _, free = self._free[cls.role].setdefault(id(cls), (cls, []))
            insort(free, (0, START_US, place))
        self.plans = self.asked = 0

    def ready(self, task: int) -> None:
        """Into its lane, and plan."""
        trace = self._sim.trace
        role, category = trace.role[task], trace.category[task]
        delay_us = self._order.delay_us(
            trace.rows[task].priority, round(1e3 * self._estimates_s[task])
        )
        insort(self._lanes[role].setdefault(category, []), (self._now_us() + delay_us, task))
        self._drain(role)

    def freed(self, agent: int, task: int) -> None:
        """Note how long it took, and plan."""
        run, role = self._sim.run, self._sim.trace.role[task]
        count, mean_s = self._service.get(role, (0, 0.0))
        count = min(count + 1, 300)
        mean_s += (run.end_s[task] - run.start_s[task] - mean_s) / count
        self._service[role] = (count, mean_s)
        self._move(agent, -1)
        self._drain(role)

    def _now_us(self) -> int:
        return START_US + round(1e6 * self._sim.now)

    def _move(self, place: int, units: int) -> None:
        cls = self._class_of[place]
        _, free = self._free[cls.role][id(cls)]
        if self._used[place] < cls.max_concurrent:
            free.remove((self._used[place], self._freed_us[place], place))
        self._used[place] += units
        if units < 0:
            self._freed_us[place] = self._now_us()
        if self._used[place] < cls.max_concurrent:
            insort(free, (self._used[place], self._freed_us[place], place))

    def _drain(self, role: str) -> None:
        while (view := self._view(role)) is not None:
            proposals = self._planner.decide(view).proposals
            self.asked += 1
            for wish in proposals:
                task, place = int(wish.task), int(wish.agent)
                lane = self._lanes[role][self._sim.trace.category[task]]
                lane.pop(next(at for at, (_, other) in enumerate(lane) if other == task))
                self._move(place, 1)
                self._sim.start(task, place)
            if not proposals:
                return

    def _view(self, role: str) -> View | None:
        lanes = {category: lane for category, lane in self._lanes[role].items() if lane}
        classes = [pair for pair in self._free[role].values() if pair[1]]
        free = sum(cls.max_concurrent - used for cls, agents in classes for used, _, _ in agents)
        units = min(free, sum(map(len, lanes.values())), MOST_UNITS)
        if not units:
            return None
        heads, each = 10**9, 10**9
        if self._bounded:
            classes.sort(key=lambda pair: -sum(pair[0].max_concurrent - one[0] for one in pair[1]))
            classes = classes[:MOST_CLASSES]
            heads = min(units, max(4, math.ceil(2 * units / len(lanes))))
            each = max(math.ceil(1.5 * units / len(classes)), min(4, MOST_AGENTS // len(classes)))
        now_us = self._now_us()
        role_view = RoleView(
            role,
            [self._lane_view(role, category, lane, heads) for category, lane in lanes.items()],
            [FreeClass(cls, len(agents), [self._agent(*one) for one in agents[:each]]) for cls, agents in classes],
            units,
            self._fleets[role],
            self._service.get(role, (0, 0.0))[1],
        )  # fmt: skip
        return View(now_us // 1000, False, [role_view])

    def _lane_view(
        self, role: str, category: int, lane: list[tuple[float, int]], most: int
    ) -> LaneView:
        rows, name = self._sim.trace.rows, self._sim.trace.categories[category]
        made = self._made.setdefault((role, category), Lane(role, name, 1))
        heads = [
            Head(order_us, str(task), self._estimates_s[task], Priority(rows[task].priority))
            for order_us, task in lane[: min(most, MOST_UNITS)]
        ]
        return LaneView(made, len(lane), heads)

    def _agent(self, used: int, freed_us: int, place: int) -> FreeAgent:
        return FreeAgent(str(place), "", self._class_of[place].max_concurrent, used, 1.0, freed_us)


def run_planned(
    trace: Trace,
    arrivals: Sequence[float],
    fleet: SimFleet,
    settings: PoolSettings,
    estimates_s: Sequence[float] | None = None,
    *,
    bounded: bool = True,
) -> Run:
    """Replay a trace through the planner; sizes are known unless estimates are given."""
    sim = Simulation(trace, arrivals, fleet, random.Random(1))
    return sim.play(Planned(sim, settings, estimates_s or trace.size_s, bounded=bounded))
