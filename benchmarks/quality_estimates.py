"""How well estimates foretell durations, apart from any schedule: each task is learned before the next arrives."""

from __future__ import annotations

from collections import defaultdict
from math import exp

from balancer.core.effort import (
    CAP,
    CAP_WIDE,
    Cell,
    Estimate,
    Kind,
    Scale,
    estimate,
    log_factor,
    log_ratio,
    variance,
)
from balancer.core.hints import features_text, short_name
from balancer.core.model import Task
from balancer.core.settings import PoolSettings
from balancer.simulate.cast import task_of
from balancer.simulate.correlation import rank_correlation
from balancer.simulate.trace import Trace

#: Cells of all tasks and of a role remember more than the others.
WIDE = 2


class Ladder:
    """What a pool has learned, in memory: cells by name, and how far off estimates were."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._cells: defaultdict[str, Cell] = defaultdict(Cell)
        self._spread: defaultdict[str, Cell] = defaultdict(Cell)
        self._scale: defaultdict[str, Scale] = defaultdict(Scale)

    def estimate(self, task: Task) -> Estimate:
        """Of a task that is submitted now."""
        kind = kind_of(task)
        names = kind.cells()
        spread = variance(self._spread[names[0]], self._spread[names[1]])
        cells = [self._cells[name] for name in names]
        scale = self._scale[names[1]]
        return estimate(self._prior_ms(task), cells, spread, scale, kind.basis)

    def learn(self, task: Task, work_ms: float) -> None:
        """This task has ended: so long it takes at speed 1."""
        kind = kind_of(task)
        names = kind.cells()
        prior_ms = self._prior_ms(task)
        x = log_ratio(work_ms, prior_ms, kind.basis)
        mean = log_factor([self._cells[name] for name in names])
        missed = (x - mean) ** 2
        role = names[1]
        self._scale[role] = self._scale[role].learn(prior_ms * exp(x), prior_ms * exp(mean))
        for place, name in enumerate(names):
            self._cells[name] = self._cells[name].learn(x, CAP_WIDE if place < WIDE else CAP)
        for name in names[:WIDE]:
            self._spread[name] = self._spread[name].learn(missed, CAP_WIDE)

    def _prior_ms(self, task: Task) -> int:
        return max(1, round(1000 * self._settings.estimate_s(task.category)))


def kind_of(task: Task) -> Kind:
    """What is known of it before it runs; its producer gives no estimate of its own."""
    group, features = short_name(task.group or ""), short_name(features_text(task.features))
    return Kind("m", task.role, task.category, group, features)


def online_correlation(trace: Trace) -> float:
    """Rank correlation of estimate and duration, in order of arrival, over the second half: before it, all is new."""
    ladder = Ladder(PoolSettings())
    expected_ms = []
    for row, size_s in zip(trace.rows, trace.size_s, strict=True):
        task = task_of(row)
        expected_ms.append(float(ladder.estimate(task).mean_ms))
        ladder.learn(task, 1000 * size_s)
    late = len(trace) // 2
    return rank_correlation(expected_ms[late:], trace.size_s[late:])
