"""Durations and counts in words, for people."""

from __future__ import annotations

#: What stands for nothing.
NOTHING = "-"
#: An upper end so many times as far as the lower one, which then counts as this many seconds at least, says nothing.
FAR, NEAR_S = 20.0, 60.0
#: Of factors by which estimates miss nobody needs to know more.
MOST_OFF = 1_000.0


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


def is_vague(low_s: float, high_s: float) -> bool:
    """Whether the upper end of a range says nothing: too little is known, or durations scatter too much."""
    return high_s > FAR * max(low_s, NEAR_S)


def span(low_s: float, high_s: float) -> str:
    """A range of durations from now."""
    low, high = seconds(low_s), seconds(high_s)
    if is_vague(low_s, high_s):
        return f"in {low} or much later"
    return f"in {low}" if low == high else f"in {low} to {high}"


def factor(off: float) -> str:
    """A factor by which estimates miss."""
    return f"x{off:.1f}" if off <= MOST_OFF else f">x{MOST_OFF:.0f}"
