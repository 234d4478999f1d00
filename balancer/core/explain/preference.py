"""The agent that a task would rather have, and why it does not get that one."""

from __future__ import annotations

from typing import NamedTuple

from balancer.core.explain.judge import Judge
from balancer.core.explain.picture import Seen
from balancer.core.plan.fit import Formula, kept_share
from balancer.core.plan.preferred import PREFERRED, Preferences, bonus
from balancer.core.strategies import Fit, Strategy
from balancer.core.view import Preference
from balancer.core.wording import seconds


class Wish(NamedTuple):
    """Who that is, and what is in its way now; None where it may get it, or has."""

    prefers: str | None = None
    unmet: str | None = None


def wish_of(judge: Judge, holder: str | None = None) -> Wish:
    """Of a judged task; `holder`: the agent that has it, if one has."""
    wish = judge.picture.head.preference
    if wish is None:
        return Wish()
    if holder is None:
        return Wish(wish.agent, _unmet(judge, wish))
    return Wish(wish.agent, None if holder == wish.agent else "another got it")


def _unmet(judge: Judge, wish: Preference) -> str | None:
    head, strategy = judge.picture.head, judge.strategy
    if isinstance(strategy, Fit):
        ready_us = Formula(judge.settings).ready_us(head)
    else:
        preferences = Preferences(strategy, judge.settings)
        if not preferences.heeded:
            return "its strategy goes by turns, and looks at no preferences"
        ready_us = preferences.ready_us(head)
    if 1_000 * (judge.now_ms - wish.for_ms) > ready_us:
        return f"for longer than the {seconds(wish.for_ms / 1e3)} for which it is preferred"
    seen = next((seen for seen in judge.picture.agents if seen.agent.id == wish.agent), None)
    if seen is None:
        return "not a live agent of its role"
    excluded = judge.excluded(seen)
    if excluded or not judge.free:
        return excluded
    if isinstance(strategy, Fit):
        is_far = PREFERRED * _fitness(judge, seen) < max(_fitness(judge, one) for one in judge.free)
        return f"over {PREFERRED:g} times slower" if is_far else _withheld(judge, seen)
    best = max(_score(judge, strategy, one) for one in judge.free)
    is_far = _score(judge, strategy, seen) + bonus(best) < best
    return "its score is over a third below the best" if is_far else _withheld(judge, seen)


def _withheld(judge: Judge, seen: Seen) -> str | None:
    """Why it does not get the task although it may have it, and suits it."""
    if judge.is_guarded(seen):
        return "guarded"
    is_kept = judge.plan.kept == seen.agent.id
    return "kept free" if is_kept and judge.plan.kept_for != judge.picture.head.task else None


def _score(judge: Judge, strategy: Strategy, seen: Seen) -> float:
    parts = strategy.agent_part(seen.agent) | strategy.match_part(judge.lane, seen.cls)
    return sum(parts.values())


def _fitness(judge: Judge, seen: Seen) -> float:
    return seen.cls.speed_of(judge.lane.category) * kept_share(seen.agent.health)
