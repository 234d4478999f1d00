"""Tasks that no agent that accepts work could have, told from lanes and classes alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from balancer.core.explain.words import EXCLUDED
from balancer.core.lanes import AgentClass, Lane, feasible
from balancer.core.plan.rules import class_rule
from balancer.core.wording import count


def is_unplaceable(lane: Lane, classes: Iterable[tuple[AgentClass, int]]) -> bool:
    """Whether there are agents that accept work, each class with the units of all of them, and none of them
    could have a task of this lane.
    """
    known = [cls for cls, _ in classes]
    return bool(known) and not any(feasible(lane, cls) for cls in known)


def shortage(lane: Lane, classes: Iterable[tuple[AgentClass, int]]) -> str | None:
    """Why none of them could have it, in words; None when one could, or there is none."""
    known = [(cls, units) for cls, units in classes if cls.max_concurrent]
    if not is_unplaceable(lane, known):
        return None
    agents: Counter[str] = Counter()
    for cls, units in known:
        rule = class_rule(lane, cls)
        agents[EXCLUDED[rule.value if rule else ""]] += units // cls.max_concurrent
    why = ", ".join(f"{number} {how}" for how, number in sorted(agents.items()))
    needs = [f"{skill} {level}" for skill, level in lane.requires] + [count(lane.cost, "unit")]
    return f"it needs {', '.join(needs)}; of those that take work: {why}"
