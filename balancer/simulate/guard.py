"""With known sizes: the heads of the categories against their fastest free agents, which may be refused as too slow.

With ageing it is what the strategy `fit` does, but with true sizes in the place of estimates.
"""

from __future__ import annotations

import heapq

from balancer.simulate.engine import Simulation

#: A slower agent is refused if waiting for a faster one is expected to finish so many times sooner.
SLACK = 1.5
#: Faster means by more than a twentieth.
FASTER = 1.05
#: The mean time of service forgets over so many tasks.
SERVICE_MEMORY = 300


class Guard:
    """Smallest size / (weight x relative speed) + ageing x ready first, over pairs of a category's head and its
    fastest free agent.
    """

    def __init__(self, sim: Simulation, ageing: float = 0.0) -> None:
        self._sim, self._ageing = sim, ageing
        self._queues: dict[str, dict[int, list[tuple[float, int]]]] = {
            role: {} for role in sim.fleet.by_role
        }
        #: Tasks that ended and their mean time of service, seconds.
        self._service = dict.fromkeys(sim.fleet.by_role, (0, 1.0))
        self._faster: dict[tuple[int, int], tuple[int, float]] = {}

    def ready(self, task: int) -> None:
        """Into its queue, and see who could take what."""
        trace = self._sim.trace
        queue = self._queues[trace.role[task]].setdefault(trace.category[task], [])
        cost = trace.size_s[task] / trace.weight[task]
        heapq.heappush(queue, (cost + self._ageing * self._sim.now, task))
        self._dispatch(trace.role[task])

    def freed(self, agent: int, task: int) -> None:
        """Note how long it took, and see who could take what."""
        run, role = self._sim.run, self._sim.trace.role[task]
        count, mean_s = self._service[role]
        count = min(count + 1, SERVICE_MEMORY)
        took_s = run.end_s[task] - run.start_s[task]
        self._service[role] = (count, mean_s + (took_s - mean_s) / count)
        self._dispatch(role)

    def _dispatch(self, role: str) -> None:
        sim, queues = self._sim, self._queues[role]
        while free := sim.free_agents(role):
            best: tuple[float, int, int] | None = None
            for category, queue in queues.items():
                if not queue:
                    continue
                place, task = queue[0]
                agent = sim.fastest(free, task)
                if self._refused(role, task, agent, len(queue)):
                    continue
                relative = sim.speeds[agent][category] / sim.fleet.best_speed(role, category)
                age = self._ageing * sim.run.ready_s[task]
                index = (place - age) / relative + age
                if best is None or index < best[0]:
                    best = (index, category, agent)
            if best is None:
                return
            _, category, agent = best
            sim.start(heapq.heappop(queues[category])[1], agent)

    def _refused(self, role: str, task: int, agent: int, waiting: int) -> bool:
        """Whether a faster agent is expected to be done with it clearly sooner."""
        sim = self._sim
        slots, speed = self._faster_than(agent, sim.trace.category[task])
        if not slots:
            return False
        size_s = sim.trace.size_s[task]
        later_s = self._service[role][1] / slots * (1 + waiting) + size_s / speed
        return sim.duration_s(task, agent) > SLACK * later_s

    def _faster_than(self, agent: int, category: int) -> tuple[int, float]:
        """Slots of the role's agents that are clearly faster, and their mean speed by slot."""
        if (agent, category) not in self._faster:
            agents = self._sim.fleet.agents
            faster = [
                (other.slots, other.speeds[category])
                for other in (agents[o] for o in self._sim.fleet.by_role[agents[agent].role])
                if other.speeds[category] > agents[agent].speeds[category] * FASTER
            ]
            slots = sum(own for own, _ in faster)
            speed = sum(own * speed for own, speed in faster) / max(1, slots)
            self._faster[agent, category] = (slots, speed)
        return self._faster[agent, category]
