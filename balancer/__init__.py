"""A workload balancer on Redis: hands each task to the agent who should do it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from balancer.aio import AsyncBalancer
    from balancer.client import Balancer
    from balancer.core.errors import (
        BalancerError,
        Conflict,
        Denied,
        InvalidInput,
        Misconfigured,
        NoAgent,
        NoIdleAgent,
        NotFound,
        PoolMissing,
        QueueFull,
        RedisFull,
        Refused,
        SafeStop,
        SchemaMismatch,
        Unavailable,
        Unconfirmed,
        WaitTimeout,
    )
    from balancer.core.model import Agent, Assignment, LoadMetrics, Priority, Task, TaskState
    from balancer.core.options import ParentPolicy
    from balancer.core.workload import WorkloadStats
    from balancer.ledger.read_fleet import RoleQueue
    from balancer.ledger.read_tasks import TaskStatus
    from balancer.ledger.submit import Submitted
    from balancer.workload import WorkloadBalancer

__all__ = [
    "Agent",
    "Assignment",
    "AsyncBalancer",
    "Balancer",
    "BalancerError",
    "Conflict",
    "Denied",
    "InvalidInput",
    "LoadMetrics",
    "Misconfigured",
    "NoAgent",
    "NoIdleAgent",
    "NotFound",
    "ParentPolicy",
    "PoolMissing",
    "Priority",
    "QueueFull",
    "RedisFull",
    "Refused",
    "RoleQueue",
    "SafeStop",
    "SchemaMismatch",
    "Submitted",
    "Task",
    "TaskState",
    "TaskStatus",
    "Unavailable",
    "Unconfirmed",
    "WaitTimeout",
    "WorkloadBalancer",
    "WorkloadStats",
]

_HOMES = {
    "balancer.aio": {"AsyncBalancer"},
    "balancer.client": {"Balancer"},
    "balancer.core.errors": {
        "BalancerError",
        "Conflict",
        "Denied",
        "InvalidInput",
        "Misconfigured",
        "NoAgent",
        "NoIdleAgent",
        "NotFound",
        "PoolMissing",
        "QueueFull",
        "RedisFull",
        "Refused",
        "SafeStop",
        "SchemaMismatch",
        "Unavailable",
        "Unconfirmed",
        "WaitTimeout",
    },
    "balancer.core.model": {"Agent", "Assignment", "LoadMetrics", "Priority", "Task", "TaskState"},
    "balancer.core.options": {"ParentPolicy"},
    "balancer.core.workload": {"WorkloadStats"},
    "balancer.ledger.read_fleet": {"RoleQueue"},
    "balancer.ledger.read_tasks": {"TaskStatus"},
    "balancer.ledger.submit": {"Submitted"},
    "balancer.workload": {"WorkloadBalancer"},
}


def __getattr__(name: str) -> object:
    """Loads what is asked for when it is asked for: the Redis client takes longer to load than `balancer --help`."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
