"""The demo's agents, worked out from the trace: how many for each role, how large, and what they prefer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from balancer.core.errors import InvalidInput
from balancer.trace import Row

#: Agents, and units for each, when nothing is asked for.
AGENTS, UNITS_PER_AGENT = 14, 16 / 7
#: An agent's units go round this pattern; none gets more than 4 as long as that is enough.
UNITS, MOST_UNITS = (4, 2, 3, 1), 4


@dataclass(frozen=True, slots=True)
class AgentPlan:
    """One simulated agent."""

    id: str
    role: str
    max_concurrent: int
    #: Categories that it prefers; none for a generalist.
    specializations: tuple[str, ...]


def make_agents(
    rows: Sequence[Row], total: int | None, capacity: int | None
) -> tuple[AgentPlan, ...]:
    """A mixed fleet. Units, then agents, are shared out over the roles by their work, at least two of each."""
    work_s: dict[str, float] = {}
    categories: dict[str, set[str]] = {}
    for row in rows:
        work_s[row.role] = work_s.get(row.role, 0.0) + row.duration_s
        categories.setdefault(row.role, set()).add(row.category)
    roles = sorted(work_s)
    if total is None:
        total = max(min(AGENTS, capacity or AGENTS), 2 * len(roles))
    if total < 2 * len(roles):
        raise InvalidInput(
            f"--agents is {total}, must be: at least 2 for each of {len(roles)} roles"
        )
    if capacity is None:
        capacity = max(total, round(total * UNITS_PER_AGENT))
    if capacity < total:
        raise InvalidInput(
            f"--capacity is {capacity}, must be: at least 1 for each of {total} agents"
        )
    units = apportion(capacity, [work_s[role] for role in roles], 2)
    counts = apportion(total, units, 2, units)
    return tuple(
        agent
        for n, (role, role_units, count) in enumerate(zip(roles, units, counts, strict=True))
        for agent in _fleet(n, role, role_units, count, sorted(categories[role]))
    )


def _fleet(
    number: int, role: str, units: int, count: int, categories: list[str]
) -> list[AgentPlan]:
    """Agents of one role: different sizes; every third a generalist, the others know about half of the categories."""
    name = role if len(role) <= 56 else f"{role[:48]}.{number}"
    pattern = [UNITS[i % len(UNITS)] for i in range(count)]
    most = [MOST_UNITS if units <= MOST_UNITS * count else units] * count
    known = (len(categories) + 1) // 2
    return [
        AgentPlan(
            id=f"{name}-{i + 1}",
            role=role,
            max_concurrent=size,
            specializations=()
            if i % 3 == 2
            else tuple(sorted((categories + categories)[i % len(categories) :][:known])),
        )
        for i, size in enumerate(apportion(units, pattern, 1, most))
    ]


def apportion(
    total: int, weights: Sequence[float], least: int, most: Sequence[int] | None = None
) -> list[int]:
    """Share out `total` whole units by weight: everybody gets `least`, nobody more than their `most`.

    Raises:
        ValueError: that cannot be done.
    """
    tops = most or [total] * len(weights)
    given = [least] * len(weights)
    if sum(given) > total or sum(tops) < total:
        raise ValueError(f"{total} cannot be shared out from {given} to {list(tops)}")
    whole = sum(weights) or 1.0
    for _ in range(total - sum(given)):
        short = [
            (weight / whole * total - got, -i)
            for i, (weight, got) in enumerate(zip(weights, given, strict=True))
            if got < tops[i]
        ]
        given[-max(short)[1]] += 1
    return given
