from __future__ import annotations

import random
import time
from dataclasses import replace
from itertools import permutations, product
from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.model import Priority
from balancer.simulate.bound import lower_bound
from balancer.simulate.engine import Run
from balancer.simulate.fast_machine import serve
from balancer.simulate.figures import figures, percentile
from balancer.simulate.fleet import Fleet, make_fleet
from balancer.simulate.linear_program import maximise
from balancer.simulate.pure import POLICIES, run_pure
from balancer.simulate.trace import Trace
from tests.support.simulated import agent, fleet, task, trace


def test_machine_serves_the_shortest_remaining_first() -> None:
    # 0 to 1 s the first, 1 to 3 s the second (at 2 s both have 1 s left), then the third, then the first again.
    ends, busy = serve([0, 1, 2], [5, 2, 1], speed=1)

    assert ends == [8, 3, 4]
    assert busy == [pytest.approx((0.5 + 4 * 6) / 5), 2, 3.5]


def test_machine_serves_by_rank_and_interrupts() -> None:
    ends, busy = serve([0, 1, 20], [8, 4, 2], speed=2, rank=[2, 1, 3])

    assert ends == [6, 3, 21]
    assert busy == [pytest.approx((2 * 0.5 + 6 * 4.5) / 8), 2, 20.5]


def test_linear_program_by_hand() -> None:
    # max 3x + 5y with x <= 4, 2y <= 12, 3x + 2y <= 18 (Dantzig's own example).
    optimum = maximise([3, 5], [[1, 0], [0, 2], [3, 2]], [4, 12, 18])

    assert optimum.value == pytest.approx(36)
    assert optimum.x == pytest.approx([2, 6])
    assert optimum.duals == pytest.approx([0, 1.5, 1])


def test_linear_program_does_not_go_round_in_circles() -> None:
    # Beale 1955: Dantzig's rule alone cycles here for ever.
    optimum = maximise(
        [0.75, -150, 0.02, -6],
        [[0.25, -60, -0.04, 9], [0.5, -90, -0.02, 3], [0, 0, 1, 0]],
        [0, 0, 1],
    )

    assert optimum.value == pytest.approx(0.05)
    assert optimum.x == pytest.approx([0.04, 0, 1, 0])


def test_linear_program_without_a_maximum_is_refused() -> None:
    with pytest.raises(ValueError, match="objective: grows without a bound"):
        maximise([1], [[-1]], [1])


@given(seed=st.integers(0, 2**32))
def test_linear_program_proves_its_own_optimum(seed: int) -> None:
    """A solution within the limits and prices that cover every gain, of equal value: neither can be improved."""
    rng = random.Random(seed)
    width, height = rng.randint(1, 6), rng.randint(1, 6)
    objective = [rng.choice([0, 1, rng.uniform(-1, 2)]) for _ in range(width)]
    rows = [[rng.choice([0, 1, rng.uniform(-1, 2)]) for _ in range(width)] for _ in range(height)]
    rows.append([1.0] * width)
    limits = [rng.choice([0, 1, rng.uniform(0, 5)]) for _ in range(height)] + [10.0]

    optimum = maximise(objective, rows, limits)

    assert min(optimum.x) >= -1e-9
    for row, limit in zip(rows, limits, strict=True):
        assert fsum(a * x for a, x in zip(row, optimum.x, strict=True)) <= limit + 1e-7
    assert min(optimum.duals) >= -1e-9
    for column, gain in enumerate(objective):
        price = fsum(y * row[column] for y, row in zip(optimum.duals, rows, strict=True))
        assert price >= gain - 1e-7
    value = fsum(c * x for c, x in zip(objective, optimum.x, strict=True))
    worth = fsum(y * limit for y, limit in zip(optimum.duals, limits, strict=True))
    assert value == pytest.approx(worth, abs=1e-7)
    assert value == pytest.approx(optimum.value, abs=1e-7)


