"""Durations and counts in words, for people."""

from __future__ import annotations

#: What stands for nothing.
NOTHING = "-"


def seconds(value: float | None) -> str:
    """A duration for people."""
    if value is None:
        return NOTHING
    if value < 1:
        return f"{1_000 * value:.0f} ms"
    if value < 10:
        return f"{value:.1f} s"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value / size:.0f} {unit}"
    return f"{value:.0f} s"


def count(number: int, noun: str) -> str:
    """The number and its noun, in the plural where that is due."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
