"""What no schedule can beat on this fleet, even one that knows everything beforehand, interrupts work and moves it.

For each role one fast machine stands in that can do whatever its agents do together. Its work is counted in units
y[c] x size, its speed is sum over agents of slots x max over c of y[c] x speed[c]. Any y >= 0 is valid; a good one is
the dual solution of the linear program that maximises the load the agents can carry, plain sizes (y = 1) are another.

* Flow: each task alone on its fastest agent; the machine's shortest remaining first (Schrage 1968); the mean busy times
  of the machine, each plus half the task's shortest run (Goemans et al. 2002; Schulz and Skutella 2002).
* Weighted flow: the first and the last of these, by size / weight.
* Makespan: the machine's last end; the longest chain of parents.

With parents, a task is released when it could be ready at the earliest: each ancestor at once on its fastest agent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from balancer.simulate.fast_machine import serve
from balancer.simulate.fleet import Fleet, SimAgent
from balancer.simulate.linear_program import maximise
from balancer.simulate.trace import Trace

#: Work of a category that the linear program counts as nothing, so that the machine still sees the task.
NEXT_TO_NOTHING = 1e-12
#: Kinds of work times kinds of agents that the linear program is made for: beyond it, a second each and more.
MOST_CELLS = 600


@dataclass(frozen=True, slots=True)
class Bound:
    """Lower bounds in seconds; flow counts from `release_s`."""

    mean_flow_s: float
    weighted_flow_s: float
    makespan_s: float
    #: When each task could be ready at the earliest.
    release_s: list[float]


def lower_bound(trace: Trace, arrivals: Sequence[float], fleet: Fleet) -> Bound:
    """The bounds for these arrivals."""
    alone_s = _alone(trace, fleet)
    release_s = _releases(trace, arrivals, alone_s)
    count, weights = len(trace), trace.weight
    flow = [sum(alone_s)]
    weighted = [sum(w * s for w, s in zip(weights, alone_s, strict=True))]
    ends = [max(r + s for r, s in zip(release_s, alone_s, strict=True))]
    members: dict[str, list[int]] = {}
    for task, role in enumerate(trace.role):
        members.setdefault(role, []).append(task)
    units = {role: _unit_choices(trace, fleet, role, tasks) for role, tasks in members.items()}
    for choice in (0, 1):
        shortest = busy_plain = busy_weighted = 0.0
        for role, tasks in members.items():
            per_size, speed = units[role][choice]
            work = [
                max(NEXT_TO_NOTHING, trace.size_s[t] * per_size[trace.category[t]]) for t in tasks
            ]
            release = [release_s[t] for t in tasks]
            end, _ = serve(release, work, speed)
            shortest += sum(end) - sum(release)
            ends.append(max(end))
            _, busy = serve(release, work, speed, work)
            busy_plain += sum(
                m - r + alone_s[t] / 2 for m, r, t in zip(busy, release, tasks, strict=True)
            )
            smith = [w / weights[t] for w, t in zip(work, tasks, strict=True)]
            _, busy = serve(release, work, speed, smith)
            busy_weighted += sum(
                weights[t] * (m - r + alone_s[t] / 2)
                for m, r, t in zip(busy, release, tasks, strict=True)
            )
        flow += [shortest, busy_plain]
        weighted.append(busy_weighted)
    return Bound(
        mean_flow_s=max(flow) / count,
        weighted_flow_s=max(weighted) / sum(weights),
        makespan_s=max(ends) - min(arrivals),
        release_s=release_s,
    )


def _alone(trace: Trace, fleet: Fleet) -> list[float]:
    """Each task's time on the fastest agent of its role."""
    best = {
        pair: fleet.best_speed(*pair) for pair in set(zip(trace.role, trace.category, strict=True))
    }
    return [
        size / best[role, category]
        for size, role, category in zip(trace.size_s, trace.role, trace.category, strict=True)
    ]


