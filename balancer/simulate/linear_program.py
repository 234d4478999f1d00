"""A small exact solver of linear programs: the simplex method on a dense tableau."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Smaller than this is zero.
TINY = 1e-11
#: So many steps in a row without progress, and the rule that cannot go round in circles takes over.
STALLED = 20


@dataclass(frozen=True, slots=True)
class Optimum:
    """The solution, and what one more unit of each limit would be worth (the dual solution)."""

    value: float
    x: list[float]
    duals: list[float]


def maximise(
    objective: Sequence[float], rows: Sequence[Sequence[float]], limits: Sequence[float]
) -> Optimum:
    """Maximise objective x with rows x <= limits and x >= 0.

    Limits must not be negative, and the maximum must be finite. Enters by the largest gain (Dantzig), after stalled
    steps by the smallest number (Bland 1977), which ends always.
    """
    width = len(objective)
    height = len(rows)
    # Each row: coefficients, slack variables, limit. The last: what is still to gain, and minus the value.
    table = [
        [*map(float, row), *(1.0 if i == j else 0.0 for j in range(height)), float(limit)]
        for i, (row, limit) in enumerate(zip(rows, limits, strict=True))
    ]
    gains = [*map(float, objective), *([0.0] * height), 0.0]
    basis = [width + i for i in range(height)]
    stalled = 0
    while True:
        enters = _entering(gains, bland=stalled >= STALLED)
        if enters is None:
            x = [0.0] * (width + height)
            for row, variable in zip(table, basis, strict=True):
                x[variable] = row[-1]
            return Optimum(-gains[-1], x[:width], [-gain for gain in gains[width:-1]])
        leaves = _leaving(table, basis, enters)
        stalled = stalled + 1 if table[leaves][-1] <= TINY else 0
        _pivot(table, gains, leaves, enters)
        basis[leaves] = enters


def _entering(gains: Sequence[float], bland: bool) -> int | None:
    candidates = [column for column in range(len(gains) - 1) if gains[column] > TINY]
    if not candidates:
        return None
    return candidates[0] if bland else max(candidates, key=gains.__getitem__)


def _leaving(table: Sequence[Sequence[float]], basis: Sequence[int], enters: int) -> int:
    """The row that limits the variable that enters; of equals the one with the smallest variable."""
    limiting = [
        (row[-1] / row[enters], basis[i], i) for i, row in enumerate(table) if row[enters] > TINY
    ]
    if not limiting:
        raise ValueError("objective: grows without a bound")
    return min(limiting)[2]


def _pivot(table: list[list[float]], gains: list[float], leaves: int, enters: int) -> None:
    divisor = table[leaves][enters]
    pivot = table[leaves] = [cell / divisor for cell in table[leaves]]
    used = [column for column, cell in enumerate(pivot) if cell]
    for row in (*(row for i, row in enumerate(table) if i != leaves), gains):
        factor = row[enters]
        if factor:
            for column in used:
                row[column] -= factor * pivot[column]
            row[enters] = 0.0
