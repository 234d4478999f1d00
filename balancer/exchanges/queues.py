"""Listing the queues of the roles; holding, releasing and emptying one."""

from __future__ import annotations

from balancer.core.errors import NotFound
from balancer.inputs import check_ids
from balancer.ledger import read_fleet, role_set
from balancer.ledger.exchange import Exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.read_fleet import RoleQueue
from balancer.ledger.read_unplaceable import unplaceable


def listed(pool: PoolRef) -> Exchange[list[RoleQueue]]:
    """Every role's queue, with what in it no agent could have."""
    found = yield from read_fleet.queues.steps(pool)
    stuck = yield from unplaceable.steps(pool, [queue.role for queue in found])
    return [
        queue.model_copy(update={"unplaceable": each.tasks, "unplaceable_task": each.first})
        for queue, each in zip(found, stuck, strict=True)
    ]


def pause(pool: PoolRef, role: str) -> Exchange[None]:
    """Hand out none of a role's work until it is resumed."""
    check_ids([role], "role")
    _found(pool, role, (yield from role_set.pause.steps(pool, role)))


def resume(pool: PoolRef, role: str) -> Exchange[None]:
    """Hand out a role's work again."""
    check_ids([role], "role")
    _found(pool, role, (yield from role_set.resume.steps(pool, role)))


def purge(pool: PoolRef, role: str) -> Exchange[int]:
    """Cancel what waits in a role's queue; how many tasks."""
    check_ids([role], "role")
    purged = yield from role_set.purge.steps(pool, role)
    _found(pool, role, purged.outcome)
    return purged.cancelled


def _found(pool: PoolRef, role: str, outcome: role_set.Outcome) -> None:
    if outcome is role_set.Outcome.UNKNOWN:
        raise NotFound(f"role {role!r}: pool {pool.name!r} has had no task and no agent of it")
