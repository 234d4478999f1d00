"""What each figure should reach. Rates and times are those of a 2-core reference machine; elsewhere
read the ratios to raw commands of the same run.
"""

from __future__ import annotations

from typing import NamedTuple


class Aim(NamedTuple):
    """Two marks: `good` is respectable, `goal` is ahead of the field."""

    good: float
    goal: float
    higher_is_better: bool = True

    def verdict(self, value: float) -> str:
        """goal, good or short."""
        for word, mark in (("goal", self.goal), ("good", self.good)):
            if value >= mark if self.higher_is_better else value <= mark:
                return word
        return "short"


#: A script that runs longer than this at its cap keeps everybody else waiting, ms.
SCRIPT_MS = Aim(5.0, 3.0, higher_is_better=False)

SUBMIT_ONE_SHARE = Aim(0.8, 0.9)
SUBMIT_BULK = Aim(10_000, 25_000)
ASSIGN = Aim(12_000, 20_000)
#: The large case may cost this many times the small one.
SCALE = Aim(1.4, 1.2, higher_is_better=False)
END_TO_END = Aim(5_000, 10_000)
LATENCY_P50_MS = Aim(2.0, 1.3, higher_is_better=False)
LATENCY_P99_MS = Aim(8.0, 5.0, higher_is_better=False)
WAITING_BYTES = Aim(850, 600, higher_is_better=False)
REDIS_CPU_US = Aim(70, 45, higher_is_better=False)
