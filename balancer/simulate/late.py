"""Policies with one queue a role, from which slots are fed as they become free. No agent waits while work does."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from balancer.simulate.engine import Simulation

#: What puts tasks in order: the smallest comes first, ties as they are numbered.
Order = Callable[[Simulation, int], tuple[float, ...]]
#: Which of the free agents gets a task that need not wait.
Pick = Callable[[Simulation, Sequence[int], int], int]


def by_ready(sim: Simulation, task: int) -> tuple[float, ...]:
    """First come, first served."""
    return (sim.run.ready_s[task],)


def by_priority(sim: Simulation, task: int) -> tuple[float, ...]:
    """The most urgent first, first come within it."""
    return (-sim.trace.weight[task], sim.run.ready_s[task])


def by_size(sim: Simulation, task: int) -> tuple[float, ...]:
    """The shortest first (SJF)."""
    return (sim.trace.size_s[task],)


def by_weighted_size(sim: Simulation, task: int) -> tuple[float, ...]:
    """Smith's rule: the smallest size / weight first."""
    return (sim.trace.size_s[task] / sim.trace.weight[task],)


def any_agent(sim: Simulation, agents: Sequence[int], _task: int) -> int:
    """Whoever asks first."""
    return sim.rng.choice(agents)


def fastest_agent(sim: Simulation, agents: Sequence[int], task: int) -> int:
    """The fastest at this task."""
    return sim.fastest(agents, task)


def best_score(sim: Simulation, agents: Sequence[int], task: int) -> int:
    """The first seed's score: health, .3 for a specialist, .2 for an empty agent."""
    category = sim.trace.categories[sim.trace.category[task]]

    def score(place: int) -> float:
        agent = sim.fleet.agents[place]
        load = (agent.slots - sim.free[place]) / agent.slots
        return agent.health + 0.3 * (category in agent.specializations) + 0.2 * (1 - load)

    return max(agents, key=score)


class Pull:
    """A sorted queue a role. A free slot takes its head; a task that finds free agents picks one."""

    def __init__(self, sim: Simulation, order: Order, pick: Pick) -> None:
        self._sim, self._order, self._pick = sim, order, pick
        self._queues: dict[str, list[tuple[tuple[float, ...], int]]] = {
            role: [] for role in sim.fleet.by_role
        }

    def ready(self, task: int) -> None:
        """Start it if nobody waits and somebody is free."""
        role = self._sim.trace.role[task]
        queue = self._queues[role]
        free = [] if queue else self._sim.free_agents(role)
        if free:
            self._sim.start(task, self._pick(self._sim, free, task))
        else:
            heapq.heappush(queue, (self._order(self._sim, task), task))

    def freed(self, agent: int, task: int) -> None:
        """The head of the queue."""
        queue = self._queues[self._sim.fleet.agents[agent].role]
        if queue:
            self._sim.start(heapq.heappop(queue)[1], agent)


class Match:
    """A sorted queue a role and category; a free slot takes, of the heads, what costs least if this agent does it.

    Cost: size / (weight x speed relative to the best agent for that category), the generalised c-mu rule
    (Mandelbaum and Stolyar 2004) with known sizes.
    """

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._queues: dict[str, dict[int, list[tuple[float, int]]]] = {
            role: {} for role in sim.fleet.by_role
        }
        self._waiting = dict.fromkeys(sim.fleet.by_role, 0)

    def ready(self, task: int) -> None:
        """The fastest free agent, if nobody waits."""
        sim = self._sim
        role = sim.trace.role[task]
        free = [] if self._waiting[role] else sim.free_agents(role)
        if free:
            sim.start(task, sim.fastest(free, task))
            return
        queue = self._queues[role].setdefault(sim.trace.category[task], [])
        heapq.heappush(queue, (sim.trace.size_s[task] / sim.trace.weight[task], task))
        self._waiting[role] += 1

    def freed(self, agent: int, task: int) -> None:
        """The cheapest head."""
        sim = self._sim
        role = sim.fleet.agents[agent].role
        queues = {category: queue for category, queue in self._queues[role].items() if queue}
        if not queues:
            return

        def cost(category: int) -> float:
            relative = sim.speeds[agent][category] / sim.fleet.best_speed(role, category)
            return queues[category][0][0] / relative

        self._waiting[role] -= 1
        sim.start(heapq.heappop(queues[min(queues, key=cost)])[1], agent)
