"""What assignments should be worth, as goals: given the figures of all runs, which of them are reached. Pure.

Ratios are of means over the seeds. `fit` and `best_match` come from the ledger, the policies beside them from the pure
simulation of the same agents and arrivals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import fmean

from balancer.simulate.pure import CLAIRVOYANT
from benchmarks.quality_points import KINDS, Check, Point, Verdict

OURS, PLAIN_QUEUE = "fit", "fifo_pull"
#: The seeds' score: through the ledger, and without it.
SCORES = ("best_match", "seed")
EARLY = ("early_random", "early_rr", "po2", "jsq")
HIGH_LOAD = 0.95
#: Whole workflows: each is a graph of tasks that wait for one another.
WORKFLOWS = "wfinstances"
#: One task of this trace lasts as long as all the rest.
ONE_HUGE = "alibaba"

#: Of mean flow, how much less than a plain queue's: for each trace, on average, and for workflows.
GAIN = {0.95: (0.20, 0.30, 0.12), 0.8: (0.12, 0.22, 0.07), 0.6: (0.15, None, 0.04)}
GAIN_OVER_SCORE = 0.10
#: How far above the best policy that knows every size, and for workflows.
OVER_CLAIRVOYANT = {0.6: (1.05, 1.25), 0.8: (1.10, 1.35), 0.95: (1.35, 1.45)}
OVER_BOUND = {
    0.8: {"copilot": 2.5, "azure": 1.85, "mooncake": 1.55, "alibaba": 1.75, "wfinstances": 2.5, "jira": 1.6},
    0.95: {"copilot": 2.9, "azure": 3.5, "mooncake": 1.75, "alibaba": 2.5, "wfinstances": 2.6, "jira": 1.85},
}  # fmt: skip
NEVER_WORSE, EQUAL_GAIN, EQUAL_GAIN_KINDS = 1.02, 0.15, ("azure", "alibaba")
WEIGHTED_GAIN, HIGH_WAIT = 0.25, 0.3
#: Longest waits over a plain queue's, p99 and max: unlike agents, equal agents.
STARVATION = {False: (1.6, 3.5), True: (2.2, 6.0)}
MAKESPAN = 1.10
#: Rank correlation of estimate and duration.
CORRELATION = {"copilot": 0.35, "wfinstances": 0.85, "azure": 0.55}
#: With learned speeds, of the gain with declared ones.
LEARNED_SHARE = 0.5


def judge(runs: Sequence[Point], correlations: Mapping[str, float]) -> list[Verdict]:
    """All thirteen goals.

    Args:
        runs: every trace at every load, unlike and equal agents, declared speeds.
        correlations: by trace, the rank correlation of the estimate frozen at submission and the duration.
    """
    table: list[tuple[str, Callable[[Sequence[Point]], Iterable[Check]]]] = [
        ("mean flow, over a plain queue's, load .95", lambda p: _gain(p, 0.95)),
        ("mean flow, over a plain queue's, load .8", lambda p: _gain(p, 0.8)),
        ("mean flow, over a plain queue's, load .6", lambda p: _gain(p, 0.6)),
        ("mean flow, over the seeds' score, load .95", _over_score),
        ("mean flow, over early binding", _over_early),
        ("mean flow, over the best clairvoyant", _over_clairvoyant),
        ("mean flow, over the bound, load .8", lambda p: _over_bound(p, 0.8)),
        ("mean flow, over the bound, load .95", lambda p: _over_bound(p, 0.95)),
        ("mean flow, over a plain queue's, equal agents", _equal_agents),
        ("priority: weighted flow and urgent waits, over a plain queue's", _priority),
        ("longest waits, over a plain queue's", _starvation),
        ("makespan, over the bound", _makespan),
    ]
    verdicts = [
        Verdict(number, name, list(checks(runs))) for number, (name, checks) in enumerate(table, 1)
    ]
    return [*verdicts, Verdict(13, "rank correlation of estimates", _correlations(correlations))]


def judge_learned(learned: Sequence[Point], declared: Sequence[Point]) -> list[Verdict]:
    """What holds where agents declare no speeds, and the balancer learns them."""
    gains = {(p.trace, p.load): _flow(p, PLAIN_QUEUE) for p in declared if not p.equal}
    worse = [Check(p.where, _flow(p, PLAIN_QUEUE), NEVER_WORSE) for p in learned]
    share = []
    for point in _unlike(learned, HIGH_LOAD):
        with_declared = gains.get((point.trace, point.load))
        limit = 1 - LEARNED_SHARE * (1 - with_declared) if with_declared is not None else 0.0
        value = _flow(point, PLAIN_QUEUE) if with_declared is not None else None
        share.append(Check(point.where, value, limit))
    return [
        Verdict(1, "learned speeds: mean flow, over a plain queue's", worse),
        Verdict(2, "learned speeds: half of the gain with declared speeds, load .95", share),
    ]


def _gain(runs: Sequence[Point], load: float) -> Iterator[Check]:
    each, average, workflows = GAIN[load]
    plain = []
    for point in _unlike(runs, load):
        value = _flow(point, PLAIN_QUEUE)
        yield Check(point.where, value, 1 - (workflows if point.kind == WORKFLOWS else each))
        if value is not None and point.kind != WORKFLOWS:
            plain.append(value)
    if average is not None and plain:
        # Of fewer kinds the average says something else.
        whole = {p.kind for p in _unlike(runs, load)} >= {*KINDS} - {WORKFLOWS}
        yield Check(f"average of {len(plain)}", fmean(plain) if whole else None, 1 - average)


def _over_score(runs: Sequence[Point]) -> Iterator[Check]:
    for point in _unlike(runs, HIGH_LOAD):
        score = next((name for name in SCORES if name in point.strategies), SCORES[0])
        yield Check(f"{point.where}, {score}", _flow(point, score), 1 - GAIN_OVER_SCORE)


def _over_early(runs: Sequence[Point]) -> Iterator[Check]:
    for point in runs:
        for policy in EARLY:
            # Below, not at: the next smaller number.
            yield Check(f"{point.where}, {policy}", _flow(point, policy), math.nextafter(1.0, 0.0))


def _over_clairvoyant(runs: Sequence[Point]) -> Iterator[Check]:
    for point in _unlike(runs, *OVER_CLAIRVOYANT):
        plain, workflows = OVER_CLAIRVOYANT[point.load]
        ratios = [_flow(point, policy) for policy in CLAIRVOYANT]
        # The largest ratio is that over the best of them; one that is absent might be better.
        value = None if None in ratios else max(ratio for ratio in ratios if ratio is not None)
        yield Check(point.where, value, workflows if point.kind == WORKFLOWS else plain)


def _over_bound(runs: Sequence[Point], load: float) -> Iterator[Check]:
    for point in _unlike(runs, load):
        if point.kind in OVER_BOUND[load]:
            value = point.strategies.get(OURS, {}).get("flow_over_bound")
            yield Check(point.where, value, OVER_BOUND[load][point.kind])


def _equal_agents(runs: Sequence[Point]) -> Iterator[Check]:
    for point in runs:
        if not point.equal:
            continue
        more = point.kind in EQUAL_GAIN_KINDS and point.load == HIGH_LOAD
        limit = 1 - EQUAL_GAIN if more else NEVER_WORSE
        yield Check(point.where, _flow(point, PLAIN_QUEUE), limit)


def _priority(runs: Sequence[Point]) -> Iterator[Check]:
    for point in _unlike(runs, HIGH_LOAD):
        if point.kind != WORKFLOWS:
            weighted = point.ratio("weighted_flow_s", OURS, PLAIN_QUEUE)
            yield Check(f"{point.where}, weighted flow", weighted, 1 - WEIGHTED_GAIN)
        if point.strategies.get(PLAIN_QUEUE, {}).get("high_wait_s") is not None:
            urgent = point.ratio("high_wait_s", OURS, PLAIN_QUEUE)
            yield Check(f"{point.where}, urgent waits", urgent, HIGH_WAIT)


def _starvation(runs: Sequence[Point]) -> Iterator[Check]:
    for point in runs:
        if point.load == HIGH_LOAD:
            p99, longest = STARVATION[point.equal]
            ratio = point.ratio("p99_wait_s", OURS, PLAIN_QUEUE)
            yield Check(f"{point.where}, p99", ratio, p99)
            ratio = point.ratio("max_wait_s", OURS, PLAIN_QUEUE)
            yield Check(f"{point.where}, max", ratio, longest)


def _makespan(runs: Sequence[Point]) -> Iterator[Check]:
    for point in _unlike(runs, HIGH_LOAD):
        if point.kind != ONE_HUGE:
            value = point.strategies.get(OURS, {}).get("makespan_s")
            bound = point.bound.get("makespan_s")
            yield Check(point.where, value / bound if value and bound else None, MAKESPAN)


def _correlations(correlations: Mapping[str, float]) -> list[Check]:
    checks = []
    for kind, least in CORRELATION.items():
        there = [(trace, value) for trace, value in correlations.items() if trace.startswith(kind)]
        checks += [Check(trace, value, least, at_least=True) for trace, value in there]
        if not there:
            checks.append(Check(kind, None, least, at_least=True))
    return checks


def _flow(point: Point, other: str) -> float | None:
    return point.ratio("mean_flow_s", OURS, other)


def _unlike(runs: Sequence[Point], *loads: float) -> Iterator[Point]:
    return (point for point in runs if not point.equal and point.load in loads)
