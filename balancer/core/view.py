"""What a plan is made from: a bounded picture of a pool at one instant."""

from __future__ import annotations

from typing import NamedTuple

from balancer.core.lanes import AgentClass, Lane


class Head(NamedTuple):
    """One of the first tasks of a lane."""

    order_us: float
    task: str


class LaneView(NamedTuple):
    """The first tasks of a lane, and how many it holds."""

    lane: Lane
    size: int
    heads: list[Head]


class FreeAgent(NamedTuple):
    """An agent with units left, as it was at the time of the view."""

    id: str
    type: str
    max_concurrent: int
    used: int
    health: float
    freed_us: int
    #: In pools whose strategy goes by turns: how near its turn is, larger first. Order `grant`: seconds
    #: since its last grant. Order `draw`: 1 at the place where the view starts, towards 0 round the circle.
    turn: float = 0.0


class FreeClass(NamedTuple):
    """The first free agents of a class, and how many it has."""

    cls: AgentClass
    size: int
    agents: list[FreeAgent]
    #: So many of the agents, the last ones, are not next in turn: they are the least loaded, for tasks
    #: that are too large for those that are.
    extra: int = 0


class RoleView(NamedTuple):
    """What waits and what is free in one role. `units`: how much of it this plan may hand out."""

    role: str
    lanes: list[LaneView]
    classes: list[FreeClass]
    units: int = 128


class View(NamedTuple):
    """A bounded picture of a pool at one instant. `more`: there are lanes beyond this page."""

    now_ms: int
    more: bool
    roles: list[RoleView]
    #: Where the view starts in a pool of the order `draw`.
    pivot: int = 0
