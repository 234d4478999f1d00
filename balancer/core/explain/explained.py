"""The whole answer to why a task is where it is, from what was read of it."""

from __future__ import annotations

from typing import Any

from balancer.core.errors import Misconfigured
from balancer.core.explain.answer import Code, Why
from balancer.core.explain.candidates import candidates
from balancer.core.explain.helps import help_of
from balancer.core.explain.judge import MOST_NAMED, Judge
from balancer.core.explain.outlook import running_outlook, waiting_outlook
from balancer.core.explain.picture import Picture
from balancer.core.explain.preference import wish_of
from balancer.core.explain.words import sentence
from balancer.core.plan.rules import Rule
from balancer.core.settings import PoolSettings

#: The rules about the past of a task and its agents, by the reason that they become.
_PAST = {Code.TRIED: Rule.TRIED, Code.AVOIDED: Rule.AVOIDED, Code.FAILING: Rule.FAILING}
#: Nothing moves before somebody does something.
_STANDS_STILL = (Code.ROLE_PAUSED, Code.UNSERVED, Code.UNDECIDED)


def told(code: Code, **facts: Any) -> Why:
    """An answer with its sentence."""
    why = Why(code=code, text="", **facts)
    return why.model_copy(update={"text": sentence(why), "helps": help_of(why)})


def pending(settings: PoolSettings, picture: Picture, is_decided: bool, **task: Any) -> Why:
    """Of a task that is ready.

    Args:
        settings: of the pool.
        picture: its role.
        is_decided: whether a balancer that runs can load the pool's strategy.
        task: what is known of it.

    Raises:
        Misconfigured: a balancer can, but here it cannot be loaded.
    """
    strategy = "" if is_decided else settings.strategy
    try:
        judge = Judge(settings, picture)
    except Misconfigured:
        if is_decided:
            raise
        return told(Code.UNDECIDED, **task, strategy=strategy)
    code = judge.code()
    besides = judge.nobody() if code is Code.ROLE_PAUSED else None
    outlook, guard = waiting_outlook(judge)
    if not picture.is_served:
        # Nothing is given to anybody, nor is heard what agents say, whatever stands in its way besides.
        code, besides = Code.UNSERVED, code
    elif not is_decided:
        code, besides = Code.UNDECIDED, code
    due_in_s = None
    if code is Code.AVOIDED:
        due_in_s = max(0.0, (picture.lane.avoid_until_ms - judge.now_ms) / 1_000)
    if code is Code.GUARDED and guard:
        due_in_s = guard.lapses_in_s
    return told(
        code,
        **(task | judge.facts() | wish_of(judge)._asdict()),
        due_in_s=due_in_s,
        guard=guard,
        barred=tuple(judge.barred(_PAST[code])[:MOST_NAMED]) if code in _PAST else (),
        besides=None if besides is Code.PLACING else besides,
        candidates=candidates(judge),
        strategy=strategy,
        outlook=None if code in _STANDS_STILL else outlook,
    )


def assigned(settings: PoolSettings, picture: Picture, code: Code, holder: str, **task: Any) -> Why:
    """Of a task that an agent holds: beside it those who could have it now.

    Raises:
        Misconfigured: the pool's strategy is a class that is not here.
    """
    judge = Judge(settings, picture)
    facts = judge.facts()
    about_waiting = (
        "position",
        "is_position_exact",
        "unplaceable_ahead",
        "kept_agent",
        "kept_for",
        "goes_to",
    )
    mine = next((one for one in picture.running if one.agent == holder), None)
    return told(
        code,
        **(task | {name: fact for name, fact in facts.items() if name not in about_waiting}),
        **wish_of(judge, holder)._asdict(),
        candidates=candidates(judge, holder),
        outlook=running_outlook(mine.elapsed_s, mine.estimate_s, mine.p90_s) if mine else None,
    )
