"""What a run was worth: times of waiting and flow, and how far they are above the lower bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from balancer.core.model import Priority
from balancer.simulate.bound import Bound
from balancer.simulate.engine import Run
from balancer.simulate.trace import WEIGHT, Trace


@dataclass(frozen=True, slots=True)
class Figures:
    """Times in seconds. Wait: ready to start. Flow: ready to end. Ready: arrived, and all parents ended."""

    mean_wait_s: float
    p50_wait_s: float
    p95_wait_s: float
    p99_wait_s: float
    max_wait_s: float
    mean_flow_s: float
    p50_flow_s: float
    p95_flow_s: float
    p99_flow_s: float
    max_flow_s: float
    #: Flow, weighted by priority.
    weighted_flow_s: float
    #: Mean wait of what has priority high or critical; None where nothing has.
    high_wait_s: float | None
    #: First arrival to last end.
    makespan_s: float
    #: Ratios to the bound. With parents, flow counts here from when a task could have been ready at the earliest.
    flow_over_bound: float
    weighted_flow_over_bound: float
    makespan_over_bound: float


def figures(trace: Trace, arrivals: Sequence[float], run: Run, bound: Bound) -> Figures:
    """The figures of one run."""
    wait = sorted(start - ready for start, ready in zip(run.start_s, run.ready_s, strict=True))
    flow = [end - ready for end, ready in zip(run.end_s, run.ready_s, strict=True)]
    bounded = [end - earliest for end, earliest in zip(run.end_s, bound.release_s, strict=True)]
    high = [
        start - ready
        for start, ready, weight in zip(run.start_s, run.ready_s, trace.weight, strict=True)
        if weight >= WEIGHT[Priority.HIGH]
    ]
    makespan_s = max(run.end_s) - min(arrivals)
    ordered = sorted(flow)
    return Figures(
        mean_wait_s=mean(wait),
        p50_wait_s=percentile(wait, 0.50),
        p95_wait_s=percentile(wait, 0.95),
        p99_wait_s=percentile(wait, 0.99),
        max_wait_s=wait[-1],
        mean_flow_s=mean(flow),
        p50_flow_s=percentile(ordered, 0.50),
        p95_flow_s=percentile(ordered, 0.95),
        p99_flow_s=percentile(ordered, 0.99),
        max_flow_s=ordered[-1],
        weighted_flow_s=weighted_mean(flow, trace.weight),
        high_wait_s=mean(high) if high else None,
        makespan_s=makespan_s,
        flow_over_bound=mean(bounded) / bound.mean_flow_s,
        weighted_flow_over_bound=weighted_mean(bounded, trace.weight) / bound.weighted_flow_s,
        makespan_over_bound=makespan_s / bound.makespan_s,
    )


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return math.fsum(values) / len(values)


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """sum(w x) / sum(w)."""
    return math.fsum(w * x for x, w in zip(values, weights, strict=True)) / math.fsum(weights)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values; between two of them on the line that joins them."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
