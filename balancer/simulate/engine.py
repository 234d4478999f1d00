"""The clock of the pure simulation: tasks become ready, a policy starts them on agents, they end uninterrupted."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from balancer.simulate.fleet import Fleet
from balancer.simulate.trace import Trace


@dataclass(frozen=True, slots=True)
class Run:
    """What became of each task; times in seconds, on the clock of the arrivals."""

    #: Arrived, and all its parents ended.
    ready_s: list[float]
    start_s: list[float]
    end_s: list[float]
    #: The agent that did it, as a place in the fleet.
    agent: list[int]


class Policy(Protocol):
    """Who works on what. It starts tasks by `Simulation.start`, on agents of their role with a free slot."""

    def ready(self, task: int) -> None:
        """This task may be started from now on."""
        ...

    def freed(self, agent: int, task: int) -> None:
        """This task has just ended and left a free slot on its agent."""
        ...


class Simulation:
    """What policies see and move. `free` counts each agent's free slots; `now` is in seconds."""

    def __init__(
        self, trace: Trace, arrivals: Sequence[float], fleet: Fleet, rng: random.Random
    ) -> None:
        self.trace, self.arrivals, self.fleet, self.rng = trace, arrivals, fleet, rng
        self.now = 0.0
        self.free = [agent.slots for agent in fleet.agents]
        self.speeds = [agent.speeds for agent in fleet.agents]
        count = len(trace)
        self.run = Run([0.0] * count, [0.0] * count, [0.0] * count, [-1] * count)
        # (when, order among equal times, agent or -1 for "becomes ready", task)
        self._events: list[tuple[float, int, int, int]] = []
        self._started = 0

    def start(self, task: int, agent: int) -> None:
        """Put a ready task into a free slot, now."""
        self.free[agent] -= 1
        self._started += 1
        self.run.start_s[task] = self.now
        self.run.agent[task] = agent
        end_s = self.now + self.duration_s(task, agent)
        heapq.heappush(self._events, (end_s, len(self.trace) + self._started, agent, task))

    def duration_s(self, task: int, agent: int) -> float:
        """How long this agent takes for this task."""
        return self.trace.size_s[task] / self.speeds[agent][self.trace.category[task]]

    def free_agents(self, role: str) -> list[int]:
        """Those of the role that have a free slot."""
        free = self.free
        return [agent for agent in self.fleet.by_role[role] if free[agent] > 0]

    def fastest(self, agents: Sequence[int], task: int) -> int:
        """The fastest of these at the task, among equals the one with most free slots."""
        speeds, free, category = self.speeds, self.free, self.trace.category[task]
        return max(agents, key=lambda agent: (speeds[agent][category], free[agent]))

    def play(self, policy: Policy) -> Run:
        """Let the whole trace happen."""
        trace, events, run = self.trace, self._events, self.run
        missing = [len(parents) for parents in trace.parents]
        events.extend(
            (self.arrivals[task], task, -1, task) for task in range(len(trace)) if not missing[task]
        )
        heapq.heapify(events)
        while events:
            self.now, _, agent, task = heapq.heappop(events)
            if agent < 0:
                run.ready_s[task] = self.now
                policy.ready(task)
                continue
            run.end_s[task] = self.now
            self.free[agent] += 1
            policy.freed(agent, task)
            for child in trace.children[task]:
                missing[child] -= 1
                if not missing[child]:
                    ready_s = max(self.now, self.arrivals[child])
                    heapq.heappush(events, (ready_s, len(trace) + child, -1, child))
        return run


MakePolicy = Callable[[Simulation], Policy]
