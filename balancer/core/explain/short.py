"""Tasks that no agent that accepts work could have, told from lanes and classes alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from balancer.core.explain.words import EXCLUDED
from balancer.core.lanes import AgentClass, Lane, is_unplaceable
from balancer.core.plan.rules import class_rule
from balancer.core.wording import count


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
