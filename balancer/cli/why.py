"""Why a task is where it is, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balancer.cli import output
from balancer.cli.again import repeated
from balancer.cli.shown import failed_on
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
    if why.helps:
        output.write(f"-> {printable(repeated(why.helps))}")
    rows = {
        "reason": why.code.value,
        "besides": why.besides.value if why.besides else None,
        "state": why.state.value,
        "place": _place(why),
        "error": why.error,
        "failed on": failed_on(why.tried, why.tried_void),
        "losses": f"{why.losses} of {why.max_losses}" if why.losses else None,
        "expires": _expires(why),
        "prefers": f"{why.prefers} ({why.unmet})" if why.prefers and why.unmet else why.prefers,
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
        unused = {"score"} if why.candidates[0].index_s is not None else {"index"}
        shown = [name for name in COLUMNS if name not in unused]
        candidates = [[row[name] for name in shown] for row in map(_row, why.candidates)]
        output.table(shown, candidates, numbers=COLUMNS[1:-1], spare=("rel", "health"))


def _place(why: Why) -> str | None:
    if why.position is None:
        return None
    later = "" if why.is_position_exact else ", or later"
    left_out = output.count(why.unplaceable_ahead, "task")
    more = f"; {left_out} before it that no agent could have" if why.unplaceable_ahead else ""
    return f"{why.position} in line{later}{more}"


def _expires(why: Why) -> str | None:
    if why.expires_in_s is None:
        return None
    waited = f", {output.seconds(why.max_wait_s)} after it was ready" if why.max_wait_s else ""
    return f"in {output.seconds(why.expires_in_s)}{waited}, if no agent has it by then"


def _span(span: Span | None) -> str | None:
    return None if span is None else output.span(span.low_s, span.high_s)


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


def _row(one: Candidate) -> dict[str, object]:
    return {
        "agent": one.agent,
        "used": f"{one.used}/{one.max_concurrent}",
        "health": f"{one.health:g}",
        "speed": f"{one.speed:.3g}",
        "rel": f"{one.rel:.2f}",
        "index": _from_now(one.index_s),
        "score": f"{sum(one.scores.values()):.2f}",
        "now": _now(one),
    }


def _from_now(at_s: float | None) -> str | None:
    if at_s is None:
        return None
    return f"{'-' if at_s < 0 else '+'}{output.seconds(abs(at_s))}"


def _now(one: Candidate) -> str:
    if one.holds_it:
        return "has it"
    if one.excluded:
        return one.excluded
    if one.guarded:
        return "guarded"
    return "kept free" if one.kept else "could have it"
