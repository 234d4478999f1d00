"""View, plan, commit: how fast waiting work finds its agents, by the drainer's own steps.

Each case keeps its size: between two timed passes as many leases are settled, and as many tasks
submitted, as the pass assigned.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from balancer.core.planner import Planner, Proposal
from balancer.ledger import commit
from balancer.ledger.pool import Pool
from balancer.ledger.view import Viewer
from benchmarks import fleet
from benchmarks.aims import ASSIGN, SCALE
from benchmarks.harness import Bench, ServerClock, interleaved
from benchmarks.report import Figure, median

#: Open leases that each case starts with, so that agents are not all alike.
OPEN = 2_500
PARTS = ("view", "plan", "commit")


@dataclass
class Spent:
    """Where the time of one repetition went, microseconds per assignment."""

    per_step: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    redis: float = 0.0
    assigned: int = 0
    proposed: int = 0


class Case:
    """One pool of a given size."""

    def __init__(self, bench: Bench, name: str, agents: int, waiting: int) -> None:
        self.name = f"{agents:,} agents, {waiting:,} waiting"
        self._pool = Pool.create(bench.client, name)
        self._clock = ServerClock(bench.client)
        self._viewer, self._planner = Viewer(self._pool), Planner(self._pool.settings)
        fleet.join(self._pool, [fleet.heartbeat(i) for i in range(agents)])
        fleet.fill(self._pool, waiting + OPEN)
        self._open: deque[Proposal] = deque(fleet.assign(self._pool, OPEN))
        self.spent: list[Spent] = []

    def go(self, passes: int) -> float:
        """Time some passes; assignments per second."""
        spent = Spent()
        for _ in range(passes):
            before = self._clock.script_us()
            granted = self._pass(spent)
            spent.redis += self._clock.script_us() - before
            self._open.extend(granted)
            fleet.fill(self._pool, len(granted))
            fleet.finish(self._pool, [self._open.popleft() for _ in granted])
        self.spent.append(spent)
        return 1e6 * spent.assigned / sum(spent.per_step.values())

    def _pass(self, spent: Spent) -> list[Proposal]:
        t0 = time.perf_counter()
        view = self._viewer.view()
        t1 = time.perf_counter()
        proposals = self._planner.plan(view)
        t2 = time.perf_counter()
        answers = commit.commit(self._pool, proposals)
        t3 = time.perf_counter()
        for part, took in zip(PARTS, (t1 - t0, t2 - t1, t3 - t2), strict=True):
            spent.per_step[part] += 1e6 * took
        granted = [
            proposal
            for proposal, answer in zip(proposals, answers, strict=True)
            if answer.outcome is commit.Outcome.ASSIGNED
        ]
        spent.assigned += len(granted)
        spent.proposed += len(proposals)
        return granted

    def parts(self) -> dict[str, float]:
        """Microseconds per assignment of each step and of Redis' own work; and the size of a pass."""
        rows = {f"{part} us": [s.per_step[part] / s.assigned for s in self.spent] for part in PARTS}
        rows["Redis us"] = [s.redis / s.assigned for s in self.spent]
        rows["rejected %"] = [100 * (1 - s.assigned / s.proposed) for s in self.spent]
        return {name: median(values) for name, values in rows.items()}


def run(bench: Bench) -> None:
    """Add the rates, the time of each step, and how they grow with the pool."""
    bench.client.flushall()
    backlog = bench.pick(200_000, 30_000)
    cases = [
        Case(bench, "small", 1_000, 1_000),
        Case(bench, "backlog", 1_000, backlog),
        Case(bench, "fleet", bench.pick(20_000, 10_000), 1_000),
    ]
    passes, repetitions = bench.pick(33, 8), bench.pick(5, 3)

    def timed(case: Case) -> Callable[[], float]:
        return lambda: case.go(passes)

    rates = interleaved([timed(case) for case in cases], repetitions, warm=False)
    for case, values in zip(cases, rates, strict=True):
        bench.add(Figure("dispatch", case.name, "/s", values, ASSIGN, case.parts()))
    for case, values in zip(cases[1:], rates[1:], strict=True):
        ratios = [small / large for small, large in zip(rates[0], values, strict=True)]
        bench.add(
            Figure("dispatch", f"{case.name}: cost against the small case", "x", ratios, SCALE)
        )
    bench.client.flushall()
