"""What decides in a pool. Stored in Redis when the pool is created; every replica uses what is
stored there.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from balancer.core.model import MAX_RUN_TIMEOUT_S, MAX_UNITS, Priority, Units
from balancer.core.names import Name

Share = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
#: Most waiting tasks of a role.
Waiting = Annotated[int, Field(strict=True, ge=1, le=100_000_000)]
#: Of a priority.
Weight = Annotated[float, Field(ge=0.001, le=1_000, allow_inf_nan=False)]
Minutes = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]


#: Strategies of this library; core/strategies.py has one class each.
STRATEGY_NAMES = ("fit", "best_match", "least_loaded", "round_robin", "random")
_CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def _is_strategy(text: str) -> str:
    if text not in STRATEGY_NAMES and not _CLASS_PATH.fullmatch(text):
        raise ValueError(
            f"{text!r} is none of {', '.join(STRATEGY_NAMES)}, nor a class as package.module:Class"
        )
    return text


StrategyName = Annotated[
    str,
    Field(max_length=200, examples=[*STRATEGY_NAMES, "package.module:Class"]),
    AfterValidator(_is_strategy),
]


def _is_factor(value: float) -> float:
    if 0 < value < 1:
        raise ValueError(f"{value} is neither 0 (off) nor at least 1")
    return value


#: Most agents that a role can be meant to have.
MAX_ROLE_AGENTS = 50_000


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Weights(_Settings):
    """What each part of `best_match` is worth."""

    health: Share = Field(default=1.0, description="worth of health 1")
    specialization: Share = Field(default=0.3, description="worth of a matching specialization")
    load: Share = Field(default=0.2, description="worth of an idle agent")


class RoleSettings(_Settings):
    """Defaults and bounds of one role."""

    max_concurrent: Units | None = Field(default=None, description="for agents that declare none")
    specializations: tuple[Name, ...] | None = Field(
        default=None, description="for agents that declare none"
    )
    max_cost: Units | None = Field(
        default=None, description="a task of a higher cost is refused at submit"
    )
    max_pending: Waiting | None = Field(
        default=None, description="new tasks beyond so many waiting ones are refused"
    )
    agents: Annotated[int, Field(strict=True, ge=0, le=MAX_ROLE_AGENTS)] | None = Field(
        default=None,
        description="how many agents the role should have; fewer are told, not refused",
    )


class HeadStart(_Settings):
    """Seconds by which a priority goes before work that became ready at the same moment."""

    critical: Seconds = 3_600
    high: Seconds = 600
    medium: Seconds = 60
    low: Seconds = 0

    def of(self, priority: Priority) -> float:
        """Head start of one priority, seconds."""
        return float(getattr(self, priority.value))


class PriorityWeight(_Settings):
    """What the time of a task of each priority is worth, against that of the others."""

    critical: Weight = 8.0
    high: Weight = 4.0
    medium: Weight = 2.0
    low: Weight = 1.0

    def of(self, priority: Priority) -> float:
        """Weight of one priority."""
        return float(getattr(self, priority.value))


class PoolSettings(_Settings):
    """What decides in a pool."""

    strategy: StrategyName = Field(
        default="fit",
        description="who gets a task; a class of your own by its path, package.module:Class",
    )
    seed: Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)] = Field(
        default=0, description="of a strategy's draws, to repeat them; 0: nobody can foretell them"
    )
    weights: Weights = Weights()
    min_health: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.5, description="below it an agent gets no work"
    )
    head_start_s: HeadStart = HeadStart()
    priority_weight: PriorityWeight = PriorityWeight()
    strict_priority: bool = Field(
        default=False,
        description="a task goes before all of lower priority, however long they wait",
    )
    ageing: Annotated[float, Field(ge=0.001, le=100, allow_inf_nan=False)] = Field(
        default=0.2,
        description="of fit: what waiting weighs against work; low gives throughput, high order of arrival",
    )
    guard_slack: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = Field(
        default=1.5,
        description="of fit: how many times as long as foreseen a faster agent may take before a slow one is used",
    )
    min_success: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.2,
        description="an agent whose tries succeed more seldom gets one task now and then, while others could have the"
        " work; 0: nobody is shut out",
    )
    run_timeout_factor: Annotated[
        float, Field(ge=0, le=1_000, allow_inf_nan=False), AfterValidator(_is_factor)
    ] = Field(
        default=0.0,
        description="of tasks submitted without a run timeout: so many times what nine of ten such tasks take, at least"
        " 1; 0: a day",
    )
    min_run_timeout_s: Annotated[float, Field(ge=1, le=MAX_RUN_TIMEOUT_S, allow_inf_nan=False)] = (
        Field(default=60.0, description="the shortest run timeout that follows from this")
    )
    learning: bool = Field(
        default=True, description="whether durations and speeds are learned from finished tasks"
    )
    retry_delay_s: Annotated[float, Field(ge=0.001, le=86_400)] = Field(
        default=5.0,
        description="longest wait between the first failure and the next try; doubles with each failure",
    )
    retry_max_delay_s: Annotated[float, Field(ge=0.001, le=86_400)] = Field(
        default=3_600.0, description="longest wait between any failure and the next try"
    )
    max_losses: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(
        default=3, description="a task that was lost with its agent this often is dead"
    )
    retention_s: Annotated[float, Field(ge=1, le=10 * 365 * 86_400)] = Field(
        default=86_400.0, description="finished tasks older than this are forgotten"
    )
    retention_count: Annotated[int, Field(strict=True, ge=0, le=100_000_000)] = Field(
        default=100_000, description="most finished tasks that are remembered"
    )
    max_concurrent: Units = Field(default=5, description="for agents whose role says nothing")
    max_cost: Units = Field(default=MAX_UNITS, description="for roles that say nothing")
    max_pending: Waiting = Field(
        default=1_000_000,
        description="of a role that says nothing: new tasks beyond so many waiting ones are refused",
    )
    memory_high_share: Annotated[float, Field(ge=0.1, le=1)] = Field(
        default=0.85,
        description="new tasks are refused above this share of Redis' maxmemory, so that completions fit",
    )
    roles: dict[Name, RoleSettings] = Field(default_factory=dict, max_length=256)
    specializations: dict[Name, tuple[Name, ...]] = Field(
        default_factory=lambda: {
            "build-agent": ("feature", "bug", "infrastructure", "migration"),
            "spec-agent": ("documentation", "technical_debt", "refactoring"),
            "validation-agent": ("testing", "security", "performance"),
            "ux-agent": ("ux_design", "improvement"),
        },
        max_length=256,
        description="by agent type, for agents that declare none",
    )
    estimate_min: dict[Name, Minutes] = Field(
        default_factory=lambda: {
            "feature": 120.0,
            "bug": 60.0,
            "improvement": 90.0,
            "documentation": 30.0,
            "refactoring": 90.0,
            "testing": 60.0,
        },
        max_length=1_000,
        description="expected minutes by category",
    )
    default_estimate_min: Minutes = 60

    @property
    def is_own_strategy(self) -> bool:
        """Whether the strategy is a class of the user's, which each balancer has to load."""
        return self.strategy not in STRATEGY_NAMES

    @property
    def gates(self) -> bool:
        """Whether agents that fail nearly all that they try are shut out."""
        return self.learning and self.min_success > 0

    def estimate_s(self, category: str) -> float:
        """Expected duration of a task of this category, seconds."""
        return 60.0 * self.estimate_min.get(category, self.default_estimate_min)

    def max_concurrent_of(self, role: str) -> int:
        """Units of an agent of this role that declares none."""
        own = self.roles.get(role)
        return own.max_concurrent if own and own.max_concurrent else self.max_concurrent

    def max_pending_of(self, role: str) -> int:
        """Most waiting tasks of a role."""
        own = self.roles.get(role)
        return own.max_pending if own and own.max_pending else self.max_pending

    def specializations_of(self, role: str, agent_type: str) -> tuple[str, ...]:
        """Specializations of an agent that declares none: its role's, else its type's."""
        own = self.roles.get(role)
        if own and own.specializations is not None:
            return own.specializations
        return self.specializations.get(agent_type, ())
