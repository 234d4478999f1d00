"""Which keys may be left when everything has ended: nothing that grows with work, but what finished tasks keep."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

#: What a pool has once and for all.
ONCE = {
    "meta", "settings", "roles", "pool", "completed", "dead", "cancelled", "alive", "gone", "agent_timers", "classdef",
    "classn", "heartbeats", "completions", "events", "rejected", "wake", "est", "est_old",
}  # fmt: skip
#: By task: what stays with a finished one until it is forgotten.
OF_TASK = {"task", "body", "result", "hist"}
#: By agent, while it is known. Its inbox is an empty stream by then.
OF_AGENT = {"agent", "inbox"}
#: While agents and balancers are there: free units by class and by role, what a role's agents carry, the drainers'
#: lock, names of consumers.
OF_FLEET = {"free", "fc", "capacity", "drain_lock", "consumer"}


class Expected(NamedTuple):
    """What a drained pool knows."""

    prefix: str
    tasks: Collection[str]
    agents: Collection[str]
    roles: Collection[str]
    #: Tasks that have a dedup key: it is held as long as they are remembered.
    dedups: int = 0
    #: Tasks that died before their parents had completed: what they waited for is kept, for a retry.
    waited: Collection[str] = ()


def leaked(keys: Iterable[str], expected: Expected) -> list[str]:
    """The keys that should not be there, and the records of tasks that should be and are not."""
    found, records, dedups = [], set(), 0
    for key in keys:
        kind, _, member = key.removeprefix(expected.prefix).partition(":")
        is_known = (
            (kind in ONCE and not member)
            or (kind in OF_TASK and member in expected.tasks)
            or (kind in OF_AGENT and member in expected.agents)
            or (kind == "role" and member in expected.roles)
            or (kind == "parents" and member in expected.waited)
            or kind in OF_FLEET
            or kind == "dedup"
        )
        if not key.startswith(expected.prefix) or not is_known:
            found.append(f"{key} is left")
        if kind == "task":
            records.add(member)
        dedups += kind == "dedup"
    if dedups != expected.dedups:
        found.append(f"{dedups} dedup keys are held, {expected.dedups} tasks have one")
    missing = sorted(set(expected.tasks) - records)
    return found + [f"the record of {task} is missing" for task in missing]
