from __future__ import annotations

import random
from itertools import pairwise

import pytest

from balancer.core.errors import InvalidInput
from balancer.core.model import Priority
from balancer.simulate.bound import lower_bound
from balancer.simulate.engine import Run
from balancer.simulate.figures import figures
from balancer.simulate.fleet import Fleet, make_fleet
from balancer.simulate.load import scaled_arrivals
from balancer.simulate.pure import CLAIRVOYANT, POLICIES, run_pure
from balancer.simulate.trace import Trace, load_trace
from balancer.trace import SHIPPED
from tests.support.simulated import agent, fleet, task, trace

HIGH, LOW = Priority.HIGH, Priority.LOW


def starts(policy: str, made: Trace, of: Fleet) -> list[tuple[int, float]]:
    """Agent and start of each task."""
    run = run_pure(policy, made, made.arrival_s, of)
    return list(zip(run.agent, run.start_s, strict=True))


def check_laws(made: Trace, arrivals: list[float], of: Fleet, run: Run) -> None:
    """Each task runs once, whole, after it was ready, on an agent of its role; no slot does two at once."""
    held: dict[int, list[tuple[float, int]]] = {}
    for i in range(len(made)):
        who = of.agents[run.agent[i]]
        assert who.role == made.role[i]
        parents_s = max((run.end_s[parent] for parent in made.parents[i]), default=0.0)
        assert run.ready_s[i] == max(arrivals[i], parents_s)
        assert run.start_s[i] >= run.ready_s[i]
        took_s = made.size_s[i] / who.speeds[made.category[i]]
        assert run.end_s[i] == pytest.approx(run.start_s[i] + took_s, rel=1e-12)
        # Ends sort before starts at the same moment: a slot is handed on at once.
        held.setdefault(run.agent[i], []).extend([(run.start_s[i], 1), (run.end_s[i], -1)])
    for place, changes in held.items():
        running = 0
        for _, change in sorted(changes):
            running += change
            assert running <= of.agents[place].slots


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("equal", [False, True], ids=["unlike", "equal"])
def test_laws_hold_on_a_real_trace(policy: str, equal: bool) -> None:
    loaded = load_trace(SHIPPED, limit=800)
    made = make_fleet(loaded, equal=equal, seed=2)
    arrivals = scaled_arrivals(loaded, made, 0.95)

    run = run_pure(policy, loaded, arrivals, made, seed=2)

    check_laws(loaded, arrivals, made, run)
    assert run == run_pure(policy, loaded, arrivals, made, seed=2)
    of = figures(loaded, arrivals, run, lower_bound(loaded, arrivals, made))
    assert of.flow_over_bound >= 1
    assert of.weighted_flow_over_bound >= 1
    assert of.makespan_over_bound >= 1


@pytest.mark.parametrize("policy", sorted(POLICIES.keys() - {"guard_clair", "eta_clair"}))
def test_late_binding_leaves_no_slot_idle_while_work_waits(policy: str) -> None:
    """Except those that wait for a better agent on purpose, and early binding, where an agent has its own queue."""
    rng = random.Random(5)
    made = trace(*(task(rng.uniform(0, 30), rng.uniform(1, 9)) for _ in range(60)))
    one = fleet(agent(1, slots=3))

    run = run_pure(policy, made, made.arrival_s, one)

    check_laws(made, list(made.arrival_s), one, run)
    moments = sorted({*run.ready_s, *run.start_s, *run.end_s})
    for begin, end in pairwise(moments):
        middle = (begin + end) / 2
        running = sum(s < middle < e for s, e in zip(run.start_s, run.end_s, strict=True))
        waiting = sum(r < middle < s for r, s in zip(run.ready_s, run.start_s, strict=True))
        assert running == 3 or not waiting


def test_parents_are_waited_for_and_arrival_too() -> None:
    made = trace(task(0, 4), task(1, 2, parents=[0]), task(9, 1, parents=[1]))

    run = run_pure("fifo_pull", made, made.arrival_s, fleet(agent(2)))

    assert run.ready_s == [0, 2, 9]
    assert run.start_s == [0, 2, 9]
    assert run.end_s == [2, 3, 9.5]


def test_fifo_pull_is_first_come_first_served() -> None:
    made = trace(task(0, 9), task(1, 5), task(2, 1), task(3, 1, priority=HIGH))

    assert starts("fifo_pull", made, fleet(agent(1))) == [(0, 0), (0, 9), (0, 14), (0, 15)]


def test_fifo_best_takes_the_fastest_free_agent() -> None:
    made = trace(task(0, 6), task(1, 6), task(2.5, 6), task(3, 6))

    of = fleet(agent(1), agent(3), agent(2))

    assert starts("fifo_best", made, of) == [(1, 0), (2, 1), (1, 2.5), (0, 3)]


def test_prio_fifo_takes_the_most_urgent_first() -> None:
    made = trace(task(0, 9), task(1, 1, priority=LOW), task(2, 1), task(3, 1, priority=HIGH))

    assert [start for _, start in starts("prio_fifo", made, fleet(agent(1)))] == [0, 11, 10, 9]


def test_shortest_first_with_and_without_weights() -> None:
    made = trace(task(0, 9), task(1, 5, priority=HIGH), task(2, 4, priority=LOW), task(3, 3))
    one = fleet(agent(1))

    assert [start for _, start in starts("sept_clair", made, one)] == [0, 16, 12, 9]
    assert [start for _, start in starts("wsept_clair", made, one)] == [0, 9, 17, 14]


