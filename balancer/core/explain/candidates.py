"""The agents that may have a task, each with what would decide on it now."""

from __future__ import annotations

from balancer.core.explain.answer import Candidate
from balancer.core.explain.judge import MOST_NAMED, Judge
from balancer.core.explain.picture import Seen
from balancer.core.plan.fit import kept_share
from balancer.core.strategies import Fit, Scores


def candidates(judge: Judge, holder: str | None = None) -> tuple[Candidate, ...]:
    """The first ones, best first: those that could have it now before those that could not.

    Args:
        judge: of the task.
        holder: the agent that has it, if one has.
    """
    found = [_candidate(judge, seen, holder) for seen in judge.may]
    found.sort(key=_place)
    first = [one for one in found if one.holds_it]
    return tuple([*first, *(one for one in found if not one.holds_it)][:MOST_NAMED])


def _place(one: Candidate) -> tuple[bool, float, str]:
    worth = sum(one.scores.values()) if one.scores else one.speed * kept_share(one.health)
    return (one.excluded is not None, -worth, one.agent)


def _candidate(judge: Judge, seen: Seen, holder: str | None) -> Candidate:
    agent, rung = seen.agent, judge.ladder.rung(seen.cls)
    assert rung is not None, "its class may have the task"
    index_s = None
    if judge.formula is not None:
        index_us = judge.formula.index_us(judge.picture.head, rung)
        index_s = index_us / 1e6 - judge.now_ms / 1e3
    return Candidate(
        agent=agent.id,
        type=agent.type,
        class_id=seen.class_id,
        max_concurrent=agent.max_concurrent,
        used=agent.used,
        health=agent.health,
        holds_it=agent.id == holder,
        excluded=judge.excluded(seen),
        speed=rung.speed,
        rel=1 / (1 + rung.lag),
        index_s=index_s,
        guarded=judge.is_guarded(seen),
        kept=agent.id == judge.plan.kept,
        scores=_scores(judge, seen),
    )


def _scores(judge: Judge, seen: Seen) -> Scores:
    if isinstance(judge.strategy, Fit):
        return {}
    return judge.strategy.agent_part(seen.agent) | judge.strategy.match_part(judge.lane, seen.cls)
