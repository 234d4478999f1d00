"""Granting and settling by hand, with the planner and the scripts that a balancer process uses."""

from __future__ import annotations

import math
from collections.abc import Sequence

from balancer.core.lanes import Lane, lane_definition
from balancer.core.model import Agent
from balancer.core.names import new_nonce
from balancer.core.planner import NOBODY, Planner, Proposal
from balancer.core.view import LaneView, View, beyond
from balancer.ledger import commit as committing
from balancer.ledger import settle as settling
from balancer.ledger.configure import refresh
from balancer.ledger.leases import OpenLease
from balancer.ledger.pool import Pool
from balancer.ledger.read_tasks import TaskStatus, lane_of
from balancer.ledger.release import release
from balancer.ledger.settle import CompletionEntry
from balancer.ledger.view import LANES_A_PAGE, Viewer, read_head
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

    def _view(self, limit: int, page: int = 0, pivot: int | None = None) -> View:
        """A picture, and a planner that goes by what decides in the pool now."""
        view = self._viewer.view(page, limit, pivot)
        if view.settings_ver == self._planned_by:
            return view
        refresh(self._pool)
        self._planner, self._planned_by = _unguarded(self._pool), self._pool.settings_ver
        return self._viewer.view(page, limit, pivot)

    def first(self, limit: int) -> list[Proposal]:
        """A plan for the first `limit` tasks of the queue that somebody has room for."""
        page, looks, kept, pivot = 0, 0, NOBODY, self._pivot()
        while True:
            view = self._view(limit, page, pivot)
            proposals, _, kept = self._planner.decide(view, limit, kept if page else NOBODY)
            if proposals:
                return proposals
            if view.more:
                page += 1
                continue
            looks += 1
            if looks >= view.looks:
                return []
            page, pivot = 0, beyond(pivot)

    def choose(self, task: TaskStatus) -> Proposal | None:
        """The best agent for one pending task; None when nobody of its role has room."""
        lane = lane_of(self._pool, task.id)
        place = lane and self._place(task.role, lane)
        if lane is None or place is None:
            return None
        page, pivot, step = place
        only = LaneView(lane, 1, [read_head(self._pool, task.id)], lane_definition(lane)[0])
        looks = 0
        while True:
            view = self._view(1, page, pivot)
            alone = [
                role._replace(lanes=[only], units=1)
                for role in view.roles
                if role.role == task.role
            ]
            picture = view._replace(more=False, roles=alone)
            if found := self._planner.plan(picture, 1):
                return found[0]
            looks += 1
            if looks > 2 * (picture.looks - 1):
                return None
            pivot += step

    def _place(self, role: str, lane: Lane) -> tuple[int, int, int] | None:
        """Which page of the role's lanes shows a lane, a pivot with which those on whom its tasks failed are named
        first, and how far to go on with it: so that they still are, and that other classes come into view.
        None when nothing waits in it.
        """
        keys, client = self._pool.keys, self._pool.client
        rank = client.zrank(keys.lanes(role), lane_definition(lane)[0])
        if rank is None:
            return None
        page, at = divmod(rank, LANES_A_PAGE)
        count = max(at + 1, min(LANES_A_PAGE, client.zcard(keys.lanes(role)) - page * LANES_A_PAGE))
        pivot = self._pivot() // 2 // count * count + (at - 1) % count
        return page, pivot, LANES_A_PAGE // count * count

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
