"""Granting and settling by hand, with the planner and the scripts that a balancer process uses."""

from __future__ import annotations

import math
from collections.abc import Sequence

from balancer.core.lanes import lane_definition
from balancer.core.model import Agent
from balancer.core.names import new_nonce
from balancer.core.planner import Planner, Proposal
from balancer.core.view import LaneView, View
from balancer.ledger import commit as committing
from balancer.ledger import settle as settling
from balancer.ledger.configure import refresh
from balancer.ledger.leases import OpenLease
from balancer.ledger.pool import Pool
from balancer.ledger.read_tasks import TaskStatus, lane_of
from balancer.ledger.release import release
from balancer.ledger.settle import CompletionEntry
from balancer.ledger.view import Viewer, read_head
from balancer.protocol.events import Completion, Status

#: The stream entry of a completion that did not come through the stream.
NO_ENTRY = "0-1"
#: What settled a lease that was open when it was looked at. A duplicate: by a sending whose answer was
#: lost, or by its agent in the same moment.
_SETTLED = (
    settling.Outcome.OK,
    settling.Outcome.REQUEUED,
    settling.Outcome.CANCELLED,
    settling.Outcome.DUPLICATE,
)


class Direct:
    """Decides for one pool, outside of any loop. Any number of balancers may drain it meanwhile."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._viewer = pool, Viewer(pool, self._pivot)
        self._planner, self._planned_by = _unguarded(pool), pool.settings_ver

    def _pivot(self) -> int:
        return self._planner.pivot()

    def _view(self, limit: int) -> View:
        """A picture, and a planner that goes by what decides in the pool now."""
        view = self._viewer.view(0, limit)
        if view.settings_ver == self._planned_by:
            return view
        refresh(self._pool)
        self._planner, self._planned_by = _unguarded(self._pool), self._pool.settings_ver
        return self._viewer.view(0, limit)

    def first(self, limit: int) -> list[Proposal]:
        """A plan for the first `limit` tasks of the queue."""
        view = self._view(limit)
        return self._planner.plan(view, limit)

    def choose(self, task: TaskStatus) -> Proposal | None:
        """The best agent for one pending task; None when nobody of its role has room."""
        lane = lane_of(self._pool, task.id)
        view = self._view(1)
        for role in view.roles:
            if lane and role.role == task.role:
                head = read_head(self._pool, task.id)
                only = LaneView(lane, 1, [head], lane_definition(lane)[0])
                alone = role._replace(lanes=[only], units=1)
                return next(iter(self._planner.plan(View(view.now_ms, False, [alone]), 1)), None)
        return None

    def by_hand(self, task: TaskStatus, agent: Agent) -> Proposal:
        """This task to this agent, whatever a strategy would choose."""
        estimate_s = read_head(self._pool, task.id).estimate_s
        return Proposal(
            task.id, agent.id, new_nonce(), task.cost, estimate_s, {}, "by_hand", agent.type
        )

    def grant(self, proposals: Sequence[Proposal]) -> list[committing.Outcome]:
        """Make proposals true, as far as they still hold. Sent again it answers `already`."""
        return [answer.outcome for answer in committing.commit(self._pool, proposals)]

    def settle(self, leases: Sequence[OpenLease], status: Status) -> int:
        """Close leases, at most 100; how many were open still. Children of what ended are told."""
        entries = [
            CompletionEntry(
                NO_ENTRY,
                Completion(
                    agent=lease.agent,
                    task=lease.task,
                    attempt=lease.attempt,
                    lease=lease.nonce,
                    status=status,
                ),
            )
            for lease in leases
        ]
        settled = settling.settle(self._pool, entries)
        release_due = settled.release_due
        while release_due:
            release_due = release(self._pool).more
        return sum(outcome in _SETTLED for outcome in settled.outcomes)


def _unguarded(pool: Pool) -> Planner:
    """Who asks by hand for an agent is not told to wait for a better one."""
    return Planner(pool.settings.model_copy(update={"guard_slack": math.inf}))
