"""How well one list foretells the order of another."""

from __future__ import annotations

import math
from collections.abc import Sequence


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's: 1 for the same order, -1 for the reverse, 0 where either is all alike. Values that are
    the same share the mean of their ranks.
    """
    x, y = _ranks(left), _ranks(right)
    middle = (len(x) - 1) / 2
    both = math.fsum((a - middle) * (b - middle) for a, b in zip(x, y, strict=True))
    spread = math.fsum((a - middle) ** 2 for a in x) * math.fsum((b - middle) ** 2 for b in y)
    return both / math.sqrt(spread) if spread else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        stop = start
        while stop < len(order) and values[order[stop]] == values[order[start]]:
            stop += 1
        for place in order[start:stop]:
            ranks[place] = (start + stop - 1) / 2
        start = stop
    return ranks
