"""The one reason for which a task that is ready does not run.

The rules are those of core/plan/rules.py, the guard and the order those of core/plan/fit.py, and whether the
task would be given to somebody now is asked of the planner itself, with the whole picture for a view.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from balancer.core.explain.answer import Better, Code
from balancer.core.explain.picture import Picture, Refusal, Seen
from balancer.core.fleet import BETTER, Ladder
from balancer.core.lanes import feasible, is_unplaceable
from balancer.core.plan.fit import Formula, better_takes_s
from balancer.core.plan.proposal import RolePlan
from balancer.core.plan.rules import Rule, bars, class_rule, is_failing, room_rule, why_not
from balancer.core.planner import Planner
from balancer.core.settings import PoolSettings
from balancer.core.strategies import Fit, make_strategy

#: Most classes, candidates or parents that are named.
MOST_NAMED = 20


class Hold(NamedTuple):
    """What the guard of `fit` says of a task: who is faster than the fastest of those that it keeps the task from
    (fastest first), their units, when that one would have done it, and when the guard lets go.
    """

    better: tuple[Better, ...]
    better_units: int
    here_in_s: float
    lapses_in_s: float


class Judge:
    """Judges one task by one picture. Holds what follows from both.

    Raises:
        Misconfigured: the pool's strategy is a class that is not here.
    """

    def __init__(self, settings: PoolSettings, picture: Picture) -> None:
        self.settings, self.picture = settings, picture
        (self.role,) = picture.view.roles
        self.now_ms = picture.view.now_ms
        self.strategy = make_strategy(settings)
        self.formula = Formula(settings) if isinstance(self.strategy, Fit) else None
        named = self.role.named_classes
        #: The lane as it binds: without those that failed the task, once there is nobody else.
        self.fleet = self.role.accepting.bound(settings.gates)
        self.lane = self.fleet.void_tried(picture.lane, named)
        self.ladder: Ladder = self.fleet.ladder(self.lane, named if self.lane.tried else None)
        #: Those whose class may have it; of them those who accept work.
        self.may = [seen for seen in picture.agents if class_rule(self.lane, seen.cls) is None]
        self.suitable = [seen for seen in self.may if seen.refusal is None]
        self.free = [seen for seen in self.suitable if self.rule(seen) is None]
        self.plan: RolePlan = Planner(settings, self.strategy).plan_role(self.role, picture.view)

    def rule(self, seen: Seen) -> Rule | None:
        """The hard rule that keeps an agent from the task now."""
        least, failing = self.settings.min_health, self.is_failing(seen)
        return why_not(self.lane, seen.cls, seen.agent, self.now_ms, least, failing=failing)

    def is_failing(self, seen: Seen) -> bool:
        """Whether an agent whose class may have the task is shut out from it, as nearly all of its tries fail."""
        return is_failing(self.ladder, seen.cls, seen.agent)

    def is_guarded(self, seen: Seen) -> bool:
        """Whether the guard of `fit` keeps the task from this agent."""
        rung = self.ladder.rung(seen.cls)
        if self.formula is None or rung is None:
            return False
        left = self.picture.size - self.picture.before
        return self.formula.holds_back(
            self.picture.head, rung, self.role.service_s, left, self.now_ms
        )

    def goes_to(self) -> str | None:
        """Who would get the task if a balancer planned now."""
        task = self.picture.head.task
        return next((wish.agent for _, wish in self.plan.wishes if wish.task == task), None)

    def code(self) -> Code:
        """The reason."""
        if self.picture.is_paused:
            return Code.ROLE_PAUSED
        if nobody := self.nobody():
            return nobody
        if self.goes_to():
            return Code.PLACING
        return self._code_of_free() if self.free else self._code_of_none_free()

    def nobody(self) -> Code | None:
        """Why no agent at all could have it, busy or not; None when one could."""
        if not self.picture.live:
            return Code.NO_AGENTS
        if not self.suitable and not self.units():
            if any(seen.refusal is Refusal.LATE for seen in self.may):
                return Code.HEALTH
            return Code.NOT_ACCEPTING if self.may else Code.UNPLACEABLE
        return None

    def _code_of_free(self) -> Code:
        unguarded = [seen for seen in self.free if not self.is_guarded(seen)]
        kept = None if self.plan.kept_for == self.picture.head.task else self.plan.kept
        if any(seen.agent.id != kept for seen in unguarded):
            return Code.WAITS_IN_LINE
        return Code.RESERVED if unguarded else Code.GUARDED

    def _code_of_none_free(self) -> Code:
        rules = {self.rule(seen) for seen in self.suitable}
        if rules == {Rule.HEALTH}:
            return Code.HEALTH
        roomy = {
            rule
            for seen in self.suitable
            if (rule := self.rule(seen)) in (Rule.TRIED, Rule.AVOIDED, Rule.FAILING)
            and room_rule(self.lane, seen.agent) is None
        }
        if Rule.AVOIDED in roomy:
            return Code.AVOIDED
        if Rule.TRIED in roomy:
            return Code.TRIED
        return Code.FAILING if roomy else Code.ALL_BUSY

    def units(self) -> int:
        """Units of all agents that accept work and may have the task, used or not."""
        return sum(units for cls, units in self.role.accepting.classes if feasible(self.lane, cls))

    def facts(self) -> dict[str, Any]:
        """The counts behind the reason, as fields of the answer."""
        picture, lane = self.picture, self.lane
        classes_of_all = self.role.accepting.classes
        classes = [(cls, units) for cls, units in classes_of_all if feasible(lane, cls)]
        rooms = [seen.agent.max_concurrent - seen.agent.used for seen in self.suitable]
        return {
            "requires": dict(lane.requires),
            "best_levels": self._best_levels(),
            "excluded": dict(Counter(filter(None, map(self.excluded, picture.agents)))),
            "suitable": sum(
                units // cls.max_concurrent for cls, units in classes if cls.max_concurrent
            ),
            "suitable_units": sum(units for _, units in classes),
            "free_units": sum(picture.free_units.get(cls, 0) for cls, _ in classes),
            "most_free": max(0, *rooms, 0),
            "position": None if is_unplaceable(lane, classes_of_all) else picture.ahead_of + 1,
            "unplaceable_ahead": picture.unplaceable_ahead,
            "is_position_exact": picture.examined.lanes == picture.examined.lanes_of,
            "tried": picture.lane.tried,
            "tried_void": bool(picture.lane.tried) and not lane.tried,
            "lost": tuple(picture.lost),
            "kept_agent": self.plan.kept,
            "kept_for": self.plan.kept_for,
            "goes_to": self.goes_to(),
            "is_served": picture.is_served,
            "unserved_s": picture.unserved_s,
            "examined": picture.examined,
        }

    def excluded(self, seen: Seen) -> str | None:
        """Why an agent cannot have the task now: what its class says, why it accepts nothing, or a rule."""
        by_class = class_rule(self.lane, seen.cls)
        if by_class is None and seen.refusal is not None:
            return seen.refusal.value
        rule = by_class or self.rule(seen)
        return rule.value if rule else None

    def barred(self, rule: Rule) -> list[str]:
        """The agents that this rule about the task's past, or theirs, keeps from it."""
        return [
            seen.agent.id
            for seen in self.suitable
            if (bars(self.lane, seen.agent, self.now_ms) is rule)
            or (rule is Rule.FAILING and self.rule(seen) is rule)
        ]

    def _best_levels(self) -> dict[str, int]:
        best = {skill: 0 for skill, _ in self.lane.requires}
        for seen in self.picture.agents:
            for skill, level in seen.cls.skills:
                best[skill] = max(best.get(skill, 0), level)
        return {skill: best[skill] for skill, least in self.lane.requires if best[skill] < least}

    def hold(self) -> Hold | None:
        """What keeps the task from the fastest of those who have room; None when nothing does."""
        held = [seen for seen in self.free if self.is_guarded(seen)]
        rungs = [rung for seen in held if (rung := self.ladder.rung(seen.cls)) is not None]
        if not rungs:
            return None
        rung, head = max(rungs, key=lambda each: each.speed), self.picture.head
        left = self.picture.size - self.picture.before
        better_s = better_takes_s(head.estimate_s, rung, self.role.service_s, left)
        assert self.formula is not None
        lapses_us = self.formula.ready_us(head) + 1e6 * self.settings.guard_slack * better_s
        better = [
            Better(class_id=self.picture.class_ids.get(cls, ""), speed=at.speed, units=units)
            for cls, units in self.role.accepting.classes
            if self.ladder.counts(cls)
            and (at := self.ladder.rung(cls)) is not None
            and at.speed > BETTER * rung.speed
        ]
        better.sort(key=lambda each: -each.speed)
        return Hold(
            better=tuple(better[:MOST_NAMED]),
            better_units=rung.better_units,
            here_in_s=head.estimate_s / rung.speed,
            lapses_in_s=max(0.0, lapses_us / 1e6 - self.now_ms / 1e3),
        )
