"""What a plan is made from: a bounded picture of a pool at one instant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from balancer.core.fleet import Fleet
from balancer.core.lanes import AgentClass, Lane
from balancer.core.model import Priority
from balancer.core.turns import DRAW_BITS

#: Most classes of a role in one view; where there are so many, there may be more.
MOST_CLASSES = 256
#: So many of them are others in each view then, one after another from where its pivot says.
OTHER_CLASSES = 64


def beyond(pivot: int) -> int:
    """The pivot of a view that shows other classes than one of this pivot, where there are more than it holds."""
    return (pivot + OTHER_CLASSES) % (1 << DRAW_BITS)


#: Tasks take as long as estimated.
EXACT: Mapping[int, float] = MappingProxyType({})


class Preference(NamedTuple):
    """Which agent a task would rather have, and for how long after it became ready."""

    agent: str
    for_ms: int


class Head(NamedTuple):
    """One of the first tasks of a lane. `estimate_s`: how long it should take at speed 1."""

    order_us: float
    task: str
    estimate_s: float = 3_600.0
    priority: Priority = Priority.MEDIUM
    preference: Preference | None = None


class LaneView(NamedTuple):
    """The first tasks of a lane, and how many it holds."""

    lane: Lane
    size: int
    heads: list[Head]
    id: str = ""


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


class Named(NamedTuple):
    """A live agent that accepts work, full or not, which a lane or a head of the picture names."""

    cls: AgentClass
    agent: FreeAgent


class Held(NamedTuple):
    """A lease of an agent: how many units, since when, and how long it was expected to take there."""

    units: int
    granted_ms: int
    estimate_s: float


class RoleView(NamedTuple):
    """What waits and what is free in one role. `units`: how much of it this plan may hand out."""

    role: str
    lanes: list[LaneView]
    classes: list[FreeClass]
    units: int = 128
    #: All that accept work, free or busy; None: nobody but those of `classes`.
    fleet: Fleet | None = None
    #: How long the role's tasks take of late, on the agents that do them; 0 when none has ended.
    service_s: float = 0.0
    named: Mapping[str, Named] = MappingProxyType({})
    #: What some of the free agents hold: read where a large task may have to wait for one of them.
    held: Mapping[str, Sequence[Held]] = MappingProxyType({})
    #: By size (core/plan/reserve.py) how many times as long as estimated tasks run there, by what was seen of it;
    #: at least 1, and 1 for sizes that are not in it.
    longer: Mapping[int, float] = EXACT

    @property
    def accepting(self) -> Fleet:
        """All of the role that accept work, as far as it is known."""
        if self.fleet is not None:
            return self.fleet
        return Fleet((fc.cls, fc.size * fc.cls.max_concurrent) for fc in self.classes)

    @property
    def named_classes(self) -> dict[str, AgentClass]:
        """The class of each agent that is named."""
        return {id_: named.cls for id_, named in self.named.items()}


class View(NamedTuple):
    """A bounded picture of a pool at one instant. `more`: there are lanes beyond this page."""

    now_ms: int
    more: bool
    roles: list[RoleView]
    #: Where the view starts in a pool of the order `draw`.
    pivot: int = 0
    #: Version of the settings that decided in the pool then.
    settings_ver: int = 1

    @property
    def looks(self) -> int:
        """How many views, each with a pivot OTHER_CLASSES beyond that of the last, show every class of these roles, as
        far as their fleets are known; 1 where this one does.
        """
        own = MOST_CLASSES - OTHER_CLASSES
        classes = [
            len(one.accepting.classes) for one in self.roles if len(one.classes) >= MOST_CLASSES
        ]
        return max([1, *(math.ceil((count - own) / OTHER_CLASSES) for count in classes)])
