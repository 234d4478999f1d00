"""What the demo will do, worked out before it starts: pure, the same for the same trace and options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pydantic import ValidationError

from balancer.core.errors import InvalidInput
from balancer.core.model import Task
from balancer.core.settings import HeadStart, PoolSettings
from balancer.demo.options import DemoOptions
from balancer.demo.roster import AgentPlan, make_agents
from balancer.trace import Row

#: Tasks a second that a small machine replays easily, and that it can bear; length of a replay, seconds.
PACE, MOST_PACE, SHORTEST_S, LONGEST_S = 50.0, 120.0, 5.0, 36.0
#: Seconds of replay for each agent that is killed, and the fewest and most of them.
KILL_EVERY_S, FEWEST_KILLS, MOST_KILLS = 6.0, 2, 6
#: Characters of a description that are submitted.
DESCRIPTION = 2_000


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """One task and when it is submitted, seconds after the start."""

    at_s: float
    task: Task


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole replay."""

    tasks: tuple[PlannedTask, ...]
    agents: tuple[AgentPlan, ...]
    settings: PoolSettings
    #: Durations, and arrivals, are divided by these.
    speed: float
    arrival_factor: float
    #: Until the last arrival, the longest task, and the longest time between two arrivals; seconds, compressed.
    replay_s: float
    longest_s: float
    pause_s: float
    #: Seconds after the start at which an agent is killed.
    kills_s: tuple[float, ...]

    @property
    def capacity(self) -> int:
        """Units of all agents."""
        return sum(agent.max_concurrent for agent in self.agents)


def make_plan(rows: Sequence[Row], options: DemoOptions) -> Plan:
    """Work out the replay of these rows (as `trace.read` gives them: parents before their children).

    Raises:
        InvalidInput: no rows, fewer than two agents a role, fewer units than agents, a task no pool takes.
    """
    if not rows:
        raise InvalidInput("the trace has no rows")
    agents = make_agents(rows, options.agents, options.capacity)
    capacity = sum(agent.max_concurrent for agent in agents)
    work_s = sum(row.duration_s * tries(row) for row in rows)
    longest_s = max(row.duration_s for row in rows)
    speed = options.speed or _speed(len(rows), work_s / (capacity * options.load), longest_s)
    first_s = min(row.arrival_s for row in rows)
    span_s = max(row.arrival_s for row in rows) - first_s
    replay_s = work_s / (speed * capacity * options.load)
    # Without a span, or without any work, everything arrives at once.
    factor = span_s / replay_s if span_s and replay_s else math.inf
    tasks = _tasks(rows, first_s, factor, speed)
    last_s = tasks[-1].at_s
    kills = options.kill
    if kills is None:
        kills = max(FEWEST_KILLS, min(MOST_KILLS, round(last_s / KILL_EVERY_S)))
    return Plan(
        tasks=tasks,
        agents=agents,
        settings=_settings(speed),
        speed=speed,
        arrival_factor=factor if math.isfinite(factor) else 0.0,
        replay_s=last_s,
        longest_s=longest_s / speed,
        pause_s=max((b.at_s - a.at_s for a, b in pairwise(tasks)), default=0.0),
        kills_s=tuple(last_s * (i + 1) / (kills + 1) for i in range(kills)),
    )


def tries(row: Row) -> int:
    """How often a row is worked on: a failed one fails its first try and completes at its second."""
    return 2 if row.outcome == "failed" else 1


def _speed(count: int, unit_work_s: float, longest_s: float) -> float:
    """Short enough to watch, no faster than a small machine can follow, the longest task at most half of the replay."""
    replay_s = max(min(max(count / PACE, SHORTEST_S), LONGEST_S), count / MOST_PACE)
    return max(unit_work_s / replay_s, longest_s / (replay_s / 2)) or 1.0


def _tasks(
    rows: Sequence[Row], first_s: float, factor: float, speed: float
) -> tuple[PlannedTask, ...]:
    """By time of submission. A child that arrives before its parent waits for it."""
    at_s: dict[str, float] = {}
    planned = []
    for row in rows:
        own = (row.arrival_s - first_s) / factor
        at_s[row.id] = max([own, *(at_s[parent] for parent in row.depends_on)])
        payload = {"run_s": round(row.duration_s / speed, 6), "fail_first": tries(row) > 1}
        try:
            task = Task(
                id=row.id,
                role=row.role,
                category=row.category,
                priority=row.priority,
                description=row.description[:DESCRIPTION],
                payload=payload,
                depends_on=row.depends_on,
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            rule = f"{'.'.join(map(str, first['loc'])) or 'task'}: {first['msg']}"
            raise InvalidInput(f"row {row.id}: {rule}") from None
        planned.append(PlannedTask(at_s[row.id], task))
    # Stable: a parent stands before its child, and never later.
    return tuple(sorted(planned, key=lambda task: task.at_s))


def _settings(speed: float) -> PoolSettings:
    """The pool's settings: as time runs faster, so do the head starts of the priorities."""
    usual = HeadStart()
    head_start = {name: min(86_400.0, value / speed) for name, value in usual.model_dump().items()}
    return PoolSettings(
        retry_delay_s=0.2, max_losses=10, head_start_s=HeadStart(**head_start), specializations={}
    )
