from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from balancer.core.errors import InvalidInput
from balancer.core.model import Priority
from balancer.core.names import is_name
from balancer.simulate.fleet import LEAST_SLOTS, make_fleet
from balancer.simulate.load import blind_capacity, flattened, scaled_arrivals
from balancer.simulate.trace import LEAST_SIZE_S, Trace, load_trace, make_trace
from balancer.trace import COLUMNS, SHIPPED
from tests.support.simulated import agent, fleet, task, trace


def test_trace_keeps_the_order_of_the_file_and_knows_parents_by_place() -> None:
    made = trace(
        task(0, 1, parents=(2, 1)),
        task(5, 1, "fix", priority=Priority.CRITICAL),
        task(0, 0),
    )

    assert [row.id for row in made.rows] == ["t0", "t2", "t1"]
    assert made.parents == ((1, 2), (), ())
    assert made.children == ((), (0,), (0,))
    assert made.categories == ("feat", "fix")
    assert made.category == (0, 0, 1)
    assert list(made.weight) == [2, 2, 8]
    assert list(made.size_s) == [1, LEAST_SIZE_S, 1]
    assert len(made) == 3
    assert make_trace(made.rows[::-1]) == made
    assert [made.has_parents, trace(task(0, 1)).has_parents] == [True, False]


def test_trace_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")

    with pytest.raises(InvalidInput, match=r"none.csv: the trace has no rows"):
        load_trace(path)


def test_trace_is_named_after_its_file() -> None:
    loaded = load_trace(SHIPPED, limit=50)

    assert loaded.name == "copilot_agent_2025"
    assert len(loaded) == 50


def test_fleet_follows_the_work() -> None:
    made = make_fleet(load_trace(SHIPPED))

    slots = {
        role: sum(made.agents[place].slots for place in places)
        for role, places in made.by_role.items()
    }
    # 48 by their work, except that small roles have four.
    assert slots == {"developer": 41, "devops": 4, "tester": LEAST_SLOTS, "writer": LEAST_SLOTS}
    for role, places in made.by_role.items():
        assert {made.agents[place].role for place in places} == {role}
    assert len({a.id for a in made.agents}) == len(made.agents)
    assert all(is_name(a.id) for a in made.agents)
    assert {a.base for a in made.agents} == {1.0, 0.8, 1.25, 0.65, 1.5}
    assert all(0.55 <= a.health <= 1 for a in made.agents)


def test_fleet_is_faster_at_its_specialities_alone() -> None:
    loaded = load_trace(SHIPPED)

    for a in make_fleet(loaded, gain=3).agents:
        assert 1 <= len(a.specializations) <= 2
        for category, speed in zip(loaded.categories, a.speeds, strict=True):
            assert speed == a.base * (3 if category in a.specializations else 1)


def test_equal_agents_are_equal_in_all_but_their_slots() -> None:
    for a in make_fleet(load_trace(SHIPPED), equal=True).agents:
        assert set(a.speeds) == {1.0}
        assert a.health == 1.0


def test_fleet_is_the_same_for_the_same_seed_only() -> None:
    loaded = load_trace(SHIPPED)

    assert make_fleet(loaded, seed=3) == make_fleet(loaded, seed=3) != make_fleet(loaded, seed=4)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda t: make_fleet(t, slots=0), "slots is 0, must be: 1 or more"),
        (lambda t: make_fleet(t, gain=0), "gain is 0, must be: a finite number above 0"),
        (lambda t: make_fleet(t, gain=float("nan")), "gain is nan"),
        (lambda t: scaled_arrivals(t, make_fleet(t), 0), "load is 0, must be: above 0"),
        (lambda t: scaled_arrivals(t, make_fleet(t), 1), "all tasks arrive at once"),
    ],
)
def test_numbers_that_make_no_sense_are_named(make: Callable[[Trace], object], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        make(trace(task(0, 1), task(0, 2)))


def test_blind_capacity_is_the_harmonic_mean_of_what_a_slot_does() -> None:
    # Three quarters of the work are of category a. The first agent: 1 / (.75 / 3 + .25 / 1) = 2.
    made = trace(task(0, 3, "a"), task(1, 1, "b"))

    capacity = blind_capacity(made, fleet(agent(3, 1, slots=2), agent(1, 1)))

    assert capacity == {"r": pytest.approx(2 * 2 + 1)}


def test_arrivals_are_stretched_until_the_busiest_role_has_the_load() -> None:
    made = trace(task(2, 6, role="busy"), task(3, 2), task(4, 2, role="busy"))

    arrivals = scaled_arrivals(made, fleet(agent(1, role="busy", slots=2), agent(1)), load=0.5)

    # 8 s of work for two slots at half load: in 8 s.
    assert arrivals == [pytest.approx(8), pytest.approx(12), pytest.approx(16)]


def test_flattened_brings_equal_work_in_each_block_and_keeps_the_order() -> None:
    rng = random.Random(1)
    made = trace(*(task(1_000 * rng.random() ** 3, rng.uniform(1, 5)) for _ in range(2_000)))

    flat = flattened(made, blocks=10)

    assert all(a <= b for a, b in pairwise(flat.arrival_s))
    assert flat.rows == made.rows
    assert flat.arrival_s[0] == 0
    span = made.arrival_s[-1] - made.arrival_s[0]
    assert flat.arrival_s[-1] == pytest.approx(span)
    # Where an old block ends, as large a share of the work is done as of the time.
    for edge in range(1, 10):
        until = made.arrival_s[0] + span * edge / 10
        share = sum(s for a, s in zip(made.arrival_s, made.size_s, strict=True) if a <= until)
        end = max(f for a, f in zip(made.arrival_s, flat.arrival_s, strict=True) if a <= until)
        assert share / sum(made.size_s) == pytest.approx(end / span, abs=0.005)


def test_flattened_by_hand() -> None:
    made = trace(task(0, 1), task(1, 1), task(2, 1), task(10, 3))

    # By 5 s half of the work is there: what came between 0 and 5 s is spread over 0 to 5 s, hardly moved.
    assert flattened(made, blocks=2).arrival_s == pytest.approx((0, 1.375, 2.75, 10))


def test_trace_without_a_span_stays() -> None:
    made = trace(task(1, 1), task(1, 1))

    assert flattened(made, blocks=4) is made
