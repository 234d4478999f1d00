"""Why a task is where it is, in one sentence: a template a reason, and what fills them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from balancer.core.explain.answer import Code, Why
from balancer.core.wording import count, seconds

#: What each reason says. Names in braces are those of `_PARTS`.
SENTENCES: Mapping[Code, str] = {
    Code.SCHEDULED: "It waits for its time, in {until}.",
    Code.BLOCKED: "It waits for {parents} to complete.",
    Code.BACKING_OFF: "Try {failures} of {max_failures} failed; the next one may start in {until}.",
    Code.DUE: "What it waited for has come; the next sweep puts it into the queue, within a second.",
    Code.ROLE_PAUSED: "The queue of role {role} is paused.",
    Code.NO_AGENTS: "No agent of role {role} is live{lost}.",
    Code.UNPLACEABLE: "No live agent of role {role} could ever have it: {excluded}{shortage}.",
    Code.NOT_ACCEPTING: "Those of role {role} that could have it take no new work: {excluded}.",
    Code.HEALTH: "{unheard} not been heard of for too long.",
    Code.ALL_BUSY: "{suitable_agents} {are} full: {units}{need}{kept}; {place}.",
    Code.TRIED: "It failed on {barred}, and those that have not tried it yet have no room: {excluded}.",
    Code.FAILING: "Those that have room ({barred}) fail nearly all that they try, and the others have none:"
    " {excluded}; {place}.",
    Code.AVOIDED: "It was given back by {barred}; others go first for {until} more, and none has room: {excluded}.",
    Code.GUARDED: "{faster}; those that have room would take {here_in}. {lapse}",
    Code.RESERVED: "What has room, {kept_agent}, is kept free for {kept_for}, which needs more units at once than"
    " any agent has left; {place}.",
    Code.WAITS_IN_LINE: "Others go before it to the {free_units} that it could have; {place}.",
    Code.PLACING: "It is about to be given to {goes_to}.",
    Code.UNSERVED: "No balancer serves the pool, {unserved}: nothing is given to agents, nor is heard what they say.",
    Code.UNDECIDED: "No balancer that runs can load the strategy {strategy}, so nothing is given to agents.",
    Code.ASSIGNED: "Agent {agent} has held it for {granted} (try {attempt}).",
    Code.CANCELLING: "Agent {agent} holds it and was asked to stop; it ends cancelled.",
    Code.COMPLETED: "It is completed: agent {agent} did it in {took} (try {attempt}).",
    Code.DEAD: "It is dead ({reason}{limit}{failed}) and will not be tried again{tries}.",
    Code.CANCELLED: "It was cancelled{because}{tries}.",
}

#: What an agent is that a rule keeps from the task, or that accepts no work.
EXCLUDED: Mapping[str, str] = {
    "role": "of another role",
    "skill": "without the skills",
    "size": "too small",
    "health": "silent for too long",
    "tried": "failed it",
    "failing": "failing too often",
    "avoided": "gave it back",
    "not_empty": "not empty",
    "full": "full",
    "paused": "paused",
    "retiring": "retiring",
    "stopping": "stopping",
    "silent": "not judged yet",
}


def sentence(why: Why) -> str:
    """The sentence of an answer."""
    template = SENTENCES[why.code]
    parts = {name: part(why) for name, part in _PARTS.items() if f"{{{name}}}" in template}
    return template.format(**parts)


def _excluded(why: Why) -> str:
    found = [
        f"{number} {EXCLUDED.get(rule, rule)}" for rule, number in sorted(why.excluded.items())
    ]
    return ", ".join(found) or "none was looked at"


def _shortage(why: Why) -> str:
    short = [
        f"{skill} {why.requires[skill]} (the best has {best})"
        if best
        else f"{skill} {why.requires[skill]} (nobody has any)"
        for skill, best in sorted(why.best_levels.items())
    ]
    if why.excluded.get("skill") and not short:
        levels = [f"{skill} {level}" for skill, level in sorted(why.requires.items())]
        short = [f"all of {', '.join(levels)} in one agent"]
    needs = [*short, *([count(why.cost, "unit")] if why.excluded.get("size") else [])]
    return f"; it needs {', '.join(needs)}" if needs else ""


def _parents(why: Why) -> str:
    named = ", ".join(f"{parent.id} ({parent.state})" for parent in why.parents)
    more = why.open_parents - len(why.parents)
    return f"{count(why.open_parents, 'task')}: {named}{f' and {more} more' if more > 0 else ''},"


def _failed(why: Why) -> str:
    gone = [one for one in why.parents if one.state in ("dead", "cancelled", "unknown")]
    return f": {', '.join(f'{one.id} is {one.state}' for one in gone)}" if gone else ""


def _place(why: Why) -> str:
    if why.position is None:
        return "it is in line"
    later = "" if why.is_position_exact else " or later"
    return f"it is number {why.position}{later} in line{_not_counted(why)}"


def _not_counted(why: Why) -> str:
    if not why.unplaceable_ahead:
        return ""
    return f", not counting {count(why.unplaceable_ahead, 'task')} that no agent could have"


def _kept(why: Why) -> str:
    if why.kept_agent is None:
        return ""
    whom = "it" if why.kept_for == why.id else f"task {why.kept_for}" if why.kept_for else "another"
    return f", agent {why.kept_agent} is kept free for {whom}"


def _need(why: Why) -> str:
    if why.excluded.get("not_empty"):
        return ", it needs an agent that holds nothing"
    return f", it needs {why.cost} at once of one agent" if why.free_units else ""


def _units(why: Why) -> str:
    used = why.suitable_units - why.free_units
    return f"{used} of {count(why.suitable_units, 'unit')} in use"


def _suitable_agents(why: Why) -> str:
    return _all_that_could(why.suitable)


def _all_that_could(agents: int) -> str:
    return (
        "The one agent that could have it"
        if agents == 1
        else f"All {agents} agents that could have it"
    )


def _unheard(why: Why) -> str:
    # Those of which the pool has noticed it are not among the suitable ones.
    agents = max(why.suitable, why.excluded.get("health", 0))
    return f"{_all_that_could(agents)} {'has' if agents == 1 else 'have'}"


def _faster(why: Why) -> str:
    guard = why.guard
    if guard is None:
        return ""
    who = f"({count(guard.better_units, 'unit')}, up to speed {guard.better[0].speed:.3g})"
    if guard.better_starts_in_s is None:
        return f"It is kept for faster agents {who}, of which nobody knows when they have room"
    starts, ends = seconds(guard.better_starts_in_s), seconds(guard.better_in_s)
    if guard.is_in_time:
        return f"Faster agents {who} should start it in {starts} and have done it in {ends}"
    return f"It is kept for faster agents {who}, which should not have room before {starts}"


def _lapse(why: Why) -> str:
    guard = why.guard
    if guard is None:
        return ""
    until = seconds(guard.lapses_in_s)
    if guard.is_in_time:
        return f"It waits for the faster ones for {until} at most, or until more such work waits."
    return f"The guard lets go of it in {until}, or when more such work waits; then it goes to one of those."


def _limit(why: Why) -> str:
    if why.expired_by is None:
        return ""
    if why.expired_by == "expires_at":
        return " at its expires_at"
    return f" after its max_wait_s of {seconds(why.max_wait_s)}"


def _tries(why: Why) -> str:
    if not why.tries:
        return ""
    return f"; {count(len(why.tries), 'try').replace('trys', 'tries')} did not complete, the last one {why.tries[-1]}"


def _lost(why: Why) -> str:
    if not why.lost:
        return ""
    more = f" and {len(why.lost) - 3} more" if len(why.lost) > 3 else ""
    verb = "was" if len(why.lost) == 1 else "were"
    return f"; {', '.join(why.lost[:3])}{more} {verb} lost"


def _unserved(why: Why) -> str:
    return "and none ever has" if why.unserved_s is None else f"since {seconds(why.unserved_s)}"


_PARTS: Mapping[str, Callable[[Why], object]] = {
    "role": lambda why: why.role,
    "lost": _lost,
    "until": lambda why: seconds(why.due_in_s),
    "parents": _parents,
    "failed": _failed,
    "failures": lambda why: why.failures,
    "max_failures": lambda why: why.max_failures,
    "excluded": _excluded,
    "shortage": _shortage,
    "suitable_agents": _suitable_agents,
    "are": lambda why: "is" if why.suitable == 1 else "are",
    "unheard": _unheard,
    "barred": lambda why: ", ".join(why.barred),
    "units": _units,
    "need": _need,
    "kept": _kept,
    "place": _place,
    "faster": _faster,
    "lapse": _lapse,
    "here_in": lambda why: seconds(why.guard.here_in_s if why.guard else None),
    "kept_agent": lambda why: f"agent {why.kept_agent}",
    "kept_for": lambda why: f"task {why.kept_for}" if why.kept_for else "another task",
    "free_units": lambda why: count(why.free_units, "free unit"),
    "goes_to": lambda why: f"agent {why.goes_to}",
    "unserved": _unserved,
    "strategy": lambda why: why.strategy,
    "agent": lambda why: why.assignment.agent_id if why.assignment else "unknown",
    "attempt": lambda why: why.assignment.attempt if why.assignment else 0,
    "granted": lambda why: seconds(why.granted_s),
    "took": lambda why: seconds(why.took_s),
    "reason": lambda why: why.reason or "no reason given",
    "because": lambda why: "" if why.reason in ("", Code.CANCELLED) else f" ({why.reason})",
    "limit": _limit,
    "tries": _tries,
}
