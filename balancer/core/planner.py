"""Who gets what: a pure function from a view to proposals.

Hard rules filter (plan/rules.py), then the pool's strategy decides: one that scores agents
(plan/by_score.py), or `fit` (plan/fit.py and plan/by_fit.py). For a task that needs more units than any
agent has free, one is kept (plan/reserve.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from types import MappingProxyType
from typing import NamedTuple

from balancer.core.plan.by_fit import ByFit
from balancer.core.plan.by_score import ByScore
from balancer.core.plan.proposal import MOST, Proposal, RolePlan
from balancer.core.settings import PoolSettings
from balancer.core.strategies import Fit, Strategy, make_strategy
from balancer.core.turns import DRAW_BITS, Order, Turns
from balancer.core.view import MOST_CLASSES, RoleView, View

__all__ = ["MOST", "Decision", "Planner", "Proposal", "leaves_nothing"]

#: Nobody is kept free.
NOBODY: Mapping[str, str] = MappingProxyType({})


class Decision(NamedTuple):
    """What a plan came to. `is_last`: once all proposals are granted, nothing that waited in the view
    could be given to anybody, so there is no need to look again before something changes.
    """

    proposals: list[Proposal]
    is_last: bool
    #: Role to the agent that gets nothing, as a large task waits for it: also on the view's further pages.
    kept: Mapping[str, str]


class Planner:
    """Plans for one pool; holds no state between plans."""

    def __init__(self, settings: PoolSettings, strategy: Strategy | Fit | None = None) -> None:
        deciding = strategy or make_strategy(settings)
        self._order = Order(deciding.order)
        self._rng = Random(settings.seed or None)
        self._family: ByFit | ByScore
        if isinstance(deciding, Fit):
            self._family = ByFit(settings)
        else:
            self._family = ByScore(deciding, settings)

    def pivot(self) -> int:
        """Where the next view starts with what it reads in turn: agents in a pool whose order is drawn,
        and what is more than a picture holds.
        """
        return self._rng.getrandbits(DRAW_BITS)

    def plan(self, view: View, most: int = MOST) -> list[Proposal]:
        """At most `most` proposals, first in line first; no agent beyond its units, no task twice."""
        return self.decide(view, most).proposals

    def decide(self, view: View, most: int = MOST, kept: Mapping[str, str] = NOBODY) -> Decision:
        """The same, and what to do next. `kept`: those that an earlier page of this view kept free."""
        plans: dict[str, RolePlan] = {}
        for role in view.roles:
            plans[role.role] = self.plan_role(role, view, most, kept.get(role.role))
        wishes = [wish for plan in plans.values() for wish in plan.wishes]
        wishes.sort(key=lambda wish: wish[0])
        proposals = [proposal for _, proposal in wishes[:most]]
        return Decision(
            proposals,
            leaves_nothing(
                view, proposals, {name for name, plan in plans.items() if plan.is_whole}
            ),
            {**kept, **{name: plan.kept for name, plan in plans.items() if plan.kept}},
        )

    def plan_role(
        self, role: RoleView, view: View, most: int = MOST, kept: str | None = None
    ) -> RolePlan:
        """What is to happen in one role of a view. `kept`: whom an earlier page kept free."""
        turns = Turns(self._order, self._rng, view.pivot)
        return self._family.plan_role(role, min(most, role.units), turns, view.now_ms, kept)


def leaves_nothing(
    view: View, proposals: list[Proposal], whole: frozenset[str] | set[str] = frozenset()
) -> bool:
    """Whether nothing that waited in this view could fit beside these proposals, once all are granted.

    Then there is no need to look again before something changes. Free units that were not in the
    picture, or tasks beyond it while units are left, make it False; a role that was planned as a `whole`
    is known to be done, unless it may have classes beyond the picture.
    """
    if view.more or len(proposals) >= MOST:
        return False
    granted: dict[str, list[int]] = {}
    for proposal in proposals:
        granted.setdefault(proposal.agent, []).append(proposal.cost)
    return all(
        (role.role in whole and len(role.classes) < MOST_CLASSES) or _leaves_nothing(role, granted)
        for role in view.roles
    )


def _leaves_nothing(role: RoleView, granted: dict[str, list[int]]) -> bool:
    agents = [agent for fc in role.classes for agent in fc.agents]
    tasks = sum(len(granted.get(agent.id, ())) for agent in agents)
    if tasks == sum(lane.size for lane in role.lanes):
        return True
    if tasks >= role.units or any(fc.size > len(fc.agents) for fc in role.classes):
        return False
    if len(role.classes) >= MOST_CLASSES:
        return False
    if all(lane.size == len(lane.heads) for lane in role.lanes):
        return True
    return all(
        agent.used + sum(granted.get(agent.id, ())) >= agent.max_concurrent for agent in agents
    )
