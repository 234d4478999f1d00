"""The nouns: what a producer submits, what an agent says, what the balancer decides. Bounds stand
on every field.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from balancer.core.hints import (
    MAX_ESTIMATE_S,
    MAX_FEATURES,
    MAX_LEVEL,
    MAX_REQUIRED,
    MAX_TEXT,
    MIN_ESTIMATE_S,
    Feature,
    check_group,
)
from balancer.core.lanes import Gate
from balancer.core.moments import Moment
from balancer.core.names import Name, new_id
from balancer.core.options import MAX_DEDUP_KEY, MAX_WAIT_S, ParentPolicy, check_dedup_key
from balancer.core.payload import check_payload

#: Most parents a task may have, and most tasks that may wait for one parent.
MAX_PARENTS, MAX_CHILDREN = 1_000, 10_000
#: Largest `max_concurrent` of an agent and largest `cost` of a task, both in units.
MAX_UNITS = 1_000
#: Longest run timeout, and that of a task whose producer says none, seconds.
MAX_RUN_TIMEOUT_S, DEFAULT_RUN_TIMEOUT_S = 30 * 86_400, 86_400

Units = Annotated[int, Field(strict=True, ge=1, le=MAX_UNITS)]
Level = Annotated[int, Field(strict=True, ge=1, le=MAX_LEVEL)]
_Seconds = Annotated[
    float, Field(strict=True, ge=MIN_ESTIMATE_S, le=MAX_ESTIMATE_S, allow_inf_nan=False)
]


class Priority(StrEnum):
    """How urgent a task is; each is worth a head start in time (see PoolSettings.head_start_s)."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class TaskState(StrEnum):
    """Where a task is. It is in exactly one."""

    SCHEDULED = "scheduled"
    BLOCKED = "blocked"
    PENDING = "pending"
    ASSIGNED = "assigned"
    COMPLETED = "completed"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether a task in this state will never run again."""
        return self in _FINAL


_FINAL = {TaskState.COMPLETED, TaskState.DEAD, TaskState.CANCELLED}


class Task(BaseModel):
    """One unit of work, as a producer submits it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Name = Field(
        default_factory=new_id, description="unique in the pool; submitting it again is safe"
    )
    role: Name = Field(description="which agents may do it")
    category: Name = Field(default="general", description="what kind of work it is")
    priority: Priority = Priority.MEDIUM
    description: Annotated[str, Field(strict=True, max_length=16_384)] = ""
    payload: Annotated[Any, AfterValidator(check_payload)] = Field(
        default=None, description="any JSON value, at most 64 KiB with the description"
    )
    depends_on: tuple[Name, ...] = Field(
        default=(), max_length=MAX_PARENTS, description="ids that must complete first"
    )
    cost: Units = Field(default=1, description="units of an agent's max_concurrent that it takes")
    requires: dict[Name, Level] = Field(
        default_factory=dict,
        max_length=MAX_REQUIRED,
        description="skills that an agent must have, each with the least level",
    )
    complexity: Annotated[int, Field(strict=True, ge=1, le=5)] | None = Field(
        default=None, description="how much work it is for its category: times the expected minutes"
    )
    estimate_s: _Seconds | None = Field(
        default=None,
        description="what it takes at normal speed; replaces expected minutes and complexity",
    )
    group: (
        Annotated[
            str,
            Field(strict=True, min_length=1, max_length=MAX_TEXT),
            AfterValidator(check_group),
        ]
        | None
    ) = Field(
        default=None,
        description="repository, tenant or workflow: tasks of a group take alike, and that is learned",
    )
    features: dict[Name, Feature] = Field(
        default_factory=dict,
        max_length=MAX_FEATURES,
        description="what is known of its size when it is submitted; numbers count by power of two",
    )
    prefer_agent: Name | None = Field(
        default=None,
        description="gets it, if it is free and not much worse than the best; not where the strategy goes by"
        " turns",
    )
    prefer_for_s: _Seconds = Field(
        default=600, description="the preference is void so long after the task became ready"
    )
    max_failures: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(
        default=3, description="a task that failed this often is dead"
    )
    run_timeout_s: Annotated[
        float, Field(strict=True, ge=1, le=MAX_RUN_TIMEOUT_S, allow_inf_nan=False)
    ] = Field(
        default=DEFAULT_RUN_TIMEOUT_S,
        description="a try that runs longer has failed; where a task says none, the pool may follow what is expected"
        " of it (run_timeout_factor)",
    )
    dedup_key: (
        Annotated[
            str,
            Field(strict=True, min_length=1, max_length=MAX_DEDUP_KEY),
            AfterValidator(check_dedup_key),
        ]
        | None
    ) = Field(
        default=None,
        description="a task submitted under the key of a known one answers with that one",
    )
    not_before: Moment | None = Field(default=None, description="no try starts before this time")
    expires_at: Moment | None = Field(
        default=None,
        description="no try starts after this time: a task that waits then is dead; a run goes on",
    )
    max_wait_s: (
        Annotated[float, Field(strict=True, ge=0.001, le=MAX_WAIT_S, allow_inf_nan=False)] | None
    ) = Field(default=None, description="dead when no agent had it so long after it became ready")
    on_parent_failure: ParentPolicy = Field(
        default=ParentPolicy.FAIL,
        description="when a parent dies or is cancelled: fail with it, skip (cancelled), run anyway",
    )

    # Of fields, not of the model: they cost nothing where a field is not given.
    @field_validator("depends_on")
    @classmethod
    def _parents_are_others(cls, value: tuple[str, ...], known: ValidationInfo) -> tuple[str, ...]:
        if known.data.get("id") in value:
            raise ValueError("names the task itself")
        if len(set(value)) != len(value):
            raise ValueError("a parent is named twice")
        return value

    @field_validator("expires_at")
    @classmethod
    def _may_start_before_it_expires(
        cls, value: datetime | None, known: ValidationInfo
    ) -> datetime | None:
        not_before = known.data.get("not_before")
        if value and not_before and value <= not_before:
            raise ValueError(
                f"is not after not_before {not_before.isoformat()}: it could never start"
            )
        return value

    @property
    def has_hints(self) -> bool:
        """Whether its producer said anything of how much work it is, or who should have it."""
        return (
            self.complexity is not None
            or self.estimate_s is not None
            or self.group is not None
            or self.prefer_agent is not None
            or bool(self.features)
        )


