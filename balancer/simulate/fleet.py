"""The simulated agents: slots for each role by its work, unlike base speeds, one or two specialities each."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from balancer.core.errors import InvalidInput
from balancer.simulate.trace import Trace

#: Slots of the whole fleet, and how much faster an agent is at what it is specialised in.
SLOTS, GAIN = 48, 1.5
#: A role has at least so many slots.
LEAST_SLOTS = 4
#: An agent's slots go round the first pattern; its base speed goes round the second in steps of five.
SLOT_PATTERN = (2, 1, 3, 2)
SPEED_PATTERN, SPEED_STEP, SPEED_START = (1.0, 0.8, 1.25, 1.0, 0.65, 1.5), 5, 2
#: A second speciality is drawn where a role has more categories than this.
FEW_CATEGORIES = 3
#: Health is drawn from here to 1, whatever the speed.
LEAST_HEALTH = 0.55


@dataclass(frozen=True, slots=True)
class SimAgent:
    """One agent. A task of category c and size s takes it s / speeds[c] seconds in one of its slots."""

    id: str
    role: str
    slots: int
    #: Its speed at what it is not specialised in.
    base: float
    specializations: frozenset[str]
    health: float
    #: By the trace's category number.
    speeds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Fleet:
    """All agents; an agent is known by its place."""

    agents: tuple[SimAgent, ...]
    by_role: dict[str, tuple[int, ...]]

    def best_speed(self, role: str, category: int) -> float:
        """Of the fastest agent of the role."""
        return max(self.agents[agent].speeds[category] for agent in self.by_role[role])


def make_fleet(
    trace: Trace, slots: int = SLOTS, gain: float = GAIN, equal: bool = False, seed: int = 1
) -> Fleet:
    """Agents for a trace, the same for the same seed.

    Args:
        trace: its roles and categories, weighed by their work, decide who there is.
        slots: of the whole fleet; a role has at least four.
        gain: how many times faster an agent is at its specialities.
        equal: all agents as fast as one another (base 1, gain 1) and in full health.
        seed: of second specialities and of health.

    Raises:
        InvalidInput: fewer than one slot, or a gain that is no positive number.
    """
    if slots < 1:
        raise InvalidInput(f"slots is {slots}, must be: 1 or more")
    if not 0 < gain < math.inf:
        raise InvalidInput(f"gain is {gain}, must be: a finite number above 0")
    rng = random.Random(seed)
    work = _work_by_role(trace)
    total = sum(sum(of.values()) for of in work.values())
    agents: list[SimAgent] = []
    for role in sorted(work):
        own = max(LEAST_SLOTS, round(slots * sum(work[role].values()) / total))
        agents += _agents_of(role, work[role], own, equal, rng)
    return make_fleet_of(
        replace(
            agent,
            # Of one role or another, each has a name of its own, and none is too long.
            id=f"{agent.role[:48]}-{place + 1}",
            speeds=tuple(
                agent.base * (gain if category in agent.specializations and not equal else 1.0)
                for category in trace.categories
            ),
        )
        for place, agent in enumerate(agents)
    )


def make_fleet_of(agents: Iterable[SimAgent]) -> Fleet:
    """A fleet of these agents."""
    agents = tuple(agents)
    by_role: dict[str, list[int]] = {}
    for place, agent in enumerate(agents):
        by_role.setdefault(agent.role, []).append(place)
    return Fleet(agents, {role: tuple(places) for role, places in by_role.items()})


def _work_by_role(trace: Trace) -> dict[str, dict[str, float]]:
    work: dict[str, dict[str, float]] = {}
    for row, size in zip(trace.rows, trace.size_s, strict=True):
        of = work.setdefault(row.role, {})
        of[row.category] = of.get(row.category, 0.0) + size
    return work


def _agents_of(
    role: str, work: dict[str, float], slots: int, equal: bool, rng: random.Random
) -> list[SimAgent]:
    """The role's agents, still without a name and speeds.

    Each specialises in the category whose share of the slots handed out so far lags most behind its share of the work.
    """
    ranked = sorted(work, key=lambda category: -work[category])
    total = sum(work.values())
    owed = dict.fromkeys(ranked, 0.0)
    agents: list[SimAgent] = []
    left = slots
    while left > 0:
        place = len(agents)
        own = min(left, SLOT_PATTERN[place % len(SLOT_PATTERN)])
        left -= own
        for category in ranked:
            owed[category] += work[category] / total * own
        main = max(ranked, key=owed.__getitem__)
        owed[main] -= own
        specializations = {main}
        if len(ranked) > FEW_CATEGORIES:
            specializations.add(ranked[rng.randrange(len(ranked))])
        speed = SPEED_PATTERN[(place * SPEED_STEP + SPEED_START) % len(SPEED_PATTERN)]
        agents.append(
            SimAgent(
                id="",
                role=role,
                slots=own,
                base=1.0 if equal else speed,
                specializations=frozenset(specializations),
                health=1.0 if equal else round(rng.uniform(LEAST_HEALTH, 1.0), 3),
                speeds=(),
            )
        )
    return agents
