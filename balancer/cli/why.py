"""Why a task is where it is, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balancer.cli import output
from balancer.log import printable

if TYPE_CHECKING:
    from balancer.core.explain.answer import Candidate, Examined, Span, Why

COLUMNS = ("agent", "used", "health", "speed", "rel", "index", "score", "now")


def show_why(why: Why, as_json: bool) -> None:
    """The sentence, what stands behind it, and the agents that may have the task."""
    if as_json:
        output.write_json(why.model_dump(mode="json"))
        return
    output.write(printable(why.text))
    rows = {
        "reason": why.code.value,
        "state": why.state.value,
        "place": _place(why),
        "starts": _span(why.outlook.starts_in) if why.outlook else None,
        "ends": _span(why.outlook.ends_in) if why.outlook else None,
        "suitable": _suitable(why),
        "excluded": ", ".join(f"{number} {rule}" for rule, number in sorted(why.excluded.items())),
        "granted": _granted(why),
        **{f"try {n}": one for n, one in enumerate(why.tries, 1)},
        "looked at": _left_out(why.examined) if why.examined else None,
    }
    output.facts((name, value) for name, value in rows.items() if value)
    if why.candidates:
        output.table(
            COLUMNS, map(_row, why.candidates), numbers=COLUMNS[1:-1], spare=("score", "rel")
        )


def _place(why: Why) -> str | None:
    if why.position is None:
        return None
    return f"{why.position} in line{'' if why.is_position_exact else ', or later'}"


def _span(span: Span | None) -> str | None:
    if span is None:
        return None
    low, high = output.seconds(span.low_s), output.seconds(span.high_s)
    return f"in {low}" if low == high else f"in {low} to {high}"


def _suitable(why: Why) -> str | None:
    if not why.suitable:
        return None
    units = output.count(why.suitable_units, "unit")
    return f"{output.count(why.suitable, 'agent')}, {units}, {why.free_units} free"


def _granted(why: Why) -> str | None:
    if why.assignment is None:
        return None
    scores = ", ".join(f"{name} {part:g}" for name, part in why.assignment.scores.items())
    expected = output.seconds(why.assignment.estimated_duration_s)
    return f"{why.assignment.reason}; {f'{scores}; ' if scores else ''}expected to take {expected}"


def _left_out(examined: Examined) -> str | None:
    """Nothing where everything was looked at."""
    if examined.is_whole:
        return None
    return (
        f"{examined.pool_agents} of {examined.pool_agents_of} live agents,"
        f" {examined.classes} of {examined.classes_of} classes,"
        f" {examined.lanes} of {examined.lanes_of} lanes"
    )


def _row(one: Candidate) -> tuple[object, ...]:
    index = None if one.index_s is None else f"{one.index_s:+.1f} s"
    return (
        one.agent,
        f"{one.used}/{one.max_concurrent}",
        f"{one.health:g}",
        f"{one.speed:.3g}",
        f"{one.rel:.2f}",
        index,
        f"{sum(one.scores.values()):.2f}" if one.scores else None,
        _now(one),
    )


def _now(one: Candidate) -> str:
    if one.holds_it:
        return "has it"
    if one.excluded:
        return one.excluded
    if one.guarded:
        return "guarded"
    return "kept free" if one.kept else "could have it"