def _releases(trace: Trace, arrivals: Sequence[float], alone_s: Sequence[float]) -> list[float]:
    release = list(arrivals)
    missing = [len(parents) for parents in trace.parents]
    known = [task for task, count in enumerate(missing) if not count]
    for task in known:  # grows as it goes
        for child in trace.children[task]:
            release[child] = max(release[child], release[task] + alone_s[task])
            missing[child] -= 1
            if not missing[child]:
                known.append(child)
    return release


def _unit_choices(
    trace: Trace, fleet: Fleet, role: str, tasks: Sequence[int]
) -> tuple[tuple[Mapping[int, float], float], tuple[Mapping[int, float], float]]:
    """Work per second of size by category, and the machine's speed in it: by the duals, and plain."""
    work: dict[int, float] = {}
    for task in tasks:
        category = trace.category[task]
        work[category] = work.get(category, 0.0) + trace.size_s[task]
    agents = [fleet.agents[place] for place in fleet.by_role[role]]
    plain = dict.fromkeys(work, 1.0)
    dual = _duals(work, agents)
    return (dual, _speed(dual, agents)), (plain, _speed(plain, agents))


def _speed(per_size: Mapping[int, float], agents: Sequence[SimAgent]) -> float:
    return sum(a.slots * max(y * a.speeds[c] for c, y in per_size.items()) for a in agents)


def _duals(work: Mapping[int, float], agents: Sequence[SimAgent]) -> dict[int, float]:
    """A price for each category: those that the linear program finds for kinds of work and of agents."""
    kinds = _kinds(work, agents)
    size = [sum(work[category] for category in kind.categories) for kind in kinds]
    slots: dict[tuple[float, ...], float] = {}
    for place, agent in enumerate(agents):
        speeds = tuple(kind.speeds[place] for kind in kinds)
        slots[speeds] = slots.get(speeds, 0.0) + agent.slots
    prices = _prices(size, slots)
    return {c: y for kind, y in zip(kinds, prices, strict=True) for c in kind.categories}


class _Kind(NamedTuple):
    """Categories that count as one, and how fast each agent is at them."""

    speeds: tuple[float, ...]
    categories: list[int]


def _kinds(work: Mapping[int, float], agents: Sequence[SimAgent]) -> list[_Kind]:
    """Categories at which every agent is equally fast are one. Where too many are left, those of the least work are
    one, as slow as the slowest of them: prices from that are less good, and as valid.
    """
    alike: dict[tuple[float, ...], list[int]] = {}
    for category in sorted(work):
        alike.setdefault(tuple(agent.speeds[category] for agent in agents), []).append(category)
    kinds = [_Kind(speeds, categories) for speeds, categories in alike.items()]
    by_work = sorted(kinds, key=lambda kind: -sum(work[category] for category in kind.categories))
    kept = len(kinds)
    while (
        kept
        and len(kinds) * len(set(zip(*(kind.speeds for kind in kinds), strict=True))) > MOST_CELLS
    ):
        kept = kept * 3 // 4
        rest = by_work[kept:]
        merged = _Kind(
            tuple(map(min, zip(*(kind.speeds for kind in rest), strict=True))),
            [category for kind in rest for category in kind.categories],
        )
        kinds = [*by_work[:kept], merged]
    return kinds


def _prices(work: Sequence[float], slots: Mapping[tuple[float, ...], float]) -> list[float]:
    """The price of each kind of work where slots shared out over kinds carry the largest load.

    Maximise t so that each kind gets sum(speed x slots) >= share of work x t, and no agents give more than they have.
    `slots`: of the agents with these speeds.
    """
    kinds, total = range(len(work)), sum(work)
    columns = [(speeds, kind) for speeds in slots for kind in kinds]
    rows = [
        [*(-speeds[kind] if kind == own else 0.0 for speeds, kind in columns), work[own] / total]
        for own in kinds
    ]
    rows += [[*(1.0 if speeds == own else 0.0 for speeds, _ in columns), 0.0] for own in slots]
    limits = [0.0] * len(work) + list(slots.values())
    optimum = maximise([0.0] * len(columns) + [1.0], rows, limits)
    return [max(0.0, y) for _, y in zip(kinds, optimum.duals, strict=False)]