class Mode(StrEnum):
    """What an agent says of itself in a heartbeat."""

    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


class AgentState(StrEnum):
    """What the pool knows of an agent."""

    LIVE = "live"
    LOST = "lost"
    STOPPED = "stopped"


class Admin(StrEnum):
    """What an operator said about an agent, beside what it says of itself."""

    NONE = "none"
    PAUSED = "paused"
    RETIRING = "retiring"
    RETIRED = "retired"


class Agent(BaseModel):
    """One agent as the pool sees it now."""

    model_config = ConfigDict(frozen=True)

    id: Name
    role: Name
    type: str = Field(
        default="", description="kind of agent, e.g. build-agent; gives default specializations"
    )
    specializations: tuple[str, ...] = ()
    skills: dict[str, int] = Field(default_factory=dict, description="level by skill")
    speeds: dict[str, float] = Field(
        default_factory=dict,
        description="declared speed by category, 1 is normal; of the category '': base speed",
    )
    learned_speeds: dict[str, float] = Field(
        default_factory=dict,
        description="what its work has shown instead, where that differs; '' stands for all other categories",
    )
    tries: int = Field(
        default=0, ge=0, description="so many of its last tries `success` is of; 50 at most"
    )
    success: float | None = Field(
        default=None, ge=0, le=1, description="the share of those that did not fail; none: no tries"
    )
    gate: Gate = Field(
        default=Gate.OPEN,
        description="shut: nearly all of its tries fail, so it gets nothing while others could have the task;"
        " probe: it gets one task, to see whether it goes better",
    )
    max_concurrent: int = Field(ge=0, le=MAX_UNITS, description="units it can carry at once")
    current_tasks: int = Field(ge=0, description="open leases")
    used: int = Field(ge=0, description="units taken by its open leases")
    health: float = Field(ge=0, le=1, description="1 fresh heartbeat ... 0.2 past its TTL")
    state: AgentState
    mode: str = Field(
        description="what it says of itself; late while it has not been heard of for too long to be given work, silent"
        " while it is not known whether it lives"
    )
    admin: Admin = Field(
        default=Admin.NONE,
        description="what an operator said: paused (keeps what it holds, gets nothing new), retiring or retired",
    )
    retires_in_s: float | None = Field(
        default=None, ge=0, description="until a retiring agent has to give back what it holds"
    )
    boot: str
    heartbeat_age_s: float = Field(ge=0)

    @property
    def remaining(self) -> int:
        """Units free for new work; never negative, though an agent may declare less than it holds."""
        return max(0, self.max_concurrent - self.used)

    @property
    def is_available(self) -> bool:
        """Whether it may be given work: live, running, with units left, not paused and not retiring."""
        running = self.state is AgentState.LIVE and self.mode == Mode.RUNNING
        return running and self.admin is Admin.NONE and self.remaining > 0

    @property
    def load(self) -> float:
        """Used units / max_concurrent; 1 when it can carry nothing."""
        return self.used / self.max_concurrent if self.max_concurrent else 1.0

    @property
    def activity(self) -> str:
        """idle, working or stopped."""
        if self.state is not AgentState.LIVE:
            return "stopped"
        return "working" if self.current_tasks else "idle"


class Assignment(BaseModel):
    """A fact: this task is, or was, on this agent, and why."""

    model_config = ConfigDict(frozen=True)

    task_id: Name
    agent_id: Name
    attempt: int = Field(ge=1)
    reason: str
    scores: dict[str, float] = Field(description="named parts of the score; their sum decided")
    estimated_duration_s: float = Field(ge=0)


class LoadMetrics(BaseModel):
    """How busy the pool is."""

    model_config = ConfigDict(frozen=True)

    total_agents: int = Field(ge=0, description="known agents, lost and stopped ones included")
    active_agents: int = Field(ge=0, description="live agents: not stopped, and not found lost yet")
    total_capacity: int = Field(ge=0, description="units of the active agents")
    used_capacity: int = Field(ge=0, description="units taken")
    utilization_rate: float = Field(ge=0, description="used / total capacity; 0 without capacity")
    queued_tasks: int = Field(ge=0, description="pending tasks")
    oldest_waiting_s: float = Field(ge=0, description="since the oldest pending task became ready")
