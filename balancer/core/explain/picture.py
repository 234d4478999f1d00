"""What has to be known of a role to say why one of its tasks waits, or went where it is."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from balancer.core.explain.answer import Examined
from balancer.core.lanes import AgentClass, Lane
from balancer.core.model import Admin, Mode
from balancer.core.view import FreeAgent, Head, View


class Refusal(StrEnum):
    """Why a live agent accepts no work."""

    PAUSED = "paused"
    RETIRING = "retiring"
    STOPPING = "stopping"
    LATE = "health"  # what the rule of that name says, once the pool has noticed
    SILENT = "silent"


def refusal(mode: str, admin: Admin) -> Refusal | None:
    """Why a live agent accepts no work; None when it does."""
    if admin is Admin.PAUSED:
        return Refusal.PAUSED
    if admin is not Admin.NONE:
        return Refusal.RETIRING
    if mode == Mode.RUNNING:
        return None
    if mode == "late":
        return Refusal.LATE
    return Refusal.STOPPING if mode in (Mode.STOPPING, Mode.STOPPED) else Refusal.SILENT


class Seen(NamedTuple):
    """A live agent of the role."""

    cls: AgentClass
    class_id: str
    agent: FreeAgent
    refusal: Refusal | None


class Running(NamedTuple):
    """A lease of one of these agents. `p90_s`: what nine of ten such tasks do not exceed, there."""

    agent: str
    cost: int
    elapsed_s: float
    estimate_s: float
    p90_s: float


class Ahead(NamedTuple):
    """A task that stands before ours, and what it should take at speed 1."""

    order_us: float
    lane: Lane
    estimate_s: float
    p90_s: float


class Picture(NamedTuple):
    """One role at one instant, around one task of it.

    Args:
        view: what a planner would see: this role alone, the task's lane included.
        lane, head: the task.
        before: tasks of its lane that stand before it.
        size: tasks of its lane.
        agents: live ones of the role, whether they accept work or not.
        live: how many live agents the role has in all.
        free_units: of the classes that have any, by class.
        ahead: tasks of the role that stand before it and that an agent could have, as far as they were read.
        ahead_of: how many there are, at least.
        unplaceable_ahead: how many stand before it that no agent could have.
        lost: agents of the role that were lost, where no agent of it is live.
        running: leases of the agents above, as far as they were read.
    """

    view: View
    lane: Lane
    head: Head
    p90_s: float
    before: int
    size: int
    is_paused: bool
    agents: list[Seen]
    class_ids: dict[AgentClass, str]
    live: int
    free_units: dict[AgentClass, int]
    ahead: list[Ahead]
    ahead_of: int
    unplaceable_ahead: int
    lost: list[str]
    running: list[Running]
    is_served: bool
    unserved_s: float | None
    examined: Examined
