"""Smith's order with reservations: a task may leave a free agent idle and wait for one that finishes it earlier."""

from __future__ import annotations

import heapq
from bisect import insort

from balancer.simulate.engine import Simulation

#: So many waiting tasks are planned ahead.
AHEAD = 24
#: A busy slot comes free after now, seconds.
BUSY_S = 1e-9


class Reserve:
    """By size / weight, each waiting task is planned where it finishes earliest; what is planned for now starts."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._pending: dict[str, list[tuple[float, int]]] = {role: [] for role in sim.fleet.by_role}
        #: When each running task of an agent ends, seconds.
        self._ends: list[list[float]] = [[] for _ in sim.fleet.agents]

    def ready(self, task: int) -> None:
        """In its place, and plan anew."""
        trace = self._sim.trace
        insort(self._pending[trace.role[task]], (trace.size_s[task] / trace.weight[task], task))
        self._plan(trace.role[task])

    def freed(self, agent: int, task: int) -> None:
        """Plan anew."""
        self._ends[agent].remove(self._sim.run.end_s[task])
        self._plan(self._sim.trace.role[task])

    def _plan(self, role: str) -> None:
        sim, pending = self._sim, self._pending[role]
        now = sim.now
        units = sum(sim.free[agent] for agent in sim.fleet.by_role[role])
        if not units or not pending:
            return
        # Per agent, when each of its slots comes free: a heap.
        slots = [
            (agent, self._slots(agent, now), sim.speeds[agent]) for agent in sim.fleet.by_role[role]
        ]
        started = []
        for place, (_, task) in enumerate(pending[:AHEAD]):
            size_s, category = sim.trace.size_s[task], sim.trace.category[task]
            end_s, agent, when = min(
                (when[0] + size_s / speeds[category], agent, when) for agent, when, speeds in slots
            )
            begins_s = heapq.heapreplace(when, end_s)
            if begins_s > now:
                continue
            sim.start(task, agent)
            self._ends[agent].append(end_s)
            started.append(place)
            units -= 1
            if not units:
                break
        for place in reversed(started):
            del pending[place]

    def _slots(self, agent: int, now: float) -> list[float]:
        when = [now] * self._sim.free[agent]
        when += [max(end_s, now + BUSY_S) for end_s in self._ends[agent]]
        heapq.heapify(when)
        return when
