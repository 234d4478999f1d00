"""How fast an agent is against what it declares, as seen from its tries.

Each completed try says ln(expected / real duration), which is 0 on average for an agent that is as fast as it
declares. The mean over an agent's tries, pulled towards 0, and at each category pulled towards that, makes
steps of LEARNED_STEP; agents with the same declaration and steps are one class. Tries that failed count as time
lost: an agent that needs two tries a task is half as fast.

One that fails nearly all that it tries is shut out while others could have the work: a circuit breaker. After a while
it is given one task; if that completes, nothing is held against it any more, else it is shut out for twice as long.

Pure, and the source of the formulas: `pace.lua` and `steps.lua` in `ledger/parts` compute the same in Redis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from balancer.core.effort import Cell
from balancer.core.lanes import LEARNED_STEP, Gate

#: Redis keeps whole numbers: ten-thousandths.
PARTS = 10_000
#: A pace forgets: beyond so many tries each new one counts this share.
CAP = 200
#: Success forgets sooner: an agent that was mended must not pay for long.
CAP_TRIES = 50
#: How much agents differ in speed before anything was seen: variance of ln(speed). It decides how many tries
#: outweigh the declaration: the more durations scatter, the more; never fewer than LEAST_WEIGHT. What one estimate
#: misses the next ones miss, too (a workflow, a repository), so ALIKE tries tell as much as one.
SPREAD, LEAST_WEIGHT, ALIKE = 0.09, 4.0, 16.0
#: So many tries without a failure are taken for granted.
TRIES_WEIGHT = 10.0
#: From so many observations on a step is taken; and how far from it the figure must be, in steps, to leave it.
ENOUGH, HYSTERESIS = 8, 0.6
#: From so many tries on an agent may be shut out; for so long at first, and at most, seconds.
TRIES_JUDGED, SHUT_S, MOST_SHUT_S = 20, 60, 1_800
#: Most steps faster and slower, and most categories with steps of their own. An agent whose tries all fail
#: ends at the slowest.
MAX_STEPS, MIN_STEPS, MAX_CATEGORIES = 4, -8, 3


class Pace(NamedTuple):
    """What an agent's tries say of it. `categories`: how many it has a figure of its own for."""

    n: int = 0
    mean: float = 0.0
    tries: int = 0
    share: float = 1.0
    categories: int = 0

    @classmethod
    def read(cls, text: str | None) -> Pace:
        """Parse the field `pace` of an agent; None: nothing was seen."""
        if not text:
            return cls()
        n, mean, tries, share, categories = (int(word) for word in text.split(" "))
        return cls(n, mean / PARTS, tries, share / PARTS, categories)

    def tried(self, outcome: float) -> Pace:
        """After a try that went well (1) or failed (0)."""
        tries = min(self.tries + 1, CAP_TRIES)
        return self._replace(tries=tries, share=self.share + (outcome - self.share) / tries)

    def seen(self, x: float) -> Pace:
        """After a try whose ln(expected / real duration) was x."""
        n, mean = Cell(self.n, self.mean).learn(x, CAP)
        return self._replace(n=n, mean=mean)

    @property
    def success(self) -> float:
        """The share of tries that do not fail, as far as is known."""
        return (self.tries * self.share + TRIES_WEIGHT) / (self.tries + TRIES_WEIGHT)

    def levels(self, at: Mapping[str, Cell], var: float) -> tuple[float | None, dict[str, float]]:
        """How many steps faster than declared it should count: all over (None: too early to say), and at
        those of the categories that have enough tries. `var`: how much ln(duration) scatters anyhow.
        """
        weight, lost = max(LEAST_WEIGHT, ALIKE * var / SPREAD), math.log(self.success)
        step, everywhere = math.log(LEARNED_STEP), Cell(self.n, self.mean).towards(0.0, weight)
        levels = {
            category: (cell.towards(everywhere, weight) + lost) / step
            for category, cell in at.items()
            if cell.n >= ENOUGH
        }
        enough = max(self.n, self.tries) >= ENOUGH
        return ((everywhere + lost) / step if enough else None), levels


def next_gate(gate: Gate, pace: Pace, is_good: bool, least: float) -> Gate:
    """The gate of an agent after a try, which `pace` counts already. `least`: the share of tries that must not
    fail; 0: nobody is shut out.
    """
    if gate is Gate.PROBE:
        return Gate.OPEN if is_good or not least else Gate.SHUT
    if pace.share >= least:
        return Gate.OPEN
    return Gate.SHUT if gate or (pace.tries >= TRIES_JUDGED and not is_good) else Gate.OPEN


def shut_s(failed_probes: int) -> float:
    """How long an agent is shut out before it is given one task, once so many of those have failed."""
    return float(min(MOST_SHUT_S, SHUT_S * 2**failed_probes))


def step_at(step: int, level: float) -> int:
    """The step that a level amounts to; it stays where it is while the level is near."""
    if abs(level - step) <= HYSTERESIS:
        return step
    return max(MIN_STEPS, min(MAX_STEPS, math.floor(level + 0.5)))


def next_steps(
    steps: Mapping[str, int], everywhere: float | None, levels: Mapping[str, float]
) -> dict[str, int]:
    """The steps that follow from these. The category "" stands for all that have none of their own; at
    most MAX_CATEGORIES differ from it, those that differ most.
    """
    was = steps.get("", 0)
    base = was if everywhere is None else step_at(was, everywhere)
    new = {category: step for category, step in steps.items() if category}
    new |= {category: step_at(steps.get(category, was), at) for category, at in levels.items()}
    others = sorted((-abs(step - base), category) for category, step in new.items() if step != base)
    kept = {category: new[category] for _, category in others[:MAX_CATEGORIES]}
    return ({"": base} if base else {}) | kept


def ease(steps: Mapping[str, int]) -> dict[str, int]:
    """The steps of an agent that was not tried for long: slower ones come one nearer to what it declares.
    Else nobody would see that it is no longer slow, as slow agents are tried seldom.
    """
    new = {category: step + 1 if step < 0 else step for category, step in steps.items()}
    base = new.pop("", 0)
    kept = {category: step for category, step in new.items() if step != base}
    return ({"": base} if base else {}) | kept
