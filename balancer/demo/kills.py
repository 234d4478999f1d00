"""Kills agents on the way, and decides when each may come back."""

from __future__ import annotations

import random
import signal
from collections.abc import Sequence

from balancer.core.model import AgentState
from balancer.demo.fleet import Child, Fleet
from balancer.ledger import read_fleet
from balancer.ledger.pool import Pool


class Kills:
    """A plan of SIGKILLs, for agents that hold work. Every second one stays down until its work was reclaimed.

    Args:
        at_s: when, in seconds after the start of the replay.
        agents: who may be hit, by agent id.
    """

    def __init__(
        self, pool: Pool, fleet: Fleet, agents: dict[str, Child], at_s: Sequence[float]
    ) -> None:
        self._pool, self._fleet, self._agents = pool, fleet, agents
        self._left = sorted(at_s)
        # Always the same victims for the same course of events.
        self._random = random.Random(0)
        self.done = 0

    def step(self, elapsed_s: float) -> None:
        """Kill who is due, and bring back those whose work has been reclaimed."""
        for agent_id, child in self._agents.items():
            if child.down and self._is_reclaimed(agent_id):
                self._fleet.tell(f"{agent_id}: its work was reclaimed")
                child.down = False
        while self._left and elapsed_s >= self._left[0]:
            victim = self._victim()
            if victim is None:
                return
            self._left.pop(0)
            self._kill(victim)

    def _victim(self) -> str | None:
        """An agent that is up and has work; None as long as there is none."""
        up = [agent_id for agent_id, child in self._agents.items() if child.is_up]
        known = read_fleet.agents_by_id(self._pool, up) if up else []
        working = [
            agent.id
            for agent in known
            if agent and agent.state is AgentState.LIVE and agent.current_tasks
        ]
        return self._random.choice(working) if working else None

    def _kill(self, agent_id: str) -> None:
        child = self._agents[agent_id]
        stays_down = self.done % 2 == 1
        child.down = stays_down
        child.signal(signal.SIGKILL)
        self.done += 1
        how = "stays down until its work is reclaimed" if stays_down else "comes back at once"
        self._fleet.tell(f"kill -9 {agent_id}, which {how}")

    def _is_reclaimed(self, agent_id: str) -> bool:
        agent = read_fleet.agents_by_id(self._pool, [agent_id])[0]
        return agent is not None and agent.state is not AgentState.LIVE and not agent.current_tasks
