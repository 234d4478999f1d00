"""What helps a task that stands where it is: one line a reason, with the command where there is one. Empty where
only time does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from balancer.core.explain.answer import Code, Why
from balancer.core.model import Priority
from balancer.core.wording import count

#: Cheapest first.
_HIGHER = {Priority.LOW: Priority.MEDIUM, Priority.MEDIUM: Priority.HIGH}


def help_of(why: Why) -> str:
    """What helps, in one line; empty where nothing does but time."""
    found = _HELPS.get(why.code)
    return found(why) if found else ""


def _blocked(why: Why) -> str:
    return f"balancer task why {why.parents[0].id}" if why.parents else ""


def _unplaceable(why: Why) -> str:
    needs = [f"{skill} {level}" for skill, level in sorted(why.requires.items())]
    return f"start an agent of role {why.role} with {', '.join([*needs, count(why.cost, 'unit')])}"


def _not_accepting(why: Why) -> str:
    for refusal in ("paused", "retiring"):
        for one in why.candidates:
            if one.excluded == refusal:
                return f"balancer agent resume {one.agent}"
    if why.excluded.get("silent"):
        return "wait for their next heartbeats: nobody is judged right after an outage"
    return f"start another agent of role {why.role}"


def _health(why: Why) -> str:
    for one in why.candidates:
        if one.excluded == "health":
            return f"look at the machines, or at: balancer agent show {one.agent}"
    return "look at the machines of these agents: balancer agent ls"


def _more_agents(why: Why) -> str:
    higher = _HIGHER.get(Priority(why.priority), Priority.CRITICAL)
    if higher == why.priority:
        return f"start more agents of role {why.role}"
    return (
        f"start more agents of role {why.role}, or let it go before others:"
        f" balancer task reprioritise {why.id} --priority {higher.value}"
    )


def _dead(why: Why) -> str:
    """Parents first: a task is retried only when none of its parents is dead."""
    for one in why.parents:
        if one.state in ("cancelled", "unknown"):
            return f"submit it again without {one.id}, which is {one.state}"
    dead = [one.id for one in why.parents if one.state == "dead"]
    return f"balancer task retry {' '.join([*dead, why.id])}"


_HELPS: Mapping[Code, Callable[[Why], str]] = {
    Code.BLOCKED: _blocked,
    Code.ROLE_PAUSED: lambda why: f"balancer queue resume {why.role}",
    Code.NO_AGENTS: lambda why: f"start an agent: worker run --role {why.role} -- PROGRAM",
    Code.UNPLACEABLE: _unplaceable,
    Code.NOT_ACCEPTING: _not_accepting,
    Code.HEALTH: _health,
    Code.ALL_BUSY: _more_agents,
    Code.TRIED: lambda why: f"start more agents of role {why.role}, or look at what its tries said",
    Code.FAILING: lambda why: (
        f"start more agents of role {why.role}, or look at: balancer agent show {why.barred[0]}"
    ),
    Code.GUARDED: lambda _why: (
        "to let slow agents have such tasks at once: balancer configure --set guard_slack=0"
    ),
    Code.WAITS_IN_LINE: _more_agents,
    Code.UNSERVED: lambda _why: "balancer serve",
    Code.UNDECIDED: lambda _why: (
        "install the class where the balancers run, or: balancer configure --strategy fit"
    ),
    Code.DEAD: _dead,
}
