"""Whose turn it is: the orders of agents that a strategy can ask for, and what a grant does to a turn.

The scripts keep the agents of a class in the pool's order, so that a bounded view begins with those
whose turn it is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from enum import StrEnum
from itertools import count
from random import Random

#: Draws are whole numbers of so many bits, a circle.
DRAW_BITS = 48
_CIRCLE = 1 << DRAW_BITS


class Order(StrEnum):
    """Which agents of a class a view begins with."""

    LOAD = "load"  # least loaded, then those whose last unit came free longest ago
    GRANT = "grant"  # least recently granted
    DRAW = "draw"  # at random, drawn again with each grant


def any_pivot() -> int:
    """Where a view may start, when nothing has to be repeatable."""
    return random.getrandbits(DRAW_BITS)


def nearness(draw: int, pivot: int) -> float:
    """How near a draw lies behind the pivot on the circle: 1 at the pivot, towards 0 before it."""
    return 1.0 - ((draw - pivot) % _CIRCLE) / _CIRCLE


class Turns(Iterator[int]):
    """The turns of one plan: numbers that settle ties, and the turn that a grant leaves an agent with."""

    def __init__(self, order: Order, rng: Random, pivot: int) -> None:
        self._numbers, self._order, self._rng, self._pivot = count(), order, rng, pivot
        #: What the last grant drew; None where the order is not drawn.
        self.draw: int | None = None

    def __next__(self) -> int:
        return next(self._numbers)

    def after_grant(self, turn: float) -> float:
        """The turn of an agent that is granted a task in its turn: the end of the line, or a new draw.
        A place that the plan has gone past already comes a round later.
        """
        if self._order is Order.LOAD:
            return 0.0
        if self._order is Order.GRANT:
            return -1e-6 * next(self._numbers)
        self.draw = self._rng.getrandbits(DRAW_BITS)
        place = nearness(self.draw, self._pivot)
        return place - math.ceil(place - turn) if place > turn else place