def test_bound_of_one_task_is_its_time_on_the_fastest_agent() -> None:
    bound = lower_bound(trace(task(3, 8)), [3], fleet(agent(1), agent(4)))

    assert bound.mean_flow_s == bound.weighted_flow_s == bound.makespan_s == 2
    assert bound.release_s == [3]


def test_bound_of_one_slot_is_shortest_remaining_first() -> None:
    made = trace(task(0, 5), task(1, 2), task(2, 1))

    bound = lower_bound(made, made.arrival_s, fleet(agent(1)))

    assert bound.mean_flow_s == pytest.approx((8 + 2 + 2) / 3)
    assert bound.makespan_s == 8


def test_release_follows_the_longest_chain_of_parents() -> None:
    made = trace(task(0, 4), task(1, 9), task(0, 2, parents=[0, 1]), task(20, 1, parents=[2]))

    bound = lower_bound(made, made.arrival_s, fleet(agent(2), agent(1)))

    # Row 2 arrives with row 0 and stands before row 1.
    assert bound.release_s == [0, 5.5, 1, 20]
    assert bound.makespan_s == 20.5


def _tiny(rng: random.Random) -> tuple[Trace, Fleet]:
    """Five tasks of two categories, some with parents, for two or three unlike slots."""
    priorities = list(Priority)
    tasks = [
        task(
            rng.choice([0, rng.uniform(0, 4)]),
            rng.uniform(0.2, 5),
            rng.choice("ab"),
            priority=rng.choice(priorities),
            parents=[p for p in range(i) if rng.random() < 0.15],
        )
        for i in range(5)
    ]
    speeds = [0.5, 1, 1.5, 3]
    slots = rng.choice([(1, 1), (2, 1)])
    agents = [agent(rng.choice(speeds), rng.choice(speeds), slots=s) for s in slots]
    made = trace(*tasks)
    if len(made.categories) == 1:
        agents = [replace(a, speeds=a.speeds[:1]) for a in agents]
    return made, fleet(*agents)


def _optimum(made: Trace, of: Fleet, release_s: list[float]) -> tuple[float, float, float]:
    """The least mean flow, weighted flow and makespan of all schedules: every order on every agent."""
    machines = [place for place, a in enumerate(of.agents) for _ in range(a.slots)]
    count = len(made)
    best = [float("inf")] * 3
    orders = [
        order
        for order in permutations(range(count))
        if all(order.index(p) < order.index(i) for i in range(count) for p in made.parents[i])
    ]
    for who in product(range(len(machines)), repeat=count):
        took = [made.size_s[i] / of.agents[machines[who[i]]].speeds[made.category[i]]
                for i in range(count)]  # fmt: skip
        for order in orders:
            free, end = [0.0] * len(machines), [0.0] * count
            for i in order:
                ready = max([made.arrival_s[i], *(end[p] for p in made.parents[i])])
                end[i] = free[who[i]] = max(free[who[i]], ready) + took[i]
            flow = [e - r for e, r in zip(end, release_s, strict=True)]
            weighted = sum(w * f for w, f in zip(made.weight, flow, strict=True))
            values = (sum(flow) / count, weighted / sum(made.weight), max(end) - made.arrival_s[0])
            best = [min(b, v) for b, v in zip(best, values, strict=True)]
    return best[0], best[1], best[2]


def test_bound_is_never_above_the_best_of_all_schedules() -> None:
    rng = random.Random(7)
    ratios = []
    for _ in range(12):
        made, of = _tiny(rng)
        bound = lower_bound(made, made.arrival_s, of)
        flow, weighted, makespan = _optimum(made, of, bound.release_s)

        assert bound.mean_flow_s <= flow + 1e-9
        assert bound.weighted_flow_s <= weighted + 1e-9
        assert bound.makespan_s <= makespan + 1e-9
        ratios.append((flow / bound.mean_flow_s, weighted / bound.weighted_flow_s))
        for policy in POLICIES:
            run = run_pure(policy, made, made.arrival_s, of)
            assert figures(made, made.arrival_s, run, bound).flow_over_bound >= 1 - 1e-9
    # Nor is it far below: a bound of nothing would be one, too.
    assert max(fsum(r) / len(ratios) for r in zip(*ratios, strict=True)) < 1.3