def test_seed_weighs_health_speciality_and_load() -> None:
    made = trace(task(0, 9), task(1, 9), task(2, 9), task(3, 9))
    of = fleet(
        agent(1, health=0.7, specializations=["feat"], slots=2),
        agent(1, health=0.95, slots=2),
    )

    # .7 + .3 + .2 against .95 + .2; .7 + .3 + .1 against the same; .7 + .3 + .1 against .95 + .1; the one with room.
    assert [who for who, _ in starts("seed", made, of)] == [0, 1, 0, 1]


def test_round_robin_keeps_its_turn_whoever_is_busy() -> None:
    made = trace(*(task(i, 10) for i in range(4)))

    assert starts("early_rr", made, fleet(agent(1), agent(10), agent(5))) == [
        (0, 0),
        (1, 1),
        (2, 2),
        (0, 10),
    ]


def test_jsq_joins_the_shortest_queue_by_slot() -> None:
    made = trace(*(task(i / 10, 100) for i in range(6)))

    who = [who for who, _ in starts("jsq", made, fleet(agent(1, slots=2), agent(1)))]

    assert who.count(0) == 4
    assert who[:3].count(1) == 1


def test_jiq_finds_the_idle_agent() -> None:
    made = trace(task(0, 100), task(1, 1), task(3, 1), task(5, 1))

    who = [who for who, _ in starts("jiq", made, fleet(agent(1), agent(1)))]

    assert set(who[1:]) == {1 - who[0]}


def test_po2_never_takes_the_more_loaded_of_its_two() -> None:
    made = trace(*(task(i / 1000, 1_000) for i in range(300)))

    who = [who for who, _ in starts("po2", made, fleet(*(agent(1) for _ in range(3))))]
    drawn = [who for who, _ in starts("early_random", made, fleet(*(agent(1) for _ in range(3))))]

    # Two choices level the queues, one does not.
    spread = [
        max(w.count(a) for a in range(3)) - min(w.count(a) for a in range(3)) for w in (who, drawn)
    ]
    assert spread[0] <= 3 < spread[1]


def test_lwl_counts_work_not_tasks() -> None:
    made = trace(task(0, 10), task(1, 1), task(1.5, 1), task(1.6, 1))

    assert [who for who, _ in starts("lwl_clair", made, fleet(agent(1), agent(0.9)))] == [
        0,
        1,
        1,
        1,
    ]


def test_lwl_forgets_work_that_is_done() -> None:
    made = trace(task(0, 100), task(200, 5), task(201, 10), task(202, 1))

    assert [who for who, _ in starts("lwl_clair", made, fleet(agent(1), agent(1)))] == [0, 0, 1, 0]


def test_match_lets_the_specialist_take_its_own() -> None:
    made = trace(task(0, 4, "a"), task(1, 3, "a"), task(1.1, 4, "b"), task(1.2, 4, "a"))
    of = fleet(agent(1, 2), agent(3, 0.1))

    # At 4/3 s the second agent is free. It is slow at b, which came first and is as long: 4 / (.1 / 2) against 4 / 1.
    assert starts("match_clair", made, of) == [(1, 0), (0, 1), (1, 8 / 3), (1, 4 / 3)]
    assert starts("wsept_clair", made, of) == [(1, 0), (0, 1), (1, 4 / 3), (0, 4)]


def test_guard_lets_a_slow_agent_wait() -> None:
    made = trace(task(0, 4), task(0.5, 4), task(1, 4))
    of = fleet(agent(4), agent(0.1))

    run = run_pure("guard_clair", made, made.arrival_s, of)

    # The slow one would take 40 s: all three go to the fast one.
    assert run.agent == [0, 0, 0]
    assert run.start_s == [0, 1, 2]
    assert run_pure("wsept_clair", made, made.arrival_s, of).agent == [0, 1, 0]


@pytest.mark.parametrize(("speed", "who"), [(1, 1), (0.9, 1), (0.88, 0), (0.5, 0)])
def test_guard_refuses_half_as_slow_again_as_waiting(speed: float, who: int) -> None:
    made = trace(task(0, 4), task(0.5, 4))

    # Waiting: 1 s of service, twice, then 1 s on the fast one. Half as long again is 4.5 s; 4 / .88 is more.
    assert starts("guard_clair", made, fleet(agent(4), agent(speed)))[1][0] == who


def test_eta_reserves_the_faster_agent() -> None:
    made = trace(task(0, 4), task(0.5, 4), task(0.6, 8))
    of = fleet(agent(4), agent(0.9))

    # The second would end at 4.9 s on the slow one, at 2 s on the fast one; the third after it at 4 s.
    assert starts("eta_clair", made, of) == [(0, 0), (0, 1), (0, 2)]


def test_clairvoyants_beat_the_plain_queue_on_a_real_trace() -> None:
    loaded = load_trace(SHIPPED)
    made = make_fleet(loaded)
    arrivals = scaled_arrivals(loaded, made, 0.95)
    bound = lower_bound(loaded, arrivals, made)

    flow = {
        policy: figures(loaded, arrivals, run_pure(policy, loaded, arrivals, made), bound)
        for policy in ("fifo_pull", "early_random", *CLAIRVOYANT)
    }

    for policy in CLAIRVOYANT:
        assert flow[policy].mean_flow_s < flow["fifo_pull"].mean_flow_s, policy
    assert flow["early_random"].mean_flow_s > 3 * flow["fifo_pull"].mean_flow_s


def test_unknown_policy_is_named_with_those_there_are() -> None:
    made = trace(task(0, 1))

    with pytest.raises(InvalidInput, match=r"policy is 'best', must be: one of fifo_pull, .*guard"):
        run_pure("best", made, made.arrival_s, fleet(agent(1)))
