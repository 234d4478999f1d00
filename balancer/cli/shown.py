"""One task, with all its facts, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from balancer.cli import output
from balancer.cli.again import repeated

if TYPE_CHECKING:
    from balancer.cli.waits import Waits
    from balancer.ledger.read_effort import Effort
    from balancer.ledger.read_tasks import TaskStatus, Try
    from balancer.ledger.read_tried import Tried


def show_status(
    status: TaskStatus,
    as_json: bool,
    max_losses: int,
    waits: Waits | None = None,
    tries: Sequence[Try] = (),
    *,
    tried: Tried | None = None,
    effort: Effort | None = None,
) -> None:
    """All facts of one task.

    Args:
        status: what the pool knows of it.
        as_json: for programs.
        max_losses: of the pool.
        waits: what it waits for, unless it waits for nothing.
        tries: those that did not complete.
        tried: the agents on which it failed.
        effort: what is expected of it and of its graph.
    """
    agents, is_void = tried or ((), False)
    if as_json:
        waited = {
            "waits": waits.text if waits else None,
            "waits_for": waits.parents if waits else (),
            "waits_for_count": waits.total if waits else 0,
            "unplaceable": waits.unplaceable if waits else None,
        }
        history = [one.model_dump(mode="json") for one in tries]
        output.write_json(
            status.model_dump(mode="json")
            | waited
            | {"history": history, "tried": list(agents), "tried_void": is_void}
            | {"effort": effort.model_dump(mode="json") if effort else None}
        )
        return
    rows = {
        **status.model_dump(include={"id", "state", "role", "category", "priority", "cost"}),
        "requires": figures(status.requires),
        "prefers": _preference(status),
        "failed on": failed_on(agents, is_void),
        "waits": repeated(waits.text) if waits else None,
        "agent": status.agent,
        "attempt": status.attempt or None,
        "failures": f"{status.failures} of {status.max_failures}" if status.failures else None,
        "losses": f"{status.losses} of {max_losses}" if status.losses else None,
        "reason": status.reason,
        "cancel": "its agent was asked to stop" if status.cancelling else None,
        "expected": _expected(effort),
        "timeout": _run_timeout(effort),
        "to come": _remaining(effort),
        "accepted": _time(status.accepted_at),
        "not before": _time(status.not_before),
        "expires": _time(status.expires_at),
        "granted": _time(status.granted_at),
        "ended": _time(status.ended_at),
        "waited": _span(status.ready_at, status.granted_at),
        "took": _span(status.granted_at, status.ended_at),
        "why": _why(status),
        **{f"try {n}": _try(one) for n, one in enumerate(tries, 1)},
        **{name: _text(value) for name, value in (status.body | status.result).items()},
    }
    output.facts((name, value) for name, value in rows.items() if value not in (None, ""))


def failed_on(agents: Sequence[str], is_void: bool) -> str:
    """The agents on which a task failed, and whether they may have it again."""
    if not agents:
        return ""
    may = "; all that could have it have failed it, so they may again" if is_void else ""
    return ", ".join(agents) + may


def figures(values: Mapping[str, float]) -> str:
    """Levels or speeds by name, for people."""
    return ", ".join(f"{name} {value:g}".lstrip() for name, value in values.items())


def _expected(effort: Effort | None) -> str | None:
    if effort is None:
        return None
    text = output.seconds(effort.expected_s)
    if not effort.observations:
        return f"{text}, as its producer, the settings and other roles say"
    known = output.count(effort.observations, "finished task")
    off = (
        f"; such tasks miss it by {output.factor(effort.usually_off)}" if effort.usually_off else ""
    )
    is_vague = output.is_vague(effort.expected_s, effort.p90_s)
    most = "or much more" if is_vague else f"nine of ten below {output.seconds(effort.p90_s)}"
    return f"{text}, {most}, from {known}{off}"


def _run_timeout(effort: Effort | None) -> str | None:
    if effort is None:
        return None
    how = {
        "task": "",
        "estimate": ", by what nine of ten such tasks take",
        "default": ", as too little is known of what such tasks take",
    }
    return output.seconds(effort.run_timeout_s) + how[effort.run_timeout_by]


def _remaining(effort: Effort | None) -> str | None:
    if effort is None or effort.remaining_tasks < 2:
        return None
    least = "at least " if effort.more else ""
    work = output.seconds(effort.remaining_s)
    return f"{least}{work} of work, in {output.count(effort.remaining_tasks, 'task')}: it and what waits for it"


def _preference(status: TaskStatus) -> str | None:
    if status.prefer_agent is None or status.prefer_for_s is None:
        return status.prefer_agent
    return f"{status.prefer_agent}, for {output.seconds(status.prefer_for_s)}"


def _try(one: Try) -> str:
    took = output.seconds(max(0.0, one.ended_at - one.granted_at))
    return f"{one.how} on {one.agent} at {_time(one.ended_at)}, after {took}"


def _time(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(" ", "seconds").replace("+00:00", " UTC")


def _span(start: float | None, end: float | None) -> str | None:
    return None if start is None or end is None else output.seconds(max(0.0, end - start))


def _why(status: TaskStatus) -> str | None:
    if status.assignment is None:
        return None
    parts = ", ".join(f"{name} {value:g}" for name, value in status.assignment.scores.items())
    return f"{status.assignment.reason}: {parts}" if parts else status.assignment.reason


def _text(value: Any) -> str:
    return value if isinstance(value, str) else output.json_text(value)
