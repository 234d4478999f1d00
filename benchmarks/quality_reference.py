"""Figures held against those of another simulator for the same agents and arrivals. Pure.

The other's file has, for one trace and one kind of fleet: load -> policy -> figure -> value, and under the policy `LB`
the bounds. Its names are not ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.quality_points import Point

#: Ours to theirs.
POLICY = {
    "fit": "guard_hist",
    "best_match": "seed",
    "early_random": "random",
    "early_rr": "rr",
}
FIGURE = {
    "mean_wait_s": "mean_wait",
    "p50_wait_s": "p50_wait",
    "p95_wait_s": "p95_wait",
    "p99_wait_s": "p99_wait",
    "max_wait_s": "max_wait",
    "mean_flow_s": "mean_flow",
    "p50_flow_s": "p50_flow",
    "p95_flow_s": "p95_flow",
    "p99_flow_s": "p99_flow",
    "weighted_flow_s": "wflow",
    "high_wait_s": "hi_wait",
    "makespan_s": "makespan",
    "flow_over_bound": "xLB",
    "weighted_flow_over_bound": "wxLB",
}
BOUNDS, BOUND = "LB", {"mean_flow_s": "mean_flow", "weighted_flow_s": "wflow", "makespan_s": "makespan"}  # fmt: skip
#: Where both model the same thing, mean flow should be this close.
CLOSE = 0.05

Reference = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of ours over theirs."""

    strategy: str
    figure: str
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        """1 where both are nothing."""
        if self.theirs:
            return self.ours / self.theirs
        return 1.0 if not self.ours else float("inf")

    @property
    def close(self) -> bool:
        """Within a twentieth of theirs."""
        return abs(self.ratio - 1) <= CLOSE


def differences(point: Point, reference: Reference) -> Iterator[Difference]:
    """Every figure that both have, bounds first."""
    theirs = next((by for load, by in reference.items() if float(load) == point.load), {})
    for figure, name in BOUND.items():
        if figure in point.bound and name in theirs.get(BOUNDS, {}):
            yield Difference("bound", figure, point.bound[figure], theirs[BOUNDS][name])
    for strategy, figures in point.strategies.items():
        of = theirs.get(POLICY.get(strategy, strategy), {})
        for figure, name in FIGURE.items():
            value = figures.get(figure)
            # What has no urgent task is written as a number that is none there.
            if value is not None and name in of and of[name] == of[name]:
                yield Difference(strategy, figure, value, of[name])
