"""How long work takes: what is expected of a task before it runs, and how fast each agent is.

One estimate = prior x exp(learned). The prior is the producer's own estimate, or the minutes of the
category times the task's complexity. What is learned is the mean of x = ln(work / prior) over finished
tasks, work = duration x speed of the agent: a ladder of cells from all tasks down to those of the same role,
category, group and features, each pulled towards the one before it while it has few observations.

Pure, and the source of the formulas: `cells.lua`, `effort.lua`, `learn.lua` and `save_cells.lua` in `ledger/parts`
compute the same in Redis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

#: So many observations weigh as much as what the wider cell says.
SHRINK = 3.0
#: The two widest cells lean on little: the prior, and what other roles taught, weigh so many observations.
PRIOR_WEIGHT = 0.1
#: Other roles may do other work: what they teach a role that has finished nothing is a factor of 4 at most.
MOST_ELSEWHERE = math.log(4.0)
#: A cell forgets: beyond so many observations each new one counts this share. Wide cells, and the others.
CAP_WIDE, CAP = 500, 30
#: What a log-normal spread says of means weighs so many observations.
LIFT_WEIGHT = 20.0
#: Largest variance that raises a mean, and largest |x| that is believed.
MAX_VARIANCE, MAX_X = 4.0, 25.0
#: The same where producers say what they expect: one that says nonsense must not spoil what the others say.
MAX_VARIANCE_SAID, MAX_X_SAID = 1.0, math.log(100)
#: Bounds of work, priors and estimates, milliseconds: a year is long enough.
MIN_MS, MAX_MS = 1, 365 * 86_400_000
#: A task that runs past its estimate is taken to need so many times what it has run.
OVERRUN = 1.5
#: Of the normal distribution: nine of ten fall below the mean plus so many deviations.
P90 = 1.2816


class Cell(NamedTuple):
    """A mean that forgets, and how many observations are behind it."""

    n: int = 0
    mean: float = 0.0

    def learn(self, x: float, cap: int = CAP, k: int = 1) -> Cell:
        """With k more observations, whose mean is x."""
        n = min(self.n + k, cap)
        return Cell(n, self.mean + (x - self.mean) * min(1.0, k / n))

    def towards(self, wider: float, weight: float = SHRINK) -> float:
        """The mean, pulled towards a wider one that weighs as much as `weight` observations."""
        return (self.n * self.mean + weight * wider) / (self.n + weight)


class Kind(NamedTuple):
    """What is known of a task before it runs. Group and features are hashes, "" for none."""

    basis: str
    role: str
    category: str
    group: str = ""
    features: str = ""

    def cells(self) -> tuple[str, ...]:
        """The names of its cells, the widest first; the first two are the wide ones."""
        basis, role, category, group, features = self
        own = f"{basis}:{role}:{category}"
        names = [basis, f"{basis}:{role}", own]
        if group:
            names += [f"{basis}::{group}", f"{own}:{group}"]
        if features:
            names.append(f"{own}::{features}")
        if group and features:
            names.append(f"{own}:{group}:{features}")
        return tuple(names)


#: With fewer finished tasks behind it, an estimate is made anew when its task becomes ready, and no run timeout
#: follows from it.
FEW = 20


class Estimate(NamedTuple):
    """What a task is expected to take at speed 1, milliseconds: mean, and what nine of ten stay below.
    `n`: finished tasks behind it, of the role and category, or of the role where there were none.
    """

    mean_ms: int
    p90_ms: int
    n: int
    prior_ms: int

    def packed(self) -> str:
        """As the field `e` of a task keeps it."""
        return f"{self.mean_ms}|{self.p90_ms}|{self.n}|{self.prior_ms}"

    @classmethod
    def read(cls, text: str) -> Estimate:
        """Parse the stored field."""
        mean_ms, p90_ms, n, prior_ms = text.split("|")[:4]
        return cls(int(mean_ms), int(p90_ms), int(n), int(prior_ms))


def log_factor(cells: Sequence[Cell]) -> float:
    """What the ladder says of ln(work / prior), the widest cell first."""
    elsewhere = cells[0].towards(0.0, PRIOR_WEIGHT)
    mean = max(-MOST_ELSEWHERE, min(MOST_ELSEWHERE, elsewhere))
    mean = cells[1].towards(mean, PRIOR_WEIGHT)
    for cell in cells[2:]:
        mean = cell.towards(mean)
    return mean


def variance(of_basis: Cell, of_role: Cell) -> float:
    """Of what is left when the ladder has spoken; 0 when nothing was seen."""
    return of_role.towards(of_basis.mean)


class Scale(NamedTuple):
    """How long the tasks of a role took on average, and what the ladder alone had said of them, ms."""

    n: int = 0
    work_ms: float = 0.0
    median_ms: float = 0.0

    def learn(self, work_ms: float, median_ms: float) -> Scale:
        """With one more task."""
        n, work = Cell(self.n, self.work_ms).learn(work_ms, CAP_WIDE)
        return Scale(n, work, Cell(self.n, self.median_ms).learn(median_ms, CAP_WIDE).mean)

    def lift(self, spread: float) -> float:
        """By how much means lie above what the ladder says of logarithms: as much as was seen, never more than
        a log-normal spread says, for real durations have an end. Of a role that has finished nothing as much as other
        roles may teach it.
        """
        most = math.exp(min(spread, MAX_VARIANCE) / 2)
        if not self.median_ms:
            # What spread there is was seen elsewhere, where the first guesses may have been far off.
            return min(most, math.exp(MOST_ELSEWHERE))
        seen = Cell(self.n, self.work_ms / self.median_ms).towards(most, LIFT_WEIGHT)
        return max(1.0, min(most, seen))


#: Of a role that has finished nothing.
UNSEEN = Scale()


def estimate(
    prior_ms: int,
    cells: Sequence[Cell],
    spread: float,
    scale: Scale = UNSEEN,
    basis: str = "m",
) -> Estimate:
    """The estimate of a task with these cells (widest first: basis, role, role and category, ...)."""
    mean = log_factor(cells)
    if basis == "e":
        spread = min(spread, MAX_VARIANCE_SAID)
    expected = _bounded(prior_ms * math.exp(mean) * scale.lift(spread))
    high = _bounded(prior_ms * math.exp(mean + P90 * math.sqrt(spread)))
    return Estimate(expected, high, cells[2].n or cells[1].n, prior_ms)


def log_ratio(work_ms: float, prior_ms: float, basis: str = "m") -> float:
    """ln(work / prior), within bounds."""
    most = MAX_X_SAID if basis == "e" else MAX_X
    return max(-most, min(most, math.log(max(MIN_MS, work_ms) / prior_ms)))


def left_s(elapsed_s: float, estimate_s: float) -> float:
    """What a running task still needs."""
    return (OVERRUN * elapsed_s if elapsed_s > estimate_s else estimate_s) - elapsed_s


def _bounded(ms: float) -> int:
    return int(max(MIN_MS, min(MAX_MS, ms)) + 0.5)