def test_figures_by_hand() -> None:
    made = trace(
        task(1, 4, priority=Priority.HIGH),
        task(2, 1, priority=Priority.LOW),
        task(3, 2, priority=Priority.CRITICAL),
    )
    run = Run(ready_s=[1, 2, 3], start_s=[1, 5, 6], end_s=[5, 6, 8], agent=[0, 0, 0])
    bound = lower_bound(made, made.arrival_s, fleet(agent(1)))
    # The second interrupts the first, the third does not let it go on before 5 s.
    assert bound.mean_flow_s == pytest.approx((7 + 1 + 2) / 3)

    of = figures(made, made.arrival_s, run, bound)

    assert (of.mean_wait_s, of.p50_wait_s, of.max_wait_s) == (2, 3, 3)
    assert (of.p50_flow_s, of.max_flow_s) == (4, 5)
    assert of.mean_flow_s == pytest.approx(13 / 3)
    assert of.p95_flow_s == pytest.approx(4.9)
    assert of.weighted_flow_s == pytest.approx((4 * 4 + 1 * 4 + 8 * 5) / 13)
    assert of.high_wait_s == 1.5
    assert of.makespan_s == 7
    assert of.makespan_over_bound == 1
    assert of.flow_over_bound == pytest.approx(13 / 10)


def test_nothing_urgent_has_no_urgent_wait() -> None:
    made = trace(task(0, 1))
    of = fleet(agent(1))
    run = run_pure("fifo_pull", made, made.arrival_s, of)

    assert (
        figures(made, made.arrival_s, run, lower_bound(made, made.arrival_s, of)).high_wait_s
        is None
    )


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 2.5), (1, 9), (0.9, 7.2), (0.25, 1.75)])
def test_percentile_lies_on_the_line_between_two_values(share: float, value: float) -> None:
    assert percentile([1, 2, 3, 9], share) == pytest.approx(value)


def test_categories_at_which_all_are_equally_fast_count_as_one() -> None:
    rng = random.Random(3)
    sizes = [(rng.uniform(0, 30), rng.uniform(1, 9), rng.choice("ab")) for _ in range(60)]
    plain = trace(*(task(at, size, category) for at, size, category in sizes))
    names = [f"{category}{rng.randrange(9)}" for *_, category in sizes]
    split = trace(*(task(at, size, name) for (at, size, _), name in zip(sizes, names, strict=True)))
    two = [agent(1.0, 2.0, slots=2), agent(3.0, 1.5)]
    by_name = [
        replace(each, speeds=tuple(each.speeds["ab".index(name[0])] for name in split.categories))
        for each in two
    ]

    one, other = (
        lower_bound(made, made.arrival_s, fleet(*agents))
        for made, agents in ((plain, two), (split, by_name))
    )

    assert len(split.categories) > 12
    assert other.mean_flow_s == pytest.approx(one.mean_flow_s, rel=1e-9)
    assert other.weighted_flow_s == pytest.approx(one.weighted_flow_s, rel=1e-9)
    assert other.makespan_s == pytest.approx(one.makespan_s, rel=1e-9)


@pytest.mark.parametrize("slots", [8, 48, 480])
def test_bound_of_very_many_categories_is_soon_there_and_holds(slots: int) -> None:
    rng = random.Random(slots)
    made = trace(*(task(n / 10, rng.expovariate(1) + 0.1, f"c{n % 300}") for n in range(600)))
    of = make_fleet(made, slots, seed=2)

    began = time.process_time()
    bound = lower_bound(made, made.arrival_s, of)

    assert time.process_time() - began < 4
    for policy in ("match_clair", "sept_clair", "eta_clair"):
        run = run_pure(policy, made, made.arrival_s, of)
        assert figures(made, made.arrival_s, run, bound).flow_over_bound >= 1
