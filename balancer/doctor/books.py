"""What the pool's own figures say: counters, roles without agents, settings that differ."""

from __future__ import annotations

from collections.abc import Iterator

from balancer.config.compare import differences
from balancer.core.invariants import total_violations
from balancer.core.wording import count
from balancer.doctor.finding import Finding, fail, ok, warn
from balancer.doctor.visit import Visit
from balancer.ledger.audit import read_totals
from balancer.ledger.read_fleet import queues

_MOST_NAMED = 5


def counters(visit: Visit) -> Iterator[Finding]:
    """The totals add up, as of one instant."""
    assert visit.pool is not None
    totals = read_totals(visit.pool)
    violations = total_violations(totals)
    if violations:
        yield fail(
            "counters",
            f"{len(violations)} do not add up: {'; '.join(violations[:3])}",
            "run `balancer audit`; a fault worth reporting",
        )
    else:
        yield ok(
            "counters", f"{totals.counters.get('accepted', 0)} tasks accepted, all totals add up"
        )


def staffing(visit: Visit) -> Iterator[Finding]:
    """Roles have the agents that they should have, and work is for somebody."""
    assert visit.pool is not None
    rows = {row.role: row for row in queues(visit.pool)}
    short = []
    for role, own in visit.pool.settings.roles.items():
        live = rows[role].agents if role in rows else 0
        if own.agents is not None and live < own.agents:
            short.append(f"{role} has {live} of {own.agents} agents")
    short += [
        f"{role} has {count(row.pending, 'waiting task')} and no agent"
        for role, row in rows.items()
        if row.pending and not row.agents
    ]
    if short:
        more = f" and {len(short) - _MOST_NAMED} more" if len(short) > _MOST_NAMED else ""
        yield warn("agents", "; ".join(short[:_MOST_NAMED]) + more, "start agents of these roles")
    else:
        yield ok(
            "agents",
            f"{sum(row.agents for row in rows.values())} live, every role with work has some",
        )


def settings(visit: Visit) -> Iterator[Finding]:
    """What this process is told beside what the pool goes by. A pool keeps its own."""
    assert visit.pool is not None
    told = visit.config.given_settings
    if told is None:
        return
    differing = differences(told, visit.pool.settings)
    if not differing:
        yield ok("settings", "those of the pool are the ones that are configured here")
        return
    more = f" and {len(differing) - _MOST_NAMED} more" if len(differing) > _MOST_NAMED else ""
    yield warn(
        "settings",
        f"the pool keeps its own: {'; '.join(differing[:_MOST_NAMED])}{more}",
        "make the file say what the pool has, or the pool what the file says: balancer configure",
    )
