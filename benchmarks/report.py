"""Figures, and the table and JSON that show them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.aims import Aim

#: The raw rates that every figure is held against: name, and what one of them costs.
RAW_LPUSH, RAW_SCRIPT = "LPUSH, 64 a pipeline", "EVALSHA of 7 commands, 10 a call"


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed (nearest rank)."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("values: there are none")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Iterable[float]) -> float:
    """The middle value; of an even number, the mean of the two."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("values: there are none")
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


@dataclass(frozen=True)
class Figure:
    """One measured number: a value for each repetition.

    Args:
        group: the benchmark it belongs to.
        name: what was measured.
        unit: `/s` for rates; `us` and `ms` for times; `B`; `x` for ratios.
        values: one a repetition.
        aim: what it should reach.
        parts: what it is made of, by name, for people who want to know why.
    """

    group: str
    name: str
    unit: str
    values: Sequence[float]
    aim: Aim | None = None
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median of the repetitions."""
        return median(self.values)

    @property
    def verdict(self) -> str:
        """goal, good, short, or "" where nothing is aimed at."""
        return self.aim.verdict(self.value) if self.aim else ""

    def in_raw(self, raw_rate: float) -> float | None:
        """A rate as a share of a raw rate; a time as how many raw operations fit into it."""
        if self.unit == "/s":
            return self.value / raw_rate
        seconds = {"us": 1e-6, "ms": 1e-3}.get(self.unit)
        return None if seconds is None else self.value * seconds * raw_rate


def number(value: float) -> str:
    """Three digits that matter, with thousands set apart."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def raw_rates(figures: Iterable[Figure]) -> dict[str, float]:
    """The raw rates of this run, by name."""
    return {f.name: f.value for f in figures if f.name in (RAW_LPUSH, RAW_SCRIPT)}


def table(figures: Sequence[Figure]) -> str:
    """All figures as text, one a line."""
    raw = raw_rates(figures)
    head = ("figure", "median", "", "min - max", "LPUSHes", "scripts", "good / goal", "")
    rows: list[tuple[str, ...]] = [head]
    group = ""
    for figure in figures:
        if figure.group != group:
            group = figure.group
            rows.append((group.upper(),))
        rows.append(_row(figure, raw))
        if figure.parts:
            parts = ", ".join(f"{name} {number(value)}" for name, value in figure.parts.items())
            rows.append((f"      {parts}",))
    widths = [max(len(row[i]) for row in rows if len(row) > 1) for i in range(len(head))]
    lines = []
    for row in rows:
        if len(row) == 1:
            lines.append(row[0])
            continue
        cells = (cell.ljust(widths[i]) if i in (0, 2) else cell.rjust(widths[i])
                 for i, cell in enumerate(row))  # fmt: skip
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _row(figure: Figure, raw: Mapping[str, float]) -> tuple[str, ...]:
    in_raw = [figure.in_raw(raw[name]) if name in raw else None for name in (RAW_LPUSH, RAW_SCRIPT)]
    spread = f"{number(min(figure.values))} - {number(max(figure.values))}"
    aim = figure.aim
    return (
        f"  {figure.name}",
        number(figure.value),
        figure.unit,
        spread if len(figure.values) > 1 else "",
        *("" if ratio is None else number(ratio) for ratio in in_raw),
        f"{number(aim.good)} / {number(aim.goal)}" if aim else "",
        figure.verdict.upper() if figure.verdict == "short" else figure.verdict,
    )


def document(figures: Sequence[Figure], machine: Mapping[str, object]) -> dict[str, Any]:
    """All figures as JSON."""
    raw = raw_rates(figures)
    return {
        "machine": dict(machine),
        "figures": [
            {
                "group": f.group,
                "name": f.name,
                "unit": f.unit,
                "median": f.value,
                "min": min(f.values),
                "max": max(f.values),
                "values": list(f.values),
                "in_raw": {name: f.in_raw(rate) for name, rate in raw.items()},
                "good": f.aim and f.aim.good,
                "goal": f.aim and f.aim.goal,
                "verdict": f.verdict,
                "parts": dict(f.parts),
            }
            for f in figures
        ],
    }
