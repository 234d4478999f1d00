"""Which keys may be left when everything has ended: nothing that grows with work, but what finished tasks keep."""

from __future__ import annotations

from collections.abc import Collection, Iterable

#: What a pool has once and for all.
ONCE = {
    "meta", "settings", "roles", "pool", "completed", "dead", "cancelled", "alive", "gone", "agent_timers", "classdef",
    "classn", "heartbeats", "completions", "events", "rejected", "wake",
}  # fmt: skip
#: By task: what stays with a finished one until it is forgotten.
OF_TASK = {"task", "body", "result", "hist"}
#: By agent, while it is known. Its inbox is an empty stream by then.
OF_AGENT = {"agent", "inbox"}
#: While agents and balancers are there: free units by class and by role, the drainers' lock, names of consumers.
OF_FLEET = {"free", "fc", "drain_lock", "consumer"}


def leaked(
    keys: Iterable[str],
    prefix: str,
    tasks: Collection[str],
    agents: Collection[str],
    roles: Collection[str],
) -> list[str]:
    """The keys that should not be there, and the records of tasks that should be and are not."""
    found, records = [], set()
    for key in keys:
        kind, _, member = key.removeprefix(prefix).partition(":")
        is_known = (
            (kind in ONCE and not member)
            or (kind in OF_TASK and member in tasks)
            or (kind in OF_AGENT and member in agents)
            or (kind == "role" and member in roles)
            or kind in OF_FLEET
        )
        if not key.startswith(prefix) or not is_known:
            found.append(f"{key} is left")
        if kind == "task":
            records.add(member)
    return found + [f"the record of {task} is missing" for task in sorted(set(tasks) - records)]
