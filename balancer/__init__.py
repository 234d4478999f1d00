"""A workload balancer on Redis: hands each task to the agent who should do it."""

from balancer.client import Balancer
from balancer.core.errors import (
    BalancerError,
    Conflict,
    InvalidInput,
    NotFound,
    PoolMissing,
    Refused,
    SafeStop,
    SchemaMismatch,
    Unavailable,
    WaitTimeout,
)
from balancer.core.model import Agent, Assignment, LoadMetrics, Priority, Task, TaskState
from balancer.ledger.read import RoleQueue, TaskStatus
from balancer.ledger.submit import Submitted

__all__ = [
    "Agent",
    "Assignment",
    "Balancer",
    "BalancerError",
    "Conflict",
    "InvalidInput",
    "LoadMetrics",
    "NotFound",
    "PoolMissing",
    "Priority",
    "Refused",
    "RoleQueue",
    "SafeStop",
    "SchemaMismatch",
    "Submitted",
    "Task",
    "TaskState",
    "TaskStatus",
    "Unavailable",
    "WaitTimeout",
]
