"""Policies that bind a task to an agent when it becomes ready: it waits in that agent's own first-come queue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque

from balancer.simulate.engine import Simulation


class Early(ABC):
    """A queue an agent. What differs is who is chosen."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self._queues: list[deque[int]] = [deque() for _ in sim.fleet.agents]
        #: Tasks that each agent holds, waiting or running.
        self.held = [0] * len(sim.fleet.agents)

    @abstractmethod
    def choose(self, task: int, agents: tuple[int, ...]) -> int:
        """One of the agents of the task's role."""

    def ready(self, task: int) -> None:
        """Bind it, for good."""
        agent = self.choose(task, self.sim.fleet.by_role[self.sim.trace.role[task]])
        self.held[agent] += 1
        if self.sim.free[agent] > 0:
            self.sim.start(task, agent)
        else:
            self._queues[agent].append(task)

    def freed(self, agent: int, task: int) -> None:
        """The agent goes on with its own queue."""
        self.held[agent] -= 1
        if self._queues[agent]:
            self.sim.start(self._queues[agent].popleft(), agent)

    def load(self, agent: int) -> float:
        """Tasks that it holds for each of its slots."""
        return self.held[agent] / self.sim.fleet.agents[agent].slots


class Random(Early):
    """Any agent."""

    def choose(self, task: int, agents: tuple[int, ...]) -> int:
        """Drawn, each alike."""
        return self.sim.rng.choice(agents)


class RoundRobin(Early):
    """One after the other, role by role."""

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        self._turn: Counter[str] = Counter()

    def choose(self, task: int, agents: tuple[int, ...]) -> int:
        """Whose turn it is."""
        role = self.sim.trace.role[task]
        turn = self._turn[role]
        self._turn[role] += 1
        return agents[turn % len(agents)]


class ShortestQueue(Early):
    """Join the shortest queue (JSQ)."""

    def choose(self, task: int, agents: tuple[int, ...]) -> int:
        """The least loaded; drawn among equals."""
        draw = self.sim.rng.random
        return min(agents, key=lambda agent: (self.load(agent), draw()))


class PowerOfTwo(Early):
    """The less loaded of two that are drawn (Mitzenmacher 1996)."""

    def choose(self, task: int, agents: tuple[int, ...]) -> int:
        """Drawn with replacement; of equals the first."""
        first, second = self.sim.rng.choice(agents), self.sim.rng.choice(agents)
        return first if self.load(first) <= self.load(second) else second


class IdleFirst(Early):
    """Join an idle queue (JIQ; Lu et al. 2011)."""

    def choose(self, task: int, agents: tuple[int, ...]) -> int:
        """One with a free slot, where there is none any."""
        return self.sim.rng.choice(self.sim.free_agents(self.sim.trace.role[task]) or agents)


class LeastWorkLeft(Early):
    """The earliest finish, as far as the work that an agent holds tells it; sizes and speeds are known."""

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        #: Seconds of work that each agent holds; what a task has run already is not taken off.
        self._left_s = [0.0] * len(sim.fleet.agents)

    def choose(self, task: int, agents: tuple[int, ...]) -> int:
        """Work spread over the slots, where all are busy, and the task's own time."""
        best = min(agents, key=lambda agent: self._finish_s(task, agent))
        self._left_s[best] += self.sim.duration_s(task, best)
        return best

    def freed(self, agent: int, task: int) -> None:
        """Its work is done."""
        self._left_s[agent] -= self.sim.duration_s(task, agent)
        super().freed(agent, task)

    def _finish_s(self, task: int, agent: int) -> float:
        slots = self.sim.fleet.agents[agent].slots
        wait_s = self._left_s[agent] / slots if self.held[agent] >= slots else 0.0
        return wait_s + self.sim.duration_s(task, agent)
