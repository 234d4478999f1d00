"""The answer to why a task is where it is."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from balancer.core.model import Assignment, TaskState


class Code(StrEnum):
    """Why a task is where it is: exactly one."""

    SCHEDULED = "scheduled"  # waits for its not_before
    BLOCKED = "blocked"  # waits for tasks that it depends on
    BACKING_OFF = "backing_off"  # a try failed; waits for the next one
    DUE = "due"  # what it waited for has come; the next sweep puts it into the queue
    ROLE_PAUSED = "role_paused"  # the queue of its role is paused
    NO_AGENTS = "no_agents"  # no agent of its role is live
    UNPLACEABLE = "unplaceable"  # no live agent has what it requires, or is as large as it costs
    NOT_ACCEPTING = (
        "not_accepting"  # those who could have it are paused, retiring, stopping or silent
    )
    HEALTH = "health"  # those who could have it have not been heard of for too long
    ALL_BUSY = "all_busy"  # those who could have it have not enough units left
    TRIED = "tried"  # it failed on those who have room, and others have not tried
    FAILING = "failing"  # those who have room fail nearly all that they try
    AVOIDED = "avoided"  # those who have room gave it back moments ago
    GUARDED = "guarded"  # faster agents will clearly have done it sooner than those who have room
    RESERVED = "reserved"  # who has room is kept free for a large task, or one that goes alone
    WAITS_IN_LINE = "waits_in_line"  # there is room, and others go before it
    PLACING = "placing"  # about to be given to an agent
    UNSERVED = "unserved"  # is ready, but no balancer serves the pool
    UNDECIDED = "undecided"  # is ready, but no balancer can load the pool's strategy
    ASSIGNED = "assigned"  # an agent holds it
    CANCELLING = "cancelling"  # an agent holds it, and was asked to stop
    COMPLETED = "completed"
    DEAD = "dead"
    CANCELLED = "cancelled"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Span(_Part):
    """A range of seconds from now: by the means of what is expected, and by what nine of ten do not exceed."""

    low_s: float = Field(ge=0)
    high_s: float = Field(ge=0)


class Outlook(_Part):
    """When a task should start and end, if nothing that is more urgent comes."""

    starts_in: Span | None = Field(description="none for a task that runs")
    ends_in: Span


class Parent(_Part):
    """A task that has to complete first."""

    id: str
    state: str = Field(description="unknown, where it is not kept any more")


class Better(_Part):
    """A class of agents that are clearly faster with a task, which therefore waits for one of them."""

    class_id: str
    speed: float
    units: int = Field(description="of all its agents that accept work, used or not")


class Guard(_Part):
    """What keeps a task from the agents that have room."""

    better: tuple[Better, ...] = Field(description="fastest first; at most 20")
    better_units: int
    better_starts_in_s: float | None = Field(
        description="when one of them should have room, by what they hold and what stands before it: the estimate"
        " of the outlook; none: they are not looked at, or not heard of"
    )
    better_in_s: float | None = Field(
        description="when one of them should have done it, by the same"
    )
    here_in_s: float = Field(description="when the fastest of those that have room would have")
    lapses_in_s: float = Field(description="then the guard lets go of the task", ge=0)

    @property
    def is_in_time(self) -> bool:
        """Whether one of the faster agents should have room before the guard lets go."""
        return self.better_starts_in_s is not None and self.better_starts_in_s <= self.lapses_in_s


class Candidate(_Part):
    """One live agent whose class may have the task, as it is now."""

    agent: str
    type: str
    class_id: str
    max_concurrent: int
    used: int
    health: float
    holds_it: bool = False
    excluded: str | None = Field(
        description="the rule that keeps it from the task now, or why it accepts no work"
    )
    speed: float = Field(description="in the task's category; 1 is normal")
    rel: float = Field(description="its speed, of that of the fastest that may have the task")
    index_s: float | None = Field(
        default=None,
        description="strategy fit: the task's place in line with this agent, in seconds after now; smaller goes first",
    )
    guarded: bool = Field(default=False, description="the guard keeps the task from it")
    kept: bool = Field(default=False, description="it is kept free for another task")
    scores: dict[str, float] = Field(
        default_factory=dict, description="parts of the score; their sum decides. Empty with fit"
    )


class Examined(_Part):
    """How much was looked at, and of how much."""

    agents: int = Field(description="live agents, of this role")
    pool_agents: int = Field(
        description="live agents that were looked at, of any role; 1,000 at most"
    )
    pool_agents_of: int
    classes: int = Field(description="256 at most")
    classes_of: int
    lanes: int = Field(description="256 at most")
    lanes_of: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing was left out."""
        return (self.pool_agents, self.classes, self.lanes) == (
            *(self.pool_agents_of, self.classes_of, self.lanes_of),
        )


