"""The policies by name, and a run of one of them: no Redis, no planner."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from balancer.core.errors import InvalidInput
from balancer.simulate import early, late
from balancer.simulate.engine import MakePolicy, Run, Simulation
from balancer.simulate.fleet import Fleet
from balancer.simulate.guard import Guard
from balancer.simulate.reserve import Reserve
from balancer.simulate.trace import Trace

#: What is no balancer, and what a balancer without foreknowledge could do.
BASELINES: dict[str, MakePolicy] = {
    "fifo_pull": partial(late.Pull, order=late.by_ready, pick=late.any_agent),
    "fifo_best": partial(late.Pull, order=late.by_ready, pick=late.fastest_agent),
    "prio_fifo": partial(late.Pull, order=late.by_priority, pick=late.any_agent),
    "seed": partial(late.Pull, order=late.by_ready, pick=late.best_score),
    "early_random": early.Random,
    "early_rr": early.RoundRobin,
    "jsq": early.ShortestQueue,
    "po2": early.PowerOfTwo,
    "jiq": early.IdleFirst,
}
#: What knows each task's size beforehand: marks that no balancer can be asked to reach.
CLAIRVOYANT: dict[str, MakePolicy] = {
    "lwl_clair": early.LeastWorkLeft,
    "sept_clair": partial(late.Pull, order=late.by_size, pick=late.fastest_agent),
    "wsept_clair": partial(late.Pull, order=late.by_weighted_size, pick=late.fastest_agent),
    "match_clair": late.Match,
    "eta_clair": Reserve,
    "guard_clair": Guard,
}
POLICIES = {**BASELINES, **CLAIRVOYANT}

#: Draws of a policy are not those of its fleet, which has the same seed.
SEED_OFFSET = 4


def run_pure(
    policy: str, trace: Trace, arrivals: Sequence[float], fleet: Fleet, seed: int = 1
) -> Run:
    """Replay the trace under a policy of `POLICIES`. The same for the same seed.

    Raises:
        InvalidInput: there is no such policy.
    """
    if policy not in POLICIES:
        raise InvalidInput(f"policy is {policy!r}, must be: one of {', '.join(POLICIES)}")
    sim = Simulation(trace, arrivals, fleet, random.Random(seed + SEED_OFFSET))
    return sim.play(POLICIES[policy](sim))
