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

from balancer.simulate.fast_machine import serve
from balancer.simulate.fleet import Fleet, SimAgent
from balancer.simulate.linear_program import maximise
from balancer.simulate.trace import Trace

#: Work of a category that the linear program counts as nothing, so that the machine still sees the task.
NEXT_TO_NOTHING = 1e-12


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
    """The price of each category where slots shared out over categories carry the largest load.

    Maximise t so that each category gets sum(speed x slots) >= share of work x t, and no agent gives more than it has.
    """
    total = sum(work.values())
    categories = sorted(work)
    columns = [(a, c) for a in range(len(agents)) for c in categories]
    rows = [
        [*(-agents[a].speeds[c] if c == own else 0.0 for a, c in columns), work[own] / total]
        for own in categories
    ]
    rows += [[*(1.0 if a == own else 0.0 for a, _ in columns), 0.0] for own in range(len(agents))]
    limits = [0.0] * len(categories) + [float(agent.slots) for agent in agents]
    optimum = maximise([0.0] * len(columns) + [1.0], rows, limits)
    return {c: max(0.0, y) for c, y in zip(categories, optimum.duals, strict=False)}