class Why(_Part):
    """Why a task is where it is. Seconds are from now, by the pool's clock."""

    id: str
    state: TaskState
    role: str
    category: str
    priority: str
    cost: int
    code: Code
    text: str = Field(description="the same in one sentence, with what stands behind it")
    helps: str = Field(
        default="", description="what helps, with the command where there is one; empty: only time"
    )
    due_in_s: float | None = Field(
        default=None, description="scheduled, backing_off, avoided, guarded: until then"
    )
    failures: int = 0
    max_failures: int = 0
    losses: int = 0
    max_losses: int = 0
    error: str = Field(default="", description="what the last try said that failed")
    expires_in_s: float | None = Field(
        default=None, description="then it is dead, if it waits; by expires_at or max_wait_s"
    )
    max_wait_s: float | None = Field(
        default=None, description="dead when no agent had it so long after it was ready"
    )
    expired_by: str | None = Field(
        default=None, description="of a task that expired: by expires_at, or max_wait_s"
    )
    tried: tuple[str, ...] = Field(default=(), description="the agents on which it failed")
    tried_void: bool = Field(
        default=False,
        description="all that could have it have failed it, so those it failed on may have it again",
    )
    lost: tuple[str, ...] = Field(
        default=(),
        description="no_agents: agents of its role that were lost, the last ones first; at most 20",
    )
    prefers: str | None = Field(default=None, description="the agent that it would rather have")
    unmet: str | None = Field(
        default=None, description="why that agent does not get it now; none: it may"
    )
    parents: tuple[Parent, ...] = Field(
        default=(), description="open ones, or of a dead task those that it waited for; at most 20"
    )
    open_parents: int = 0
    requires: dict[str, int] = Field(default_factory=dict)
    best_levels: dict[str, int] = Field(
        default_factory=dict,
        description="unplaceable: by required skill that is short, the highest level of a live agent",
    )
    excluded: dict[str, int] = Field(
        default_factory=dict,
        description="live agents of the role by the rule that keeps them from the task now, or by why they"
        " accept no work",
    )
    barred: tuple[str, ...] = Field(
        default=(),
        description="tried, avoided, failing: the agents that have failed it, gave it back, or fail nearly all"
        " that they try",
    )
    suitable: int = Field(
        default=0, description="agents that accept work and whose class may have it"
    )
    suitable_units: int = 0
    free_units: int = Field(default=0, description="of the suitable ones")
    most_free: int = Field(default=0, description="of one suitable agent, among those looked at")
    position: int | None = Field(
        default=None,
        description="in the order of its role's queue among tasks that an agent could have, 1 is first; only of"
        " pending tasks",
    )
    is_position_exact: bool = Field(
        default=True, description="false: lanes were left out, so there may be more before it"
    )
    unplaceable_ahead: int = Field(
        default=0,
        description="pending tasks before it that no agent that accepts work could have; the position leaves"
        " them out",
    )
    guard: Guard | None = None
    kept_agent: str | None = Field(
        default=None, description="the agent that is kept free for a task of this role"
    )
    kept_for: str | None = Field(default=None, description="that task")
    goes_to: str | None = Field(default=None, description="who would get it now")
    is_served: bool = Field(
        default=True, description="whether a balancer has served the pool lately"
    )
    unserved_s: float | None = Field(
        default=None, description="since one has, where none does now; none: never"
    )
    besides: Code | None = Field(
        default=None,
        description="unserved, undecided, role_paused: what would keep it waiting besides, by what is known of its"
        " role; role_paused: only where no agent could have it",
    )
    strategy: str = Field(default="", description="undecided: the strategy that cannot be loaded")
    outlook: Outlook | None = None
    candidates: tuple[Candidate, ...] = Field(default=(), description="best first; at most 20")
    assignment: Assignment | None = Field(default=None, description="what decided, at the grant")
    granted_s: float | None = Field(default=None, description="since the grant")
    took_s: float | None = Field(default=None, description="from the last grant to the end")
    reason: str = ""
    tries: tuple[str, ...] = Field(default=(), description="that did not complete; the last ten")
    examined: Examined | None = None
