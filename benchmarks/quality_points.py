"""Figures of replayed traces, as goals are judged by them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LOADS = (0.6, 0.8, 0.95)
#: Traces of these kinds are named so, whatever follows.
KINDS = ("copilot", "azure", "mooncake", "alibaba", "wfinstances", "jira")


@dataclass(frozen=True, slots=True)
class Point:
    """A trace replayed at one load on one kind of fleet: figures by strategy, and the bound's."""

    trace: str
    load: float
    equal: bool
    strategies: Mapping[str, Mapping[str, float | None]]
    bound: Mapping[str, float]

    @property
    def kind(self) -> str:
        """Which of the known traces it is like; its own name if none."""
        return next((kind for kind in KINDS if self.trace.startswith(kind)), self.trace)

    @property
    def where(self) -> str:
        """For people: which trace, load and fleet."""
        return _where(self.trace, self.load, self.equal)

    def ratio(self, figure: str, strategy: str, other: str) -> float | None:
        """Of one figure; None where either is absent."""
        of = self.strategies.get(strategy, {}).get(figure)
        over = self.strategies.get(other, {}).get(figure)
        if of is None or over is None:
            return None
        # A wait of nothing is as good as any: nothing over nothing is 1.
        return of / over if over else (1.0 if not of else math.inf)


@dataclass(frozen=True, slots=True)
class Check:
    """One figure against its limit; `value` None: absent."""

    where: str
    value: float | None
    limit: float
    #: Whether the value has to reach the limit; else it must not exceed it.
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether it is there and on the right side."""
        if self.value is None:
            return False
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal, judged."""

    number: int
    name: str
    checks: Sequence[Check]

    @property
    def word(self) -> str:
        """pass, short (a figure misses its limit) or absent (none misses, but not all are there)."""
        if any(check.value is not None and not check.holds for check in self.checks):
            return "short"
        return "pass" if self.checks and all(check.holds for check in self.checks) else "absent"


def points(documents: Iterable[Mapping[str, Any]]) -> list[Point]:
    """From what `balancer simulate --json` wrote."""
    return [
        Point(d["trace"], d["load"], d["equal_agents"], d["strategies"], d["bound"])
        for d in documents
    ]


def absent(runs: Sequence[Point]) -> list[str]:
    """Which kinds of trace, at which loads and on which fleets, no run is there for."""
    there = {(p.kind, p.load, p.equal) for p in runs}
    return [
        _where(kind, load, equal)
        for kind in KINDS
        for equal in (False, True)
        for load in LOADS
        if (kind, load, equal) not in there
    ]


def _where(trace: str, load: float, equal: bool) -> str:
    return f"{trace}, load {load}, {'equal' if equal else 'unlike'} agents"
