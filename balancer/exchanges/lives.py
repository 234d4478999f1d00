"""What people do to a task's life: cancel it, give it a new one, move it in the queue, look back at it."""

from __future__ import annotations

from collections.abc import Sequence

from balancer.core.errors import Conflict, InvalidInput
from balancer.core.model import Priority
from balancer.exchanges.watching import missing
from balancer.inputs import check_ids, check_text
from balancer.ledger import cancel as cancelling
from balancer.ledger import read, read_tasks
from balancer.ledger import reprioritise as moving
from balancer.ledger import retry as retrying
from balancer.ledger.exchange import Exchange
from balancer.ledger.pool import PoolRef
from balancer.ledger.read_tasks import Try
from balancer.ledger.reprioritise import Moved
from balancer.ledger.retry import Retried

_STILL_DEAD = (
    retrying.Outcome.UNKNOWN,
    retrying.Outcome.DEAD_PARENT,
    retrying.Outcome.TOO_MANY_CHILDREN,
)
#: Of what tasks die.
REASONS = ("failed", "timeout", "lost", "expired", "parent_failed")


def cancel(pool: PoolRef, task_id: str, reason: str) -> Exchange[bool]:
    """Whether the task is cancelled now; else its agent was asked to stop. Conflict where it has ended."""
    check_ids([task_id])
    check_text("reason", reason)
    ((outcome, state),) = yield from cancelling.cancel.steps(pool, [task_id], reason)
    if outcome is cancelling.Outcome.UNKNOWN:
        raise missing(pool, task_id)
    if outcome is cancelling.Outcome.FINISHED:
        raise Conflict(f"task {task_id!r} is {state}; it cannot be cancelled any more")
    return outcome is not cancelling.Outcome.CANCEL_SENT


def retry(pool: PoolRef, task_ids: Sequence[str]) -> Exchange[list[Retried]]:
    """A new life for those of the tasks that are dead; an answer each."""
    check_ids(task_ids)
    answers: list[Retried] = []
    for at in range(0, len(task_ids), retrying.CAP):
        page = task_ids[at : at + retrying.CAP]
        answers += yield from retrying.retry.steps(pool, page)
    return answers


def retry_dead(pool: PoolRef, role: str | None, reason: str | None) -> Exchange[int]:
    """A new life for every task that is dead now, of the role and with the reason; how many.

    Page by page: those that die again meanwhile are left alone. Children of dead parents are tried again after
    these, as long as that helps one.
    """
    if role is not None:
        check_ids([role], "role")
    if reason not in (None, *REASONS):
        raise InvalidInput(f"reason: {reason!r:.80} is none of {', '.join(REASONS)}")
    upto_us = round((yield from read.now_s.steps(pool)) * 1_000_000)
    retried = 0
    while found := (yield from _retry_once(pool, upto_us, role, reason)):
        retried += found
    return retried


def _retry_once(pool: PoolRef, upto_us: int, role: str | None, reason: str | None) -> Exchange[int]:
    skip = retried = 0
    while page := (yield from read_tasks.dead.steps(pool, upto_us, skip, retrying.CAP)):
        wanted = [
            one.id for one in page if role in (None, one.role) and reason in (None, one.reason)
        ]
        answers = yield from retrying.retry.steps(pool, wanted)
        outcomes = [answer.outcome for answer in answers]
        retried += outcomes.count(retrying.Outcome.RETRIED)
        # All but these have left the list by now.
        skip += len(page) - len(wanted) + sum(outcomes.count(one) for one in _STILL_DEAD)
    return retried


def reprioritise(
    pool: PoolRef, task_ids: Sequence[str], priority: Priority | str
) -> Exchange[list[Moved]]:
    """Another priority for those of the tasks that wait; an answer each."""
    check_ids(task_ids)
    try:
        wanted = Priority(priority)
    except ValueError:
        names = ", ".join(one.value for one in Priority)
        raise InvalidInput(f"priority: {priority!r:.80} is none of {names}") from None
    answers: list[Moved] = []
    for at in range(0, len(task_ids), moving.CAP):
        page = task_ids[at : at + moving.CAP]
        answers += yield from moving.reprioritise.steps(pool, page, wanted)
    return answers


def history(pool: PoolRef, task_id: str) -> Exchange[list[Try]]:
    """The last tries of a task that did not complete, oldest first; NotFound without the task."""
    check_ids([task_id])
    (found,) = yield from read_tasks.task_statuses.steps(pool, [task_id])
    if found is None:
        raise missing(pool, task_id)
    return (yield from read_tasks.history.steps(pool, task_id))
